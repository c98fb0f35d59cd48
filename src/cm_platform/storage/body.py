"""What can be uploaded, brought into one form: a size if it is known, and pieces of a given size.

A piece is held in memory until it is stored, so that it can be sent again: a body that cannot be
read twice is still never sent twice from its source.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from io import UnsupportedOperation
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias, cast

from cm_platform.errors import IntegrityError, InvalidArgumentError
from cm_platform.runtime import Runtime, each

Body: TypeAlias = "bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | Iterable[bytes]"
AsyncBody: TypeAlias = "Body | AsyncIterable[bytes]"

_BLOCK: Final = 1024 * 1024


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
    """The source of a body; `invalid_argument` names what a body may be.

    A file is read once for its digest before it is sent. From a seekable file object, what
    follows its position is the body.
    """
    if isinstance(body, bytes | bytearray | memoryview):
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
        file = await runtime.call(_open, Path(body))
        return await runtime.call(FileSource, file, runtime, True)
    if hasattr(body, "read"):
        opened = cast("BinaryIO", body)
        if await runtime.call(_is_seekable, opened):
            return await runtime.call(FileSource, opened, runtime, False)
        return IterableSource(_blocks(opened, runtime), runtime)
    if isinstance(body, Iterable | AsyncIterable):
        return IterableSource(each(cast("Iterable[bytes] | AsyncIterable[bytes]", body)), runtime)
    raise InvalidArgumentError(
        "a body is bytes, a path (pathlib.Path), a binary file or an iterable of bytes, not "
        f"{type(body).__name__}"
    )


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidArgumentError(f"the file cannot be read: {error.strerror}") from error


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
        self._handed = 0

    async def _hand(self, piece: bytes) -> bytes:
        if len(piece) > _BLOCK:
            await self._runtime.call(self._digest.update, piece)
        else:
            self._digest.update(piece)
        self._handed += len(piece)
        return piece

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
    """A seekable file, read once for its digest and once to be sent."""

    def __init__(self, file: BinaryIO, runtime: Runtime, owned: bool) -> None:
        start = file.tell()
        digest, size = hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            if not isinstance(block, bytes):
                raise InvalidArgumentError("the file must be opened in binary mode ('rb')")
            digest.update(block)
            size += len(block)
        file.seek(start)
        super().__init__(size, digest.hexdigest(), runtime)
        self._file = file
        self._owned = owned

    async def pieces(self, size: int) -> AsyncIterator[bytes | memoryview]:
        """See `Source`."""
        first = True
        while (piece := await self._runtime.call(_read, self._file, size)) or first:
            first = False
            yield await self._hand(piece)

    async def close(self) -> None:
        """Close the file if it was given as a path."""
        if self._owned:
            self._file.close()


class IterableSource(_HashedSource):
    """Chunks of any size, regrouped. Its size is known at its end."""

    def __init__(self, chunks: AsyncIterator[bytes], runtime: Runtime) -> None:
        super().__init__(None, None, runtime)
        self._chunks = chunks

    async def pieces(self, size: int) -> AsyncIterator[bytes | memoryview]:
        """See `Source`."""
        gathered: list[bytes | memoryview] = []
        missing = size
        first = True
        async for chunk in self._chunks:
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise InvalidArgumentError(
                    f"an iterable body must yield bytes, not {type(chunk).__name__}"
                )
            # Whoever yields a buffer may fill it again at the next step; bytes are not copied.
            view = memoryview(bytes(chunk))
            while len(view):
                gathered.append(view[:missing])
                view, missing = view[missing:], missing - len(gathered[-1])
                if not missing:
                    piece = b"".join(gathered)
                    gathered.clear()
                    missing, first = size, False
                    yield await self._hand(piece)
        if gathered or first:
            yield await self._hand(b"".join(gathered))


def _read(file: BinaryIO, size: int) -> bytes:
    # A raw file may return less than it was asked for; parts must have equal sizes.
    pieces: list[bytes] = []
    while size and (block := file.read(size)):
        pieces.append(block)
        size -= len(block)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


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
