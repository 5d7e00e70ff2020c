"""fsspec's file systems as pyarrow's, for Ray."""

from typing import Any

from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

__all__ = ["LocalFileSystem", "wrapped"]

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "az"}


def wrapped(fs: Any) -> PyFileSystem:
    """A pyarrow file system that reads and writes through an fsspec one."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return PyFileSystem(_ObjectStore(fs) if protocols & OBJECT_STORES else FSSpecHandler(fs))


class _ObjectStore(FSSpecHandler):
    """A store without folders."""

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: s3fs would look for the bucket, and try to make one where it isn't allowed to look."""
