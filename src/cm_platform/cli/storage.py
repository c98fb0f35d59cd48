"""`cm-platform storage`: one tenant's objects, as the application sees them."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal, TypeAlias

import typer

from cm_platform.errors import IntegrityError, InvalidArgumentError

from .exits import exit_code
from .invocation import invocation_of
from .output import new_table, size_text
from .transfer import Bar

if TYPE_CHECKING:
    from cm_platform.storage.backend import ListedObject, ObjectInfo
    from cm_platform.storage.sync import Storage

app = typer.Typer(help="List, read, write and remove the objects of one tenant.")

Tenant: TypeAlias = Annotated[
    str,
    typer.Option(
        "--tenant", "-t", envvar="CM_PLATFORM_TENANT", help="Whose objects: a UUID or a slug."
    ),
]
Site: TypeAlias = Annotated[
    str | None, typer.Option("--site", help="Where the layout of keys has a {site}.")
]
Key: TypeAlias = Annotated[str, typer.Argument(metavar="KEY", help="The object's key.")]

_PAGE: Final = 1000
_STREAM: Final = "-"

# Those that Python 3.11 does not know yet.
_NEWER_TYPES: Final = {
    ".avif": "image/avif",
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


@app.command("ls")
def list_objects(
    context: typer.Context,
    tenant: Tenant,
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="What keys start with.")] = "",
    site: Site = None,
    delimiter: Annotated[
        bool, typer.Option("--delimiter", "-d", help="Gather what is below a '/' into one line.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="Lines at most; 0 for all.")
    ] = _PAGE,
    long: Annotated[bool, typer.Option("--long", "-l", help="Size and time, too.")] = False,
) -> None:
    """List keys, in order of their UTF-8 bytes."""
    call = invocation_of(context)
    objects: list[dict[str, Any]] = []
    prefixes: list[str] = []
    complete = True
    with call.storage(tenant, site) as storage:
        for number, found in enumerate(_entries(storage, prefix, delimiter, limit)):
            if limit and number == limit:
                complete = False
            elif call.out.as_json and isinstance(found, str):
                prefixes.append(found)
            elif call.out.as_json and not isinstance(found, str):
                objects.append(_listed(found))
            else:
                call.out.line(_line(found, long))
    if call.out.as_json:
        call.out.print_json({"objects": objects, "prefixes": prefixes, "complete": complete})
    elif not complete:
        call.out.note(f"there are more than {limit}: --limit 0 lists all")


@app.command("head")
def head(context: typer.Context, key: Key, tenant: Tenant, site: Site = None) -> None:
    """Describe an object."""
    call = invocation_of(context)
    with call.storage(tenant, site) as storage:
        _describe(context, storage.head(key))


@app.command("cat")
def cat(context: typer.Context, key: Key, tenant: Tenant, site: Site = None) -> None:
    """Write an object's bytes to stdout."""
    call = invocation_of(context)
    if call.out.as_json:
        raise InvalidArgumentError("cat writes bytes, not JSON: use `storage head` or `get`")
    with call.storage(tenant, site) as storage:
        _to_stdout(storage, key)


@app.command("get")
def get(
    context: typer.Context,
    key: Key,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file, a folder, or '-'.")],
    tenant: Tenant,
    site: Site = None,
) -> None:
    """Download an object to a file, which appears when it is whole and its SHA-256 is right."""
    call = invocation_of(context)
    if str(file) == _STREAM:
        cat(context, key, tenant, site)
        return
    target = file / Path(key).name if file.is_dir() else file
    if not target.parent.is_dir():
        raise InvalidArgumentError(f"there is no folder {target.parent}: make it first")
    partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
    try:
        with (
            call.storage(tenant, site) as storage,
            Bar(call.out.stderr, key) as bar,
            storage.get(key, progress=bar) as stored,
            partial.open("xb") as sink,
        ):
            digest = _copied(stored.chunks(), sink)
            info = stored.info
        if info.sha256 not in (None, digest):
            raise IntegrityError("the downloaded bytes do not have the object's SHA-256")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    if call.out.as_json:
        call.out.print_json({"file": str(target), **_info(info), "sha256": digest})
    else:
        checked = "SHA-256 verified" if info.sha256 else "no SHA-256 was recorded with it"
        call.out.line(f"{key} -> {target}  {size_text(info.size)}, {checked}")


@app.command("put")
def put(
    context: typer.Context,
    key: Key,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file, or '-' for stdin.")],
    tenant: Tenant,
    site: Site = None,
    content_type: Annotated[
        str | None, typer.Option("--content-type", help="Left out: from the key's ending.")
    ] = None,
    cache_control: Annotated[str | None, typer.Option("--cache-control")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", "-m", metavar="NAME=VALUE")
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Only where there is nothing: else already_exists.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read it back and compare.")] = False,
) -> None:
    """Upload a file or stdin. Large ones go in parts; memory stays bounded."""
    call = invocation_of(context)
    body = sys.stdin.buffer if str(file) == _STREAM else _readable(file)
    with call.storage(tenant, site) as storage, Bar(call.out.stderr, key) as bar:
        info = storage.put(
            key,
            body,
            content_type=content_type or guessed_type(key),
            cache_control=cache_control,
            metadata=_pairs(metadata or []),
            if_none_match="*" if create else None,
            verify=verify,
            progress=bar,
        )
    if call.out.as_json:
        call.out.print_json(_info(info))
    else:
        call.out.line(f"{file} -> {key}  {size_text(info.size)}, SHA-256 {info.sha256}")


@app.command("rm")
def remove(
    context: typer.Context,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="What to remove.")],
    tenant: Tenant,
    site: Site = None,
) -> None:
    """Remove objects, each for itself. No error where there is none."""
    call = invocation_of(context)
    with call.storage(tenant, site) as storage:
        outcomes = storage.delete_many(keys)
    failures = {key: error for key, error in outcomes.items() if error is not None}
    if call.out.as_json:
        call.out.print_json(
            {
                "removed": [key for key in outcomes if key not in failures],
                "failed": {key: error.to_dict() for key, error in failures.items()},
            }
        )
    else:
        for key, error in outcomes.items():
            call.out.line(f"removed  {key}" if error is None else f"failed   {key}  {error}")
    if failures:
        raise typer.Exit(exit_code(next(iter(failures.values()))))


@app.command("presign")
def presign(
    context: typer.Context,
    key: Key,
    tenant: Tenant,
    site: Site = None,
    method: Annotated[str, typer.Option("--method", "-X", help="GET or PUT.")] = "GET",
    expires_in: Annotated[
        int, typer.Option("--expires-in", help="Seconds, at most 604800 (7 days).")
    ] = 3600,
    content_type: Annotated[str | None, typer.Option("--content-type")] = None,
) -> None:
    """Print a URL by which anybody may read or write one object until it expires."""
    call = invocation_of(context)
    with call.storage(tenant, site) as storage:
        signed = storage.presign(
            key, _method(method), expires_in=expires_in, content_type=content_type
        )
    if call.out.as_json:
        call.out.print_json(
            {
                "method": signed.method,
                "url": signed.url,
                "headers": dict(signed.headers),
                "expires_at": _time(signed.expires_at),
            }
        )
        return
    call.out.line(signed.url)
    call.out.note(f"{signed.method}, until {_time(signed.expires_at)}; a secret till then")
    for name, value in signed.headers.items():
        call.out.note(f"send it with the header {name}: {value}")


def guessed_type(name: str) -> str | None:
    """The content type that a name's ending stands for; the same on every machine."""
    # `mimetypes.guess_type` would ask the machine's own files too.
    known = mimetypes.MimeTypes()
    for ending, kind in _NEWER_TYPES.items():
        known.add_type(kind, ending)
    found, encoding = known.guess_type(name)
    return found if encoding is None else None


def _entries(
    storage: Storage, prefix: str, delimiter: bool, limit: int
) -> Iterator[ListedObject | str]:
    """Objects and prefixes; one more than the limit, if there are more."""
    cursor: str | None = None
    wanted = min(limit + 1, _PAGE) if limit else _PAGE
    left = limit + 1 if limit else None
    while True:
        page = storage.list_page(
            prefix, delimiter="/" if delimiter else None, limit=wanted, cursor=cursor
        )
        entries: list[ListedObject | str] = [*page.prefixes, *page.objects]
        entries.sort(key=lambda entry: (entry if isinstance(entry, str) else entry.key).encode())
        for entry in entries:
            if left == 0:
                return
            left = None if left is None else left - 1
            yield entry
        if (cursor := page.cursor) is None or left == 0:
            return


def _line(found: ListedObject | str, long: bool) -> str:
    if isinstance(found, str):
        return f"{'':>12}  {'':20}  {found}" if long else found
    if not long:
        return found.key
    return f"{found.size:>12}  {_time(found.last_modified) or '':20}  {found.key}"


def _to_stdout(storage: Storage, key: str) -> None:
    with storage.get(key) as stored:
        _copied(stored.chunks(), sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _copied(chunks: Iterator[bytes], sink: BinaryIO) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        sink.write(chunk)
    return digest.hexdigest()


def _describe(context: typer.Context, info: ObjectInfo) -> None:
    call = invocation_of(context)
    described = _info(info)
    if call.out.as_json:
        call.out.print_json(described)
        return
    table = new_table("property", "value")
    for name, value in described.items():
        if name != "metadata" and value is not None:
            table.add_row(name, str(value))
    for name, value in info.metadata.items():
        table.add_row(f"metadata {name}", value)
    call.out.table(table)


def _info(info: ObjectInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "size": info.size,
        "etag": info.etag,
        "last_modified": _time(info.last_modified),
        "content_type": info.content_type,
        "cache_control": info.cache_control,
        "content_disposition": info.content_disposition,
        "content_encoding": info.content_encoding,
        "content_language": info.content_language,
        "sha256": info.sha256,
        "metadata": dict(info.metadata),
    }


def _listed(found: ListedObject) -> dict[str, Any]:
    return {
        "key": found.key,
        "size": found.size,
        "etag": found.etag,
        "last_modified": _time(found.last_modified),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _readable(file: Path) -> Path:
    """The file; an error names the argument, and the order, which is easily mistaken."""
    if file.exists() and not file.is_dir():
        return file
    wrong = "is a directory" if file.is_dir() else "does not exist"
    raise InvalidArgumentError(f"FILE {str(file)!r} {wrong}; the order is: storage put KEY FILE")


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgumentError("metadata is given as NAME=VALUE")
        pairs[name] = value
    return pairs


def _method(text: str) -> Literal["GET", "PUT"]:
    method = text.upper()
    if method == "GET":
        return "GET"
    if method == "PUT":
        return "PUT"
    raise InvalidArgumentError("the method is GET or PUT")


__all__ = ["app", "guessed_type"]
