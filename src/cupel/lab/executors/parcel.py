"""A run folder as a stream of chunks, and back, for machines that share no file system.

Knows what belongs to a run and that its result arrives last. Refuses to hold a folder in memory,
to ship one without bound, and to put in place what did not arrive whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cupel.errors import InfrastructureFailure

CHUNK_BYTES = 8 << 20
_LOCKS = (".lock", ".lock.lease")
_CHECKPOINTS = "checkpoints"
_LAST = ("run.json", "result.json")
"""Written in this order after everything else: the result's existence is what counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What was sent: the hash and size of its bytes, and whether checkpoints stayed behind."""

    sha256: str
    size: int
    without_checkpoints: bool


def pack(folder: Path, send: Callable[[bytes], object], *, limit_bytes: int) -> Parcel:
    """Send a run folder chunk by chunk, locks left out; its checkpoints too, where they fit.

    Args:
        limit_bytes: the most that is sent; checkpoints are left behind before it is passed.

    Raises:
        InfrastructureFailure: the folder is beyond the limit even without its checkpoints.
    """
    files = [path for path in _files(folder) if path.is_file()]
    without = sum(path.stat().st_size for path in files) > limit_bytes
    if without:
        files = [path for path in files if path.relative_to(folder).parts[0] != _CHECKPOINTS]
        size = sum(path.stat().st_size for path in files)
        if size > limit_bytes:
            raise InfrastructureFailure(
                f"{folder}: {size} bytes, and at most {limit_bytes} are shipped; use shared storage"
            )
    sink = _Sink(send)
    with tarfile.open(fileobj=sink, mode="w|", bufsize=CHUNK_BYTES) as archive:
        for path in files:
            archive.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False)
    return Parcel(sha256=sink.digest.hexdigest(), size=sink.size, without_checkpoints=without)


def unpack(parcel: Parcel, chunks: Iterable[bytes], folder: Path) -> None:
    """Receive a run folder beside `folder`, check it, then move it in, the result last.

    A break at any moment leaves a folder that can be continued: nothing is moved before all has
    arrived, and old checkpoints go before the rows they belong to.

    Raises:
        InfrastructureFailure: the bytes are not those that were sent.
    """
    incoming = folder.with_name(f".{folder.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    try:
        source = _Source(chunks)
        try:
            with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK_BYTES) as archive:
                archive.extractall(incoming, filter="data")
        except tarfile.TarError as error:
            raise InfrastructureFailure(f"{folder}: what came back is damaged: {error}") from None
        source.finish()
        if (source.digest.hexdigest(), source.size) != (parcel.sha256, parcel.size):
            raise InfrastructureFailure(
                f"{folder}: {source.size} of {parcel.size} bytes came back, or other ones than sent"
            )
        _move_in(incoming, folder)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _move_in(incoming: Path, folder: Path) -> None:
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    files = [path.relative_to(incoming) for path in _files(incoming) if path.is_file()]
    first = [path for path in files if path.name not in _LAST and path.parts[0] != _CHECKPOINTS]
    for path in first:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(incoming / path, folder / path)
    if (incoming / _CHECKPOINTS).is_dir():
        os.replace(incoming / _CHECKPOINTS, folder / _CHECKPOINTS)
    for name in _LAST:
        if (incoming / name).is_file():
            os.replace(incoming / name, folder / name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.name not in _LOCKS)


class _Sink(io.RawIOBase):
    """Where tarfile writes: every write is a chunk that is counted, hashed and sent."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        super().__init__()
        self._send = send
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self.digest.update(data)
        self.size += len(data)
        self._send(bytes(data))
        return len(data)


class _Source(io.RawIOBase):
    """Where tarfile reads: chunks as they come, counted and hashed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = b""
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self.digest.update(chunk)
            self.size += len(chunk)
            self._rest = chunk
        end = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:end], self._rest[end:]
        return data

    def finish(self) -> None:
        """Take what tarfile did not need: the padding at the end."""
        self._rest = b""
        while self.read(CHUNK_BYTES):
            self._rest = b""
