"""Published files become packs, packs become published files again, and what is missing is said.

Run: pytest tests/jobs/test_weights.py
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.weights import main
from models.checkpoint import read_state
from models.packs import Pack
from pipeline import published
from tests.models.facespace.face_model_files import write_ready
from tests.models.tiny_pack import BUILDERS, PUBLISHED, network, write_published

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TALKFARM_DATA", ROOT.parent / "shared" / "data"))
KEYS = DATA.parent / "parity" / "sadtalker" / "official_keys.json"


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published networks, small enough to be written in a test."""
    small = {
        name: replace(entry, build=BUILDERS[name]) if name in BUILDERS else entry
        for name, entry in published.NETWORKS.items()
    }
    monkeypatch.setattr(published, "NETWORKS", small)


def same(pack: Pack, name: str, seed: int = 0) -> bool:
    state, wanted = read_state(pack.path(name)), network(name, seed).state_dict()
    return state.keys() == wanted.keys() and all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_files_of_the_new_set_become_a_pack(tmp_path: Path, capsys):
    files = write_published(tmp_path / "files")
    new = [str(files[name]) for name in files if name.startswith(("SadTalker", "mapping"))]
    assert main(["import", "sadtalker", *new, f"out={tmp_path}/pack"]) == 0
    said = capsys.readouterr().out
    assert "expnet: " in said and "still lacking s3fd" in said and "adrianbulat.com" in said
    assert "still lacking generator" not in said and "head_estimator" not in said
    pack = Pack.open(tmp_path / "pack")
    assert (pack.space, pack.published) == ("bfm", True)
    assert all(same(pack, name) for name in PUBLISHED)
    assert "Apache License" in pack.licence_text()
    assert pack.declaration.provides["mapping_full"].source == "mapping_00109-model.pth.tar"
    assert pack.declaration.provides["expnet"].source_sha256


def test_files_of_the_old_set_and_a_second_import_that_adds(tmp_path: Path, capsys):
    files = write_published(tmp_path / "files")
    old = [str(path) for name, path in files.items() if name.startswith(("auido", "facevid", "epoch"))]
    assert main(["import", "sadtalker", *old, f"out={tmp_path}/pack"]) == 0
    assert "still lacking mapping_crop, for framings crop, extcrop, resize: mapping_00229" in capsys.readouterr().out
    assert main(["import", "sadtalker", str(files["mapping_00229-model.pth.tar"]), f"out={tmp_path}/pack"]) == 0
    pack = Pack.open(tmp_path / "pack")
    assert all(same(pack, name) for name in ("expnet", "posevae", "recon", "generator_256", "mapping_crop"))
    assert "generator_512" not in pack


def test_what_a_file_lacks_is_told_and_nothing_is_written(tmp_path: Path, capsys):
    files = write_published(tmp_path / "files")
    path = files["SadTalker_V0.0.2_256.safetensors"]
    state = load_file(path)
    del state["audio2exp.mapping1.bias"]
    state["generator.first.conv.weight"] = torch.zeros(1)
    save_file(state, path)
    (tmp_path / "files" / "notes.txt").write_text("hello")
    assert main(["import", "sadtalker", str(tmp_path / "files"), str(tmp_path / "gone"), f"out={tmp_path}/pack"]) == 2
    said = capsys.readouterr().err
    assert "gone: no such file" in said
    assert "expnet is not complete: missing: mapping1.bias" in said
    assert "generator_256 is not complete: of another shape: first.conv.weight (1,) instead of" in said
    assert "notes.txt" in said
    assert not (tmp_path / "pack").exists()


def test_a_pickle_that_would_run_something_is_not_opened(tmp_path: Path, capsys):
    torch.save({"model": print}, tmp_path / "auido2exp_00300-model.pth")
    assert main(["import", "sadtalker", str(tmp_path), f"out={tmp_path}/pack"]) == 2
    assert "holds more than tensors" in capsys.readouterr().err


def test_face_model_comes_along(tmp_path: Path, capsys):
    files = write_published(tmp_path / "files")
    write_ready(tmp_path / "files")
    words = [str(files["epoch_20.pth"]), str(tmp_path / "files" / "BFM_model_front.mat")]
    assert main(["import", "sadtalker", *words, f"out={tmp_path}/pack"]) == 0
    assert "face_model: 68 landmarks and the mouth of BFM_model_front.mat" in capsys.readouterr().out
    whole = (tmp_path / "files" / "BFM_model_front.mat").stat().st_size
    assert Pack.open(tmp_path / "pack").path("face_model").stat().st_size < whole / 2, "only what is needed is kept"


def test_missing_face_model_files_are_named_with_their_source(tmp_path: Path, capsys):
    (tmp_path / "std_exp.txt").write_text("1 2 3")
    assert main(["import", "sadtalker", str(tmp_path), f"out={tmp_path}/pack"]) == 2
    said = capsys.readouterr().err
    assert "01_MorphableModel.mat (Basel Face Model 2009, on request at https://faces.dmi.unibas.ch/bfm/" in said
    assert "Exp_Pca.bin (CoarseData of github.com/Juyong/3DFace)" in said
    assert "std_exp.txt (" not in said


def test_list_verify_and_export(tmp_path: Path, capsys):
    files = write_published(tmp_path / "files")
    new = [str(files[name]) for name in files if name.startswith(("SadTalker", "mapping"))]
    main(["import", "sadtalker", *new, f"out={tmp_path}/packs/mine"])
    capsys.readouterr()
    assert main(["list", str(tmp_path / "packs")]) == 0
    assert "space bfm" in (said := capsys.readouterr().out) and "mapping_full" in said
    assert main(["verify", str(tmp_path / "packs/mine")]) == 0
    assert main(["export", str(tmp_path / "packs/mine"), f"out={tmp_path}/again"]) == 0
    for name in (n for n in files if n.startswith("SadTalker")):
        before, after = load_file(files[name]), load_file(tmp_path / "again" / name)
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    mapping = torch.load(tmp_path / "again" / "mapping_00109-model.pth.tar", weights_only=True)["mapping"]
    assert torch.equal(mapping["fc_t.bias"], network("mapping_full").state_dict()["fc_t.bias"])
    (tmp_path / "packs/mine/recon.safetensors").write_bytes(b"")
    assert main(["verify", str(tmp_path / "packs/mine")]) == 2
    assert "recon.safetensors has the SHA-256" in capsys.readouterr().err
    assert main(["list", str(tmp_path / "nothing")]) == 0


def test_the_pack_that_ships(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "open, ships, space open" in said and "articulator" in said
    assert main(["verify", "open"]) == 0


def test_another_pack_is_not_added_to(tmp_path: Path, capsys):
    from tests.models.tiny_pack import write_pack

    write_pack(tmp_path / "pack", ("expnet",))
    files = write_published(tmp_path / "files")
    assert main(["import", "sadtalker", str(files["epoch_20.pth"]), f"out={tmp_path}/pack"]) == 2
    assert "name another folder with out=" in capsys.readouterr().err


@pytest.mark.skipif(not KEYS.exists(), reason=f"no list of the reference's names and shapes at {KEYS}")
def test_published_sizes_are_those_of_the_reference():
    """Our networks at their default sizes against the names and shapes of the reference's."""
    keys = json.loads(KEYS.read_text())
    flat = keys["safetensors"]
    parts = {prefix: name.format(side="256") for prefix, name in published.FLAT_PREFIXES.items()}
    wanted = {name: {k.removeprefix(p): v for k, v in flat.items() if k.startswith(p)} for p, name in parts.items()}
    wanted["mapping_crop"] = keys['mapping_00229-model.pth.tar["mapping"]']
    wanted["mapping_full"] = keys['mapping_00109-model.pth.tar["mapping"]']
    builders = {
        "generator_256": published._generator,
        "keypoints_256": published._keypoints,
        "expnet": published._expnet,
        "posevae": published._posevae,
        "recon": published._recon,
        "mapping_crop": published._mapping_crop,
        "mapping_full": published._mapping_full,
    }
    assert sum(map(len, list(wanted.values())[:5])) == len(flat)
    for name, shapes in wanted.items():
        with torch.device("meta"):
            ours = builders[name]().state_dict()
        assert {key: list(value.shape) for key, value in ours.items()} == shapes
