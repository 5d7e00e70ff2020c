"""Environment variables of worker processes: one thread each, no chatter, one cache of compiled code."""

import os
from pathlib import Path

# a worker has one CPU; without this, each of them would start a thread per core
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TORCH_NUM_THREADS": "1",
}
QUIET = {"GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}


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
