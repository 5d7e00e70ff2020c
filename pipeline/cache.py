"""What a machine keeps, by content: inputs fetched once, results computed once, old ones removed.

    <cache>/objects/ab/ab12....png    remote inputs, named by their SHA-256
    <cache>/hashes/ab/ab34...         SHA-256 of an input, by place, size and date
    <cache>/locks/ab                  held while an input is downloaded
    <cache>/trimmed                   its date is when old files were last removed
    <cache>/...                       whatever stages keep beside them

Any number of processes may share one cache.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline import storage

TRIM_EVERY_S = 60  # looking through a large cache takes a second
IN_USE_S = 3600  # a file used within this time is never removed: a long clip may still be reading it
BLOCK_BYTES = 2**20
SUFFIX_LENGTH = 8  # longest file extension worth keeping, ".torrent"-like ones included


@dataclass(frozen=True)
class Fetched:
    """An input as a local file.

    Args:
        path: where it is on this machine; not to be changed.
        sha256: of its content, 64 hex digits.
        size: bytes.
    """

    path: Path
    sha256: str
    size: int


def fetch(uri: str, cache: Path, max_bytes: float = float("inf")) -> Fetched:
    """An input as a local file: local ones where they are, remote ones downloaded once per machine and content.

    Args:
        cache: folder on this machine.
        max_bytes: size of the cache above which the least recently used files are removed, now and then.
    Raises:
        MissingError, InputError, TransientError: as storage calls.
    """
    size, mark = storage.stat(uri)
    path = storage.local_path(uri)
    if path:
        uri = str(path.resolve())
    note = _sharded(cache / "hashes", hashlib.sha256(f"{uri}\n{size}\n{mark}".encode()).hexdigest())
    sha256 = _noted(note)
    if path:
        if sha256 is None:
            sha256 = hash_file(path)
            _note(note, sha256)
            _trim_when_due(cache, max_bytes)  # what stages make of a new input is kept too
        return Fetched(path, sha256, size)
    suffix = PurePosixPath(uri).suffix
    suffix = suffix if len(suffix) <= SUFFIX_LENGTH and suffix[1:].isalnum() else ""
    if sha256 is None or not _touched(_object_path(cache, sha256, suffix)):
        with _lock(cache, note.name):
            sha256 = _noted(note)  # another process may have been faster
            if sha256 is None or not _touched(_object_path(cache, sha256, suffix)):
                sha256 = _download(uri, cache, suffix)
                _note(note, sha256)
                _trim_when_due(cache, max_bytes)
    target = _object_path(cache, sha256, suffix)
    return Fetched(target, sha256, target.stat().st_size)


def hash_file(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def trim(cache: Path, max_bytes: float) -> int:
    """Remove the least recently used files until the cache fits; files in use stay, so it may not.

    Returns:
        Bytes removed.
    """
    entries = sorted(_entries(cache), key=lambda entry: entry[0])
    excess = sum(size for _, size, _ in entries) - max_bytes
    removed = 0
    newest = time.time() - IN_USE_S
    for used_at, size, path in entries:
        if removed >= excess or used_at > newest:
            break
        path.unlink(missing_ok=True)
        removed += size
    return removed


def mark_used(path: Path) -> None:
    """Note that a cached file is in use, so that it is removed later than others."""
    os.utime(path)


def _trim_when_due(cache: Path, max_bytes: float) -> None:
    if max_bytes == float("inf"):
        return
    stamp = cache / "trimmed"
    if not stamp.exists() or time.time() - stamp.stat().st_mtime > TRIM_EVERY_S:
        stamp.touch()
        trim(cache, max_bytes)


def _entries(cache: Path) -> Iterator[tuple[float, int, Path]]:
    """Last use, size and path of every file in the cache; files that vanish meanwhile are left out."""
    for folder, _, names in os.walk(cache):
        if Path(folder) == cache / "locks":
            continue
        for name in names:
            path = Path(folder, name)
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            yield found.st_mtime, found.st_size, path


def _download(uri: str, cache: Path, suffix: str) -> str:
    objects = cache / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    temporary = objects / f".{os.getpid()}-{time.monotonic_ns()}.tmp"
    try:
        storage.download(uri, temporary)
        sha256 = hash_file(temporary)
        target = _object_path(cache, sha256, suffix)
        target.parent.mkdir(exist_ok=True)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return sha256


def _object_path(cache: Path, sha256: str, suffix: str) -> Path:
    return _sharded(cache / "objects", sha256).with_suffix(suffix)


def _sharded(folder: Path, name: str) -> Path:
    return folder / name[:2] / name


def _touched(path: Path) -> bool:
    """Whether the file is there; if so it counts as just used."""
    try:
        mark_used(path)
    except FileNotFoundError:
        return False
    return True


def _noted(note: Path) -> str | None:
    try:
        sha256 = note.read_text("ascii")
        mark_used(note)
    except FileNotFoundError:
        return None
    return sha256


def _note(note: Path, sha256: str) -> None:
    storage.write_atomic(str(note), sha256.encode())


@contextmanager
def _lock(cache: Path, name: str) -> Iterator[None]:
    """Held by one process of this machine at a time; the kernel releases it when its holder dies."""
    path = cache / "locks" / name[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
