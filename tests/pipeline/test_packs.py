"""The pack that a job asks for: pinned, verified, and refused where it doesn't suit the job.

Run: pytest tests/pipeline/test_packs.py
"""

import shutil
from pathlib import Path

import pytest

from models import registry
from models.controls import Controls
from models.packs import DECLARATION, SHIPPED, PackError, shipped_pack
from pipeline import packs, storage
from pipeline.config import RenderConfig, load_config
from pipeline.errors import SetupError
from pipeline.manifest import Clip, spec_hash
from pipeline.stages import MotionStage
from tests.models.tiny_pack import write_pack

ALIGNED = ("face.backend=face_alignment", "cache.dir=/nowhere")
NEURAL = ("motion.system=sadtalker", "renderer=facevid2vid")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pack(tmp_path / "tiny")
    return tmp_path / "tiny"


def config(folder: Path | str, *words: str) -> RenderConfig:
    cache = f"cache.dir={folder.parent}/cache" if isinstance(folder, Path) else "cache.dir=/nowhere"
    return load_config(["manifest=m", cache, f"pack={folder}", *(words or NEURAL)])


def clip(**controls) -> Clip:
    return Clip(id="a", portrait="p", audio="a", controls=Controls.model_validate(controls))


def refused(settings: RenderConfig, *clips: Clip) -> list[str]:
    with pytest.raises(SetupError) as caught:
        packs.settle(settings, clips or [clip()])
    return caught.value.problems


def problems_of(*words: str) -> list[str]:
    with pytest.raises(SetupError) as caught:
        load_config(["manifest=m", *words])
    return caught.value.problems


def test_a_pack_is_pinned_by_its_content(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    cache = f"cache.dir={folder.parent}/cache"
    settled = packs.settle(load_config(["manifest=m", cache, "pack=tiny", *NEURAL]), [clip()])
    place, _, sha256 = settled.pack.partition("#sha256=")
    assert place == str(folder) and len(sha256) == 64
    assert settled.weights_with("sadtalker") == f"tiny@{sha256[:8]}:sadtalker+facevid2vid"
    assert packs.settle(settled, [clip()]) == settled
    assert packs.space_of(settled) == "bfm"
    assert packs.open_pack(settled).path("expnet") == folder / "expnet.safetensors"

    moved = shutil.copytree(folder, folder.parent / "moved")
    elsewhere = packs.settle(config(moved), [clip()])
    assert spec_hash(clip(), elsewhere) == spec_hash(clip(), settled), "the place doesn't change the videos"
    write_pack(moved, name="other")
    assert spec_hash(clip(), packs.settle(config(moved), [clip()])) != spec_hash(clip(), settled)
    (problem,) = refused(elsewhere)
    assert "has the SHA-256" in problem and "moved" in problem


def test_what_ships_is_left_alone():
    settings = load_config(["manifest=m"])
    assert packs.settle(settings, [clip()]) is settings
    assert packs.space_of(settings) == "open" and packs.open_pack(settings) is shipped_pack()
    assert settings.weights_with("envelope") == "open:envelope+mesh"


def test_a_pack_on_s3_is_fetched_file_by_file(folder: Path, s3: str):
    for path in folder.iterdir():
        storage.write_atomic(f"{s3}/tiny/{path.name}", path)
    words = ["manifest=m", f"cache.dir={folder.parent}/cache", f"pack={s3}/tiny", *NEURAL]
    settled = packs.settle(load_config(words), [clip()])
    objects = folder.parent / "cache" / "objects"
    assert len([path for path in objects.rglob("*") if path.is_file()]) == 1, "the licence only"
    pack = packs.open_pack(settled)
    assert pack.path("expnet").read_bytes() == (folder / "expnet.safetensors").read_bytes()
    storage.write_atomic(f"{s3}/tiny/recon.safetensors", b"other")
    with pytest.raises(PackError, match=r"recon.safetensors has the SHA-256"):
        pack.path("recon")
    (problem,) = refused(load_config([*words, f"pack={s3}/nothing"]))
    assert problem.startswith("pack: ") and f"{s3}/nothing is no pack" in problem


def test_motion_may_have_a_pack_of_its_own(folder: Path, tmp_path: Path):
    """Own motion networks with the published renderer: both of the space bfm."""
    mine = write_pack(tmp_path / "mine", ("expnet", "posevae"), name="mine").where
    settled = packs.settle(config(folder, f"motion.pack={mine}", *NEURAL), [clip()])
    assert packs.open_motion_pack(settled).path("expnet") == tmp_path / "mine" / "expnet.safetensors"
    assert packs.open_pack(settled).path("recon") == folder / "recon.safetensors" and packs.space_of(settled) == "bfm"
    first, _, second = settled.weights_with("sadtalker").partition("+")
    assert first.startswith("mine@") and first.endswith(":sadtalker")
    assert second.startswith("tiny@") and second.endswith(":facevid2vid")
    hashes = {spec_hash(clip(), each) for each in (settled, packs.settle(config(folder), [clip()]))}
    moved = shutil.copytree(tmp_path / "mine", tmp_path / "moved")
    hashes.add(spec_hash(clip(), packs.settle(config(folder, f"motion.pack={moved}", *NEURAL), [clip()])))
    assert len(hashes) == 2, "its content changes the videos, its place doesn't"
    own = write_pack(tmp_path / "own", ("articulator",), space="open").where
    kept = packs.settle(load_config(["manifest=m", f"motion.pack={own}", "cache.dir=/nowhere"]), [clip()])
    assert packs.open_pack(kept) is shipped_pack()
    assert packs.open_motion_pack(kept).path("articulator") == tmp_path / "own" / "articulator.safetensors"


# ---- refusals


def test_packs_that_don_t_go_together_are_refused(folder: Path, tmp_path: Path):
    open_pack = write_pack(tmp_path / "own", ("expnet", "posevae"), space="open").where
    (problem,) = refused(config(folder, f"motion.pack={open_pack}", *NEURAL))
    assert "motion.system 'sadtalker' speaks the coefficient space 'open'" in problem
    part = write_pack(tmp_path / "part", ("posevae",)).where
    (problem,) = refused(config(folder, f"motion.pack={part}", *NEURAL))
    assert f"{part} has no expnet, which motion.system=sadtalker needs" in problem
    few = write_pack(tmp_path / "few", ("expnet", "posevae", "recon")).where
    problems = refused(config(Path(few), f"motion.pack={few}", *NEURAL))
    assert len(problems) == 3 and all(f"{few} has no" in problem for problem in problems)
    (problem,) = problems_of("motion.system=envelope", "motion.pack=mine")
    assert "'motion.pack' is set, of which motion.system 'envelope' takes nothing" in problem


@pytest.mark.parametrize("words", [NEURAL, ("renderer=facevid2vid",)])
def test_what_doesn_t_ship_needs_a_pack(words: tuple[str, ...]):
    (problem,) = problems_of(*words)
    assert "no weights ship for renderer 'facevid2vid'" in problem
    assert "python -m jobs.weights import sadtalker FILES... out=FOLDER" in problem and "pack=FOLDER" in problem


def test_a_pack_that_nothing_uses_is_refused(folder: Path, tmp_path: Path):
    (problem,) = problems_of("motion.system=envelope", "pack=mine")
    assert "take nothing" in problem and "set motion.system=articulator or motion.system=sadtalker or" in problem
    (problem,) = refused(config(folder, "motion.system=articulator"))
    assert "is of the space 'bfm'" in problem and "take nothing of the space 'bfm'" in problem
    write_pack(tmp_path / "own", ("expnet",), space="open")
    (problem,) = refused(config(tmp_path / "own", "motion.system=articulator"))
    assert "provides expnet" in problem and "take articulator" in problem
    packs.settle(config(folder, "motion.system=articulator", "face.backend=face_alignment"), [clip()])


@pytest.mark.parametrize(
    ("word", "spoken", "advice"),
    [
        ("renderer=facevid2vid", "'articulator' speaks the coefficient space 'open'", "systems of 'bfm': sadtalker"),
        (
            "motion.system=sadtalker",
            "'sadtalker' speaks the coefficient space 'bfm'",
            "renderers of 'bfm': facevid2vid",
        ),
    ],
)
def test_spaces_don_t_mix(folder: Path, word: str, spoken: str, advice: str):
    (problem,) = refused(config(folder, word))
    assert spoken in problem and advice in problem and "change one of the two" in problem


def test_own_weights_of_the_open_space_move_the_shipped_renderer(tmp_path: Path):
    write_pack(tmp_path / "own", ("expnet", "posevae"), space="open")
    settled = packs.settle(config(tmp_path / "own", "motion.system=sadtalker"), [clip()])
    assert packs.space_of(settled) == "open"


def test_own_weights_go_before_those_that_ship(tmp_path: Path):
    own = tmp_path / "own"
    write_pack(own, ("articulator",), space="open")
    settled = packs.settle(config(own, "motion.system=articulator"), [clip()])
    pack = packs.open_pack(settled)
    assert pack.path("articulator") == own / "articulator.safetensors"
    assert pack.path("expnet") == SHIPPED / "expnet.safetensors", "what it lacks comes with the program"
    assert settled.weights_with("articulator").startswith("own@")
    MotionStage(settled)

    foreign = packs.settle(config(write_pack(tmp_path / "bfm").where, "motion.system=articulator", *ALIGNED), [clip()])
    taken = packs.pack_for(registry.MOTION_SYSTEMS["articulator"], foreign.motion_pack, foreign)
    assert taken is shipped_pack(), "numbers of another space are of no use"


def test_what_a_pack_lacks_is_told_at_once(tmp_path: Path):
    write_pack(tmp_path / "part", ("expnet", "generator_256", "keypoints_256", "mapping_crop"))
    problems = refused(config(tmp_path / "part"), clip(), clip(size=512), clip(framing="full"))
    told = "\n".join(problems)
    assert len(problems) == 5
    assert "has no posevae, which motion.system=sadtalker needs" in told
    assert "has no recon, which the space bfm needs" in told
    assert "has no generator_512, which renderer=facevid2vid with controls.size=512" in told
    assert "has no mapping_full, which renderer=facevid2vid with controls.size=256, controls.framing=full" in told


def test_a_damaged_file_is_found_before_anything_starts(folder: Path):
    (folder / "posevae.safetensors").write_bytes(b"")
    (problem,) = refused(config(folder))
    assert "posevae.safetensors has the SHA-256" in problem and "import the weights again" in problem
    (folder / DECLARATION).unlink()
    (problem,) = refused(config(folder))
    assert "is no pack" in problem


def test_controls_that_a_motion_system_doesn_t_know(folder: Path):
    asked = clip(pose={"style": 3, "reference": "nod.mp4"}), clip(blink={"reference": "blink.mp4"})
    problems = refused(load_config(["manifest=m"]), *asked)
    assert [problem.partition(" ")[0] for problem in problems] == [
        "controls.pose.style",
        "controls.pose.reference",
        "controls.blink.reference",
    ]
    assert all("'articulator' doesn't know it; systems that do: sadtalker" in problem for problem in problems)
    packs.settle(config(folder), asked)


def test_an_enhancer_that_can_t_be_loaded():
    (problem,) = refused(load_config(["manifest=m", "enhancer=nowhere:sharpen"]))
    assert problem.startswith("enhancer=nowhere:sharpen can't be loaded, it must be package.module:function")
    packs.settle(load_config(["manifest=m", "enhancer=numpy:flip"]), [clip()])


# ---- face detectors


def test_detectors_of_a_pack_get_the_names_that_their_library_wants(folder: Path, monkeypatch: pytest.MonkeyPatch):
    words = (*NEURAL, "face.backend=face_alignment")
    assert packs.detector_folder(packs.settle(config(folder, *words), [clip()])) is None, "the pack has none"
    monkeypatch.setattr(packs, "DETECTORS", {"expnet": "one.pth", "recon": "two.pth.tar"})
    settled = packs.settle(config(folder, *words), [clip()])
    for _ in range(2):
        found = packs.detector_folder(settled)
        assert found is not None
        assert (Path(found) / "one.pth").read_bytes() == (folder / "expnet.safetensors").read_bytes()
    assert (
        packs.detector_folder(settled.model_copy(update={"face": settled.face.model_copy(update={"weights": "x"})}))
        == "x"
    )
    assert packs.detector_folder(packs.settle(config(folder), [clip()])) is None
