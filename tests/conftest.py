"""Fixtures shared by all tests."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import BUCKET, S3Server

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real portraits, speech, talking videos and hostile files; the test is skipped without it."""
    folder = Path(os.environ.get("TALKFARM_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "index.csv").exists():
        pytest.skip(f"no test media: set TALKFARM_DATA to a folder with an index.csv (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server process; this process and its children find it through the AWS_* variables."""
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> str:
    """URI of an empty folder on the S3 server."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}"
