"""Packs say what they hold, and hold what they say.

Run: pytest tests/models/test_packs.py
"""

import json
from pathlib import Path

import pytest

from models.packs import DECLARATION, LICENCE, Declaration, Pack, PackError
from tests.models.tiny_pack import write_pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pack(tmp_path, ("expnet", "mapping_crop"))
    return tmp_path


def rewrite(folder: Path, **changes) -> None:
    values = json.loads((folder / DECLARATION).read_text())
    (folder / DECLARATION).write_text(json.dumps({**values, **changes}))


def test_a_pack_tells_what_it_is(folder: Path):
    pack = Pack.open(folder)
    assert (pack.name, pack.space, pack.published) == ("tiny", "bfm", True)
    assert "expnet" in pack and "posevae" not in pack
    assert pack.path("expnet") == folder / "expnet.safetensors"
    assert pack.sizes("mapping_crop")["width"] == 8
    assert pack.licence_text() == "No rights reserved."
    assert pack.verify() == []
    assert Declaration.loads(pack.declaration.dumps(), "here") == pack.declaration


def test_a_changed_file_is_not_loaded(folder: Path):
    pack = Pack.open(folder)
    (folder / "expnet.safetensors").write_bytes(b"other")
    with pytest.raises(PackError, match=r"expnet.safetensors has the SHA-256 .* import the weights again"):
        pack.path("expnet")
    (folder / "mapping_crop.safetensors").unlink()
    assert len(pack.verify()) == 2


def test_a_network_that_is_not_there_is_named(folder: Path):
    with pytest.raises(PackError, match="has no posevae"):
        Pack.open(folder).path("posevae")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"licence": ""}, "no licence"),
        ({"space": "flame"}, "space 'flame' is unknown; there are open and bfm"),
        ({"format": 99}, "another version"),
        ({"provides": {"expnet": {"file": "../expnet.safetensors", "sha256": "0"}}}, "not in the pack's own folder"),
        ({"provides": {"expnet": {"name": "x"}}}, "can't be read"),
        ({"surprise": 1}, "can't be read"),
    ],
)
def test_what_makes_a_pack_unusable(folder: Path, changes: dict, said: str):
    rewrite(folder, **changes)
    with pytest.raises(PackError, match=said):
        Pack.open(folder)


def test_a_pack_without_its_licence_text_is_not_opened(folder: Path):
    (folder / LICENCE).unlink()
    with pytest.raises(PackError, match=r"LICENCE.txt can't be read"):
        Pack.open(folder)


def test_a_folder_without_a_declaration_is_no_pack(tmp_path: Path):
    with pytest.raises(PackError, match="is no pack"):
        Pack.open(tmp_path)
    (tmp_path / DECLARATION).write_text("{")
    with pytest.raises(PackError, match="can't be read"):
        Pack.open(tmp_path)
