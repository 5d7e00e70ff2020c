"""librosa has one door, with a lock. Run: pytest tests/pipeline/test_librosa_lock.py"""

import fcntl
import re
from pathlib import Path

import pytest

from pipeline import audio, librosa_lock
from pipeline.metrics import sync
from tests.conftest import ROOT


@pytest.mark.parametrize("filters", [audio.mel_filters, sync._mel_filters])
def test_filters_come_through_the_lock(filters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[str] = []
    flock = fcntl.flock
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.setattr(fcntl, "flock", lambda file, how: (locked.append(file.name), flock(file, how)))
    librosa_lock.load_librosa.cache_clear()
    shape = filters.__wrapped__().shape
    assert shape in ((audio.MELS, 401), (sync.BANDS, 257))
    assert locked == [str(tmp_path / "numba" / "librosa.lock")]


def test_nothing_else_imports_it() -> None:
    rooms = [path for room in ("pipeline", "models", "jobs") for path in (ROOT / room).rglob("*.py")]
    importing = re.compile(r"^\s*(import|from) librosa\b", re.MULTILINE)
    assert not [path for path in rooms if importing.search(path.read_text())]
