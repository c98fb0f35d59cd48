"""What can be uploaded, brought into one form: a size if it is known, and pieces of a given size.

A piece is held in memory until it is stored, so that it can be sent again: a body that cannot be
read twice is still never sent twice from its source.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from io import BytesIO, UnsupportedOperation
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias, cast

from cm_platform.errors import IntegrityError, InternalError, InvalidArgumentError
from cm_platform.runtime import Runtime, each

from .lending import Lent

Body: TypeAlias = "bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | Iterable[bytes]"
AsyncBody: TypeAlias = "Body | AsyncIterable[bytes]"

_IN_MEMORY: Final = (bytes, bytearray, memoryview)
_BLOCK: Final = 1024 * 1024
_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0)


class Source:
    """A body under way.

    size: bytes, or None when only its end will tell. sha256: hex digest, or None until the end.
    """

    def __init__(self, size: int | None, sha256: str | None) -> None:
        self.size = size
        self.sha256 = sha256

    def pieces(self, size: int) -> AsyncIterator[bytes | memoryview]:
        """The body in pieces of exactly `size` bytes, the last one shorter. An empty body has
        one empty piece."""
        raise NotImplementedError

    def finish(self) -> str:
        """The digest of the whole body, at its end; `integrity` when it is not what was
        announced."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of what was opened for this body."""


async def open_source(body: AsyncBody, runtime: Runtime) -> Source:
    """The source of a body, which the caller closes; `invalid_argument` names what it may be.

    A file is read once for its digest before it is sent. From a seekable file object, what
    follows its position is the body. A path must name a regular file.
    """
    if isinstance(body, _IN_MEMORY):
        held = cast("bytes | bytearray | memoryview", body)
        if len(held) <= _BLOCK:
            return MemorySource(held)
        # Its digest takes a while, in which an event loop has other things to do.
        return await runtime.call(MemorySource, held)
    if isinstance(body, str):
        raise InvalidArgumentError(
            "a body is bytes, a path (pathlib.Path), a binary file or an iterable of bytes; text "
            "must be encoded first, and a file name given as Path"
        )
    if isinstance(body, os.PathLike):
        return await _opened(FileSource(runtime), Path(body), runtime)
    if hasattr(body, "read"):
        opened = cast("BinaryIO", body)
        if await runtime.call(_is_seekable, opened):
            return await _opened(FileSource(runtime), opened, runtime)
        return IterableSource(_blocks(opened, runtime), runtime)
    if isinstance(body, Iterable | AsyncIterable):
        return IterableSource(cast("Iterable[bytes] | AsyncIterable[bytes]", body), runtime)
    raise InvalidArgumentError(
        "a body is bytes, a path (pathlib.Path), a binary file or an iterable of bytes, not "
        f"{type(body).__name__}"
    )


async def _opened(source: FileSource, file: Path | BinaryIO, runtime: Runtime) -> FileSource:
    try:
        await runtime.call(source.begin, file)
    except BaseException:
        await source.close()
        raise
    return source


class MemorySource(Source):
    """Bytes in memory: pieces are views, nothing is copied."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        # A bytearray could change under us between two attempts.
        frozen = data if isinstance(data, bytes) else bytes(data)
        super().__init__(len(frozen), hashlib.sha256(frozen).hexdigest())
        self.data = frozen

    async def pieces(self, size: int) -> AsyncIterator[bytes | memoryview]:
        """See `Source`."""
        view = memoryview(self.data)
        for start in range(0, max(len(view), 1), size):
            yield view[start : start + size]

    def finish(self) -> str:
        """The digest."""
        return self.sha256 or ""


class _HashedSource(Source):
    """A body whose digest is taken as it is handed out."""

    def __init__(self, size: int | None, sha256: str | None, runtime: Runtime) -> None:
        super().__init__(size, sha256)
        self._runtime = runtime
        self._digest = hashlib.sha256()
        self._handed: int = 0

    def finish(self) -> str:
        """See `Source`."""
        found = self._digest.hexdigest()
        if (self.size is not None and self._handed != self.size) or (
            self.sha256 is not None and found != self.sha256
        ):
            raise IntegrityError(
                "the body changed while it was uploaded; nothing was stored. Upload a file that "
                "nobody writes to",
                not_sent=True,
            )
        return found


class FileSource(_HashedSource):
    """A seekable file, read once for its digest and once to be sent.

    It exists before the file is opened, so that a caller who is cancelled meanwhile can close it.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(None, None, runtime)
        self._file: BinaryIO | None = None
        self._owned = False
        self._lent = Lent(self._let_go)

    def begin(self, file: Path | BinaryIO) -> None:
        """Open it, if it is given as a path, and read it for its digest. Blocks."""
        with self._lent.used():
            if isinstance(file, Path):
                try:
                    self._file, self._owned = _open(file), True
                    self._read_once(self._file)
                except OSError as error:
                    raise InvalidArgumentError(
                        f"the file cannot be read: {error.strerror or type(error).__name__}"
                    ) from error
            else:
                self._file = file
                self._read_once(file)

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        """See `Source`."""
        assert self.size is not None  # noqa: S101 - for the type checker: set by `begin`
        first = True
        while first or self._handed < self.size:
            # Allocated here: in a worker thread, each piece would come from that thread's share
            # of the heap, which keeps it. Filled there, and given out without a copy.
            held = BytesIO(bytes(min(size, self.size - self._handed)))
            held.truncate(await self._runtime.call(self._fill, held))
            piece = held.getvalue()
            if not piece and not first:
                return  # It became shorter, which `finish` sees.
            first = False
            yield piece
            del held, piece  # Not to be held while the next one is read.
        await self._runtime.call(self._fill, BytesIO(bytes(1)))  # It may have become longer.

    async def close(self) -> None:
        """Close the file if it was given as a path; when a thread reads it, that one does it."""
        self._lent.close()

    def _read_once(self, file: BinaryIO) -> None:
        start = file.tell()
        digest, size = hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            if not isinstance(block, bytes):
                raise InvalidArgumentError("the file must be opened in binary mode ('rb')")
            if self._lent.closed:
                raise InternalError("the caller was cancelled")
            digest.update(block)
            size += len(block)
        file.seek(start)
        self.size, self.sha256 = size, digest.hexdigest()

    def _fill(self, held: BytesIO) -> int:
        # A raw file may return less than it was asked for; parts must have equal sizes.
        done = 0
        with self._lent.used(), held.getbuffer() as target:
            while done < len(target):
                with target[done:] as rest:
                    count = _read_into(self._file, rest)
                if not count:
                    break
                done += count
            with target[:done] as filled:
                self._digest.update(filled)
        self._handed += done
        return done

    def _let_go(self) -> None:
        if self._owned and self._file is not None:
            self._file.close()


class IterableSource(_HashedSource):
    """Chunks of any size, regrouped. Its size is known at its end."""

    def __init__(self, chunks: Iterable[bytes] | AsyncIterable[bytes], runtime: Runtime) -> None:
        super().__init__(None, None, runtime)
        self._chunks = chunks
        self._iterator: Iterator[bytes] | AsyncIterator[bytes] | None = None

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        """See `Source`."""
        chunks = self._chunks
        self._iterator = aiter(chunks) if isinstance(chunks, AsyncIterable) else iter(chunks)
        held = BytesIO()
        first = True
        async for chunk in each(self._iterator):
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise InvalidArgumentError(
                    f"an iterable body must yield bytes, not {type(chunk).__name__}"
                )
            view = memoryview(bytes(chunk))
            while len(view):
                written = held.write(view[: size - held.tell()])
                view = view[written:]
                if held.tell() == size:
                    first = False
                    yield await self._hand(held.getvalue())
                    held = BytesIO()  # After the piece is taken, to hold it no longer than that.
        if held.tell() or first:
            yield await self._hand(held.getvalue())

    async def close(self) -> None:
        """End a generator that was left midway: what it holds is let go of now, not some day."""
        iterator, self._iterator = self._iterator, None
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()
        elif isinstance(iterator, Generator):
            iterator.close()

    async def _hand(self, piece: bytes) -> bytes:
        if len(piece) > _BLOCK:
            await self._runtime.call(self._digest.update, piece)
        else:
            self._digest.update(piece)
        self._handed += len(piece)
        return piece


def _open(path: Path) -> BinaryIO:
    # Without waiting: opening a pipe would, until somebody writes to it.
    file = open(path, "rb", 0, opener=lambda name, flags: os.open(name, flags | _AT_ONCE))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise InvalidArgumentError(
        "a path must name a regular file; open a pipe or a device yourself and give the file object"
    )


def _read_into(file: BinaryIO | None, target: memoryview) -> int:
    assert file is not None  # noqa: S101 - for the type checker: set by `begin`
    fill: Callable[[memoryview], int | None] | None = getattr(file, "readinto", None)
    if fill is not None:
        return fill(target) or 0
    block = file.read(min(len(target), _BLOCK))
    if block:
        target[: len(block)] = block
    return len(block)


async def _blocks(file: BinaryIO, runtime: Runtime) -> AsyncIterator[bytes]:
    while block := await runtime.call(file.read, _BLOCK):
        yield block


def _is_seekable(file: BinaryIO) -> bool:
    try:
        return file.seekable()
    except (AttributeError, UnsupportedOperation):
        return False


__all__ = [
    "AsyncBody",
    "Body",
    "FileSource",
    "IterableSource",
    "MemorySource",
    "Source",
    "open_source",
]
