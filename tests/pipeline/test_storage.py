"""Local folders, S3 and memory behave alike: run with `python -m pytest tests/pipeline/test_storage.py`."""

import errno
import os
import stat
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import retrying, storage
from pipeline.errors import InputError, MissingError, TransientError


@pytest.fixture(params=["local", "s3", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrying, "FIRST_PAUSE_S", 0.001)
    yield
    storage.configure({}, 5)


@pytest.mark.parametrize("name", ["plain.bin", "ünï code (1) [x] *.png", "a::b #1?.png", "sub/folder/x"])
def test_what_is_written_is_read_back(folder: str, name: str):
    if "::" in name and folder.startswith("memory"):
        pytest.skip("fsspec's memory file system can't list such names")
    uri = storage.join(folder, name)
    assert not storage.exists(uri)
    storage.write_atomic(uri, b"one")
    storage.write_atomic(uri, b"two")
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b"two"
    assert storage.list_names(folder, recursive=True) == [name]
    storage.remove(uri)
    storage.remove(uri)
    assert not storage.exists(uri)


def test_a_local_file_is_uploaded(folder: str, tmp_path: Path):
    source = tmp_path / ".source"
    source.write_bytes(b"x" * 1000)
    storage.write_atomic(storage.join(folder, "a"), source)
    assert storage.create_once(storage.join(folder, "b"), source)
    assert storage.read_bytes(storage.join(folder, "a")) == storage.read_bytes(storage.join(folder, "b")) == b"x" * 1000


def test_listing_shows_files_of_the_folder_only(folder: str):
    for name in ("b", "a", "sub/c", "sub/deep/d", ".hidden"):
        storage.write_atomic(storage.join(folder, name), b"")
    storage.write_atomic(folder + "-neighbour/e", b"")
    assert storage.list_names(folder) == ["a", "b"]
    assert storage.list_names(folder + "/", recursive=True) == ["a", "b", "sub/c", "sub/deep/d"]
    assert storage.list_names(storage.join(folder, "nothing")) == []


def test_the_first_writer_wins(folder: str):
    uri = storage.join(folder, "record")
    assert storage.create_once(uri, b"first")
    assert not storage.create_once(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert storage.claim(uri, b"second") == b"first"
    assert storage.claim(storage.join(folder, "other"), b"mine") == b"mine"


def test_a_lost_answer_is_told_from_a_lost_race(s3: str, impatient: None, monkeypatch: pytest.MonkeyPatch):
    upload, uploads = storage._upload, []

    def upload_and_lose_the_first_answer(*given, **named) -> None:
        upload(*given, **named)
        uploads.append(given)
        if len(uploads) == 1:
            raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(storage, "_upload", upload_and_lose_the_first_answer)
    assert storage.claim(storage.join(s3, "record"), b"mine") == b"mine"
    assert len(uploads) == 1, "the second attempt met the object of the first"


@pytest.mark.parametrize("where", ["local", "s3"])
def test_one_of_many_concurrent_writers_wins(where: str, request: pytest.FixtureRequest, tmp_path: Path):
    folder = request.getfixturevalue("s3") if where == "s3" else str(tmp_path)
    for number in range(3):
        uri = storage.join(folder, f"record{number}")
        contents = [bytes([writer]) * 50_000 for writer in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda content: storage.create_once(uri, content), contents))  # noqa: B023
        assert sum(won) == 1
        assert storage.read_bytes(uri) == contents[won.index(True)]
    assert list(tmp_path.glob(".*")) == [], "no temporary file is left"


def test_a_large_object_is_conditional_too(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(storage, "CHUNK_BYTES", 5 * 2**20)  # the smallest part that S3 takes
    large = tmp_path / "large"
    large.write_bytes(os.urandom(11 * 2**20))
    uri = storage.join(s3, "large.mp4")
    assert storage.create_once(uri, large)
    assert not storage.create_once(uri, b"0" * 11 * 2**20)
    other = tmp_path / "other"
    other.write_bytes(b"0" * 11 * 2**20)
    assert not storage.create_once(uri, other)
    assert storage.read_bytes(uri) == large.read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    with pytest.raises(MissingError):
        storage.write_atomic(str(tmp_path / "out" / "x"), tmp_path / "nowhere")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_system_without_hard_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(InputError, match="has no hard links"):
        storage.create_once(str(tmp_path / "record"), b"")
    assert list(tmp_path.iterdir()) == []


def test_missing_things_are_named(folder: str):
    with pytest.raises(MissingError, match=r"gone\.png does not exist"):
        storage.read_bytes(storage.join(folder, "gone.png"))
    with pytest.raises(MissingError, match=r"gone\.png does not exist"):
        storage.stat(storage.join(folder, "gone.png"))


def test_a_near_miss_is_suggested(tmp_path: Path):
    (tmp_path / "anna.png").touch()
    with pytest.raises(MissingError) as caught:
        storage.read_bytes(str(tmp_path / "Anna.png"))
    assert caught.value.hint == "did you mean 'anna.png'?"
    with pytest.raises(MissingError, match="there is no folder"):
        storage.read_bytes(str(tmp_path / "pictures" / "anna.png"))


@pytest.mark.parametrize(
    "call", [storage.read_bytes, storage.list_names, storage.exists, lambda uri: storage.create_once(uri, b"")]
)
def test_a_missing_bucket_is_named(call, s3: str):
    with pytest.raises(MissingError, match="there is no bucket 'no-such-bucket'"):
        call("s3://no-such-bucket/folder/x")


def test_a_folder_is_no_file(tmp_path: Path):
    for call in (storage.read_bytes, storage.stat):
        with pytest.raises(InputError, match="is not a file"):
            call(str(tmp_path))


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_denied_access_is_the_users_to_solve(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.touch()
    secret.chmod(stat.S_IWUSR)
    with pytest.raises(InputError, match="access denied"):
        storage.read_bytes(str(secret))


def test_an_unknown_scheme_is_the_users_to_solve():
    with pytest.raises(InputError, match="s4://bucket/x"):
        storage.read_bytes("s4://bucket/x")


def test_an_endpoint_that_does_not_answer_is_transient(impatient: None):
    storage.configure({"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": "b"}, 1)
    with pytest.raises(TransientError, match="after 2 attempts"):
        storage.read_bytes("s3://bucket/x")


def test_what_passes_is_tried_again(impatient: None):
    failures = [ConnectionResetError("reset by peer"), TimeoutError("timed out"), OSError(16, "SlowDown")]

    def call() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert retrying.patiently("s3://bucket/x", call, retries=3) == "done"
    assert not failures
    failures += [ConnectionResetError("reset by peer")] * 3
    with pytest.raises(TransientError, match="s3://bucket/x: reset by peer, after 3 attempts"):
        retrying.patiently("s3://bucket/x", call, retries=2)


@pytest.mark.parametrize(
    ("base", "part", "joined"),
    [
        ("s3://bucket/jobs", "a.png", "s3://bucket/jobs/a.png"),
        ("s3://bucket/jobs/", "../a.png", "s3://bucket/a.png"),
        ("s3://bucket/jobs", "s3://other/a.png", "s3://other/a.png"),
        ("s3://bucket/jobs", "/data/a.png", "/data/a.png"),
        ("jobs", "pictures/a.png", "jobs/pictures/a.png"),
        ("", "a.png", "a.png"),
    ],
)
def test_joining(base: str, part: str, joined: str):
    assert storage.join(base, part) == joined
