"""What a worker process sets for itself: one thread, no chatter, one cache of compiled code, its storage."""

import os
from pathlib import Path
from typing import Protocol

from pipeline import storage
from pipeline.config import CacheConfig, StorageConfig

# a worker has one CPU; without this, each of them would start a thread per core
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
QUIET = {"GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}


class WorkerConfig(Protocol):
    """What of a job's settings every worker needs."""

    @property
    def cache(self) -> CacheConfig: ...

    @property
    def storage(self) -> StorageConfig: ...


def set_up_worker(config: WorkerConfig) -> None:
    """The first thing that a worker does, before it imports anything heavy.

    Workers do it themselves, since those that Ray sets up with a runtime_env take twice as long to start.
    """
    set_worker_variables(config.cache.folder)
    storage.configure(config.storage.options, config.storage.retries)


def worker_variables(cache: Path) -> dict[str, str]:
    """Variables that must be set before a worker imports anything.

    Args:
        cache: folder of the machine's cache.
    """
    return {**ONE_THREAD, **QUIET, "NUMBA_CACHE_DIR": str(cache / "numba")}


def set_worker_variables(cache: Path) -> None:
    """Set them in this process, unless they are set already; before anything heavy is imported."""
    for name, value in worker_variables(cache).items():
        os.environ.setdefault(name, value)
