"""Files and objects by URI: local paths, s3:// and whatever else fsspec reads.

Local paths never go through fsspec, which would read `::` and `*` in a file name as its own syntax.
A name that starts with a dot is a write in progress and invisible to readers.

Every call raises, besides what it says itself:
    MissingError: no such file, object or bucket.
    InputError: no permission, no credentials, a folder where a file should be.
    TransientError: timeouts, resets and refusals that outlasted the retries.
    RenderError: anything else, a full disk for instance.
"""

import errno
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import InputError
from pipeline.retrying import error_code, patiently

SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")
NO_OPTIONS = ("memory", "http", "https")  # schemes that storage options are not meant for
CHUNK_BYTES = 8 * 2**20  # of a multipart upload; objects of twice the size and more go up in parts
CHUNKS_AT_ONCE = 4  # bounds the memory of an upload
PRECONDITION_CODES = ("PreconditionFailed", "412")
T = TypeVar("T")

_options: dict[str, Any] = {}
_retries = 5


def configure(options: Mapping[str, Any], retries: int) -> None:
    """Set what `config.storage` says, for this process: options of remote file systems, retries of a call."""
    global _options, _retries
    _options, _retries = dict(options), retries


def local_path(uri: str) -> Path | None:
    """The path that a URI without a scheme, or with file://, stands for; None for remote ones."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    if SCHEME.match(uri):
        return None
    return Path(uri).expanduser() if uri.startswith("~/") else Path(uri)


def absolute(uri: str) -> str:
    """A place for processes that run in folders of their own. Links keep their names."""
    path = local_path(uri)
    return os.path.abspath(path) if path else uri  # noqa: PTH100 - resolve() would follow links


def join(uri: str, *parts: str) -> str:
    """`uri/part/part`; a part that is absolute or a URI itself replaces what stands before it."""
    for part in parts:
        if SCHEME.match(part) or part.startswith(("/", "~/")):
            uri = part
            continue
        uri = f"{uri.rstrip('/')}/{part}" if uri else part
        scheme = SCHEME.match(uri)
        if ".." in part.split("/") and scheme:
            # object stores take .. literally
            uri = scheme.group() + posixpath.normpath(uri[scheme.end() :])
    return uri


def parent(uri: str) -> str:
    """The folder that a file is in; "." for a bare file name."""
    head, slash, _ = uri.rpartition("/")
    return (head or "/") if slash else "."


def exists(uri: str) -> bool:
    """Whether there is such a file or object (a folder is none)."""
    path = local_path(uri)
    if path:
        return path.is_file()

    def ask() -> bool:
        fs, key = _remote(uri)
        try:
            return fs.info(key)["type"] == "file"  # not fs.isfile, which takes any error for an absence
        except FileNotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise
            return False

    return _patiently(uri, ask)


def read_bytes(uri: str) -> bytes:
    """The whole content."""
    path = local_path(uri)
    if path:
        return _patiently(uri, path.read_bytes)

    def read() -> bytes:
        fs, key = _remote(uri)
        return fs.cat_file(key)

    return _patiently(uri, read)


def download(uri: str, path: Path) -> None:
    """Copy a remote object to a local file, which is replaced."""

    def get() -> None:
        fs, key = _remote(uri)
        fs.get_file(key, str(path))

    _patiently(uri, get)


def stat(uri: str) -> tuple[int, str]:
    """Size in bytes and a mark that changes when the content does."""
    path = local_path(uri)

    def ask() -> tuple[int, str]:
        if path:
            found = path.stat()
            if not path.is_file():
                raise IsADirectoryError(uri)
            return found.st_size, f"{found.st_ino}-{found.st_mtime_ns}"
        fs, key = _remote(uri)
        info = fs.info(key)
        if info.get("type") == "directory":
            raise IsADirectoryError(uri)
        marks = (info.get(name) for name in ("ETag", "etag", "LastModified", "mtime", "created"))
        return int(info.get("size") or 0), str(next((mark for mark in marks if mark), ""))

    return _patiently(uri, ask)


def list_names(uri: str, recursive: bool = False) -> list[str]:
    """Names of the files in a folder, relative to it, sorted; none if there is no such folder."""
    path = local_path(uri)
    if path:
        found = path.rglob("*") if recursive else path.glob("*")
        names = [entry.relative_to(path).as_posix() for entry in found if entry.is_file()]
    else:

        def ask() -> list[str]:
            fs, key = _remote(uri)
            try:
                entries = fs.find(key, detail=True).values() if recursive else fs.ls(key, detail=True)
            except FileNotFoundError as error:
                if error_code(error) == "NoSuchBucket":
                    raise
                return []
            prefix = key.strip("/") + "/"
            files = [entry["name"].lstrip("/") for entry in entries if entry["type"] == "file"]
            return [name.removeprefix(prefix) for name in files if name.startswith(prefix) and name != prefix]

        names = _patiently(uri, ask)
    return sorted(name for name in names if not posixpath.basename(name).startswith("."))


def write_atomic(uri: str, data: bytes | Path) -> None:
    """Write a file that readers see whole or not at all, replacing an earlier one.

    Args:
        data: the content, or a local file with it.
    """
    path = local_path(uri)
    if path:
        _patiently(uri, lambda: _write_local(path, data, os.replace))
        return

    def put() -> None:
        fs, key = _remote(uri)
        _upload(fs, key, data)

    _patiently(uri, put)


def create_once(uri: str, data: bytes | Path) -> bool:
    """Write a file unless there is one already; of any number of concurrent writers exactly one wins.

    A client may repeat a request whose answer was lost, and then meets its own object: False does not prove that
    somebody else wrote it. Compare what stands there (`claim`) where that matters.

    Returns:
        False if there was one already, which is left as it is.
    """
    path = local_path(uri)

    def create() -> bool:
        try:
            if path:
                _write_local(path, data, _link)
            else:
                fs, key = _remote(uri)
                _upload(fs, key, data, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            if error_code(error) in PRECONDITION_CODES:
                return False
            if error_code(error) == "NoSuchUpload" and exists(uri):
                return False  # the upload had been completed, only the answer was lost
            raise
        return True

    return _patiently(uri, create)


def claim(uri: str, data: bytes) -> bytes:
    """Create a record unless there is one, and return the one that stands: `data` itself if it is ours."""
    return data if create_once(uri, data) else read_bytes(uri)


def remove(uri: str) -> None:
    """Delete a file; one that is gone already is fine."""
    path = local_path(uri)
    if path:
        _patiently(uri, lambda: path.unlink(missing_ok=True))
        return

    def delete() -> None:
        fs, key = _remote(uri)
        try:
            fs.rm_file(key)
        except FileNotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise

    _patiently(uri, delete)


def arrow_place(uri: str) -> tuple[Any, str]:
    """A URI as pyarrow file system and path in it, for libraries that read and write through pyarrow.

    Remote ones go through fsspec, so that options and retries are those of every other call.
    """
    from pipeline.arrow_files import LocalFileSystem, wrapped  # imports pyarrow

    path = local_path(uri)
    if path:
        return LocalFileSystem(), os.path.abspath(path)  # noqa: PTH100 - links keep their names
    fs, key = _remote(uri)
    return wrapped(fs), key


def _remote(uri: str) -> tuple[Any, str]:
    """The file system of a remote URI and the path in it."""
    import fsspec

    scheme = uri.partition("://")[0].lower()
    options: dict[str, Any] = {} if scheme in NO_OPTIONS else dict(_options)
    if scheme in ("s3", "s3a"):
        # a stale listing would hide commits of other machines; our own retries suffice
        defaults = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2, "mode": "standard"}}
        options["config_kwargs"] = defaults | options.get("config_kwargs", {})
        options.setdefault("use_listings_cache", False)
    try:
        # not fsspec.core.url_to_fs, which splits a key at `::`
        kind = fsspec.get_filesystem_class(scheme)
        fs = kind(**(kind._get_kwargs_from_urls(uri) | options))
        key = kind._strip_protocol(uri)
    except (ValueError, ImportError, TypeError) as error:
        raise InputError(f"'{uri}' can't be opened: {error}", "check the scheme and storage.options") from error
    return fs, str(key)


def _upload(fs: Any, key: str, data: bytes | Path, mode: str = "overwrite") -> None:
    parts = {"chunksize": CHUNK_BYTES, "max_concurrency": CHUNKS_AT_ONCE} if "s3" in fs.protocol else {}
    if isinstance(data, Path):
        fs.put_file(str(data), key, mode=mode, **parts)
    else:
        fs.pipe_file(key, data, mode=mode, **parts)


def _write_local(path: Path, data: bytes | Path, publish: Callable[[Path, Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as sink:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, sink, CHUNK_BYTES)
            else:
                sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        publish(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name unless the name is taken: the one atomic way that local file systems have."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            message = f"the file system of {path.parent} has no hard links, which a file that is written once needs"
            raise InputError(message, "use a folder on another file system") from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _patiently(uri: str, call: Callable[[], T]) -> T:
    return patiently(uri, call, _retries)
