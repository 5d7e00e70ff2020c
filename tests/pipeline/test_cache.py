"""Inputs on this machine: run with `python -m pytest tests/pipeline/test_cache.py`."""

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from pipeline import cache, storage
from pipeline.errors import InputError, MissingError


def test_a_local_file_stays_where_it_is(tmp_path: Path):
    source = tmp_path / "a.png"
    source.write_bytes(b"picture")
    fetched = cache.fetch(str(source), tmp_path / "cache")
    assert fetched == cache.Fetched(source, hashlib.sha256(b"picture").hexdigest(), 7)
    assert cache.fetch(str(source), tmp_path / "cache") == fetched
    source.write_bytes(b"changed")
    assert cache.fetch(str(source), tmp_path / "cache").sha256 == hashlib.sha256(b"changed").hexdigest()


def test_a_remote_file_is_downloaded_once(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    uri = storage.join(s3, "a.png")
    storage.write_atomic(uri, b"picture")
    fetched = cache.fetch(uri, tmp_path)
    assert fetched.path.read_bytes() == b"picture"
    assert fetched.path.suffix == ".png"
    assert fetched.sha256 == hashlib.sha256(b"picture").hexdigest()

    def refuse(*_: object) -> None:
        raise AssertionError("downloaded again")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "download", refuse)
        assert cache.fetch(uri, tmp_path) == fetched
    storage.write_atomic(uri, b"changed")
    assert cache.fetch(uri, tmp_path).path.read_bytes() == b"changed"


def test_content_that_was_removed_is_downloaded_again(s3: str, tmp_path: Path):
    uri = storage.join(s3, "a.png")
    storage.write_atomic(uri, b"picture")
    cache.fetch(uri, tmp_path).path.unlink()
    assert cache.fetch(uri, tmp_path).path.read_bytes() == b"picture"


def test_processes_share_a_download(s3: str, tmp_path: Path):
    uri = storage.join(s3, "big")
    storage.write_atomic(uri, os.urandom(2**20))
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_fetch_and_tell, args=(uri, tmp_path, tmp_path / f"{n}.txt")) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    told = [(tmp_path / f"{number}.txt").read_text() for number in range(2)]
    assert sorted(line.split()[1] for line in told) == ["0", "1"]
    assert len({line.split()[0] for line in told}) == 1


def _fetch_and_tell(uri: str, folder: Path, answer: Path) -> None:
    downloads = []
    plain = storage.download
    storage.download = lambda *given: (downloads.append(given), time.sleep(0.2), plain(*given))
    fetched = cache.fetch(uri, folder)
    answer.write_text(f"{cache.hash_file(fetched.path)} {len(downloads)}")


def test_the_least_recently_used_files_go(tmp_path: Path):
    now = time.time()
    for number, age_s in enumerate([9000, 8000, 7000, 10]):
        path = tmp_path / "objects" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - age_s, now - age_s))
    cache.mark_used(tmp_path / "objects" / "f0")
    assert cache.trim(tmp_path, max_bytes=350) == 100
    assert storage.list_names(str(tmp_path / "objects")) == ["f0", "f2", "f3"]
    cache.trim(tmp_path, max_bytes=0)
    assert storage.list_names(str(tmp_path / "objects")) == ["f0", "f3"], "files in use stay"


def test_fetching_makes_room_now_and_then(tmp_path: Path):
    kept, stale = tmp_path / "cache" / "speech" / "old.s16", time.time() - 9000
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(b"x" * 1000)
        os.utime(kept, (stale, stale))
        cache.fetch(str(tmp_path / name), tmp_path / "cache", max_bytes=500)
        assert kept.exists() == (name == "b"), "the second time comes too soon after the first"


def test_missing_inputs_are_named(s3: str, tmp_path: Path):
    for uri in (storage.join(s3, "gone.png"), str(tmp_path / "gone.png")):
        with pytest.raises(MissingError, match=r"gone\.png does not exist"):
            cache.fetch(uri, tmp_path)
    with pytest.raises(InputError, match="is not a file"):
        cache.fetch(str(tmp_path), tmp_path)
