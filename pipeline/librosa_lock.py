"""The one door to librosa: nothing else imports it.

Importing its modules compiles functions and caches them on disk in pairs of files. Processes that write the two halves
at the same time leave pairs that don't match, and crash (numba issue 10128), so one process of a machine imports at a
time. It is slow to import, too: ask for the modules that are needed, where they are needed.
"""

import fcntl
import importlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any


@cache
def load_librosa(*modules: str) -> Any:
    """librosa with some of its modules, such as "filters" or "onset", imported."""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR", tempfile.gettempdir()))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "librosa.lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for module in modules:
            importlib.import_module(f"librosa.{module}")
        return importlib.import_module("librosa")
