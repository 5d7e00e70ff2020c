"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real portraits, speech, talking videos and hostile files; the test is skipped without it."""
    folder = Path(os.environ.get("TALKFARM_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "index.csv").exists():
        pytest.skip(f"no test media: set TALKFARM_DATA to a folder with an index.csv (looked in {folder})")
    return folder
