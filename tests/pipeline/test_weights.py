"""Weights of the metric networks: where they are found, what is verified, what is said."""

import hashlib
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import SetupError
from pipeline.weights import CATALOGUE, find_weights, how_to_get

CONTENT = b"weights"
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def problems_of(*arguments) -> list[str]:
    with pytest.raises(SetupError) as caught:
        find_weights(*arguments)
    return caught.value.problems


def test_nothing_given_is_nothing_found(cache):
    assert find_weights(None, {}, cache) == {}


def test_folder_is_searched_by_published_names(tmp_path, cache):
    for name in ("syncnet_v2.model", "backbone.pth", "lpips_alex.safetensors", "readme.txt"):
        (tmp_path / name).write_bytes(CONTENT)
    found = find_weights(str(tmp_path), {}, cache)
    assert {name: weights.path.name for name, weights in found.items()} == {
        "syncnet": "syncnet_v2.model",
        "identity": "backbone.pth",
        "lpips": "lpips_alex.safetensors",
    }
    assert {weights.sha256 for weights in found.values()} == {HASH}
    assert found["syncnet"].is_published is False
    assert found["identity"].is_published is None
    assert list(find_weights(str(tmp_path), {}, cache, ["identity"])) == ["identity"]


def test_named_file_goes_before_the_folder(tmp_path, cache):
    (tmp_path / "syncnet_v2.model").write_bytes(b"other")
    mine = tmp_path / "mine#1.pth"
    mine.write_bytes(CONTENT)
    for value in (str(mine), f"{mine}#sha256={HASH.upper()}", f"file://{mine}"):
        assert find_weights(str(tmp_path), {"syncnet": value}, cache)["syncnet"].sha256 == HASH


def test_hash_is_verified(tmp_path, cache):
    path = tmp_path / "a.pth"
    path.write_bytes(CONTENT)
    problems = problems_of(None, {"identity": f"{path}#sha256={'0' * 64}"}, cache)
    assert len(problems) == 1
    assert problems[0].startswith(f"weights.files.identity: {path} has the SHA-256 {HASH}, not 000")


def test_sums_of_a_folder_are_verified(tmp_path, cache):
    (tmp_path / "syncnet_v2.model").write_bytes(CONTENT)
    (tmp_path / "SHA256SUMS").write_text(f"{HASH}  syncnet_v2.model\n{'1' * 64} *unrelated.bin\n")
    assert list(find_weights(str(tmp_path), {}, cache)) == ["syncnet"]
    (tmp_path / "SHA256SUMS").write_text(f"{'1' * 64} *syncnet_v2.model\n")
    assert "weights.dir" in problems_of(str(tmp_path), {}, cache)[0]


def test_every_problem_is_told_at_once(tmp_path, cache):
    files = {"sync_net": "a", "inception": str(tmp_path / "absent.pth"), "lpips": "s3://bucket/alex.pth"}
    problems = problems_of(str(tmp_path / "nowhere"), files, cache)
    assert problems[0] == "weights.files.sync_net: no such network; did you mean 'syncnet'?"
    assert "nowhere is no folder" in problems[1]
    assert any(p.startswith("weights.files.inception: ") and "absent.pth" in p for p in problems)
    assert any(p.startswith("weights.files.lpips: s3://bucket/alex.pth has no hash") for p in problems)
    assert len(problems) == 4


def test_remote_files_and_folders(s3, cache):
    storage.write_atomic(storage.join(s3, "alex.pth"), CONTENT)
    uri = storage.join(s3, "alex.pth")
    named = find_weights(None, {"lpips": f"{uri}#sha256={HASH}"}, cache)["lpips"]
    assert named.path.read_bytes() == CONTENT
    assert named.path.is_relative_to(cache)
    assert find_weights(s3, {}, cache)["lpips"] == named


def test_sentence_for_missing_weights():
    for name in CATALOGUE:
        assert CATALOGUE[name].files[0] in how_to_get(name)
    assert "syncnet_v2.model into weights.dir, or set weights.files.syncnet; from https://" in how_to_get("syncnet")
