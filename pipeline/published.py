"""SadTalker's published files, as users have them, into a pack and back.

Files are told apart by what is in them. What each network must hold follows from our own networks at their published
sizes, built without memory for their weights. **The published files themselves have not been seen here**: names and
shapes are those that the published program implies.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoint import Differences, compare, parts_of, read_state
from models.errors import WeightsError
from models.facespace.face_model import FaceModelError, is_face_model_file, read_face_model
from models.packs import DECLARATION, Declaration, Pack, PackError, Provided, sha256_of, write_declaration
from models.sadtalker.mapping import ALIGNED_COEFFICIENTS
from pipeline.errors import SetupError
from pipeline.packs import DETECTORS

NAME, SPACE, TERMS = "sadtalker", "bfm", "Apache-2.0 but for third-party parts; face model: research only"
LICENCE_TEXT = Path(__file__).resolve().parent.parent / "models" / "weights" / "licences" / "sadtalker.txt"
FACE_MODEL = "face_model"
RELEASES = "the releases of github.com/OpenTalker/SadTalker"
FACE_ALIGNMENT = "https://www.adrianbulat.com/downloads/python-fan"


@dataclass(frozen=True)
class Network:
    """A network that a pack may provide.

    Args:
        build: at its published sizes.
        files: where it is published.
        used_for: what needs it.
        optional: beginnings of names that a file may lack.
        torch_file: name under which a library that reads the file itself wants it; empty for our own networks.
    """

    build: Callable[[], nn.Module]
    files: str
    used_for: str
    optional: tuple[str, ...] = ()
    torch_file: str = ""


def _generator() -> nn.Module:
    from models.facevid2vid.generator import Generator

    return Generator()


def _keypoints() -> nn.Module:
    from models.facevid2vid.keypoints import KeypointDetector

    return KeypointDetector()


def _head_estimator() -> nn.Module:
    from models.facevid2vid.keypoints import HeadEstimator

    return HeadEstimator()


def _mapping_crop() -> nn.Module:
    from models.sadtalker.mapping import MappingNet

    return MappingNet()


def _mapping_full() -> nn.Module:
    from models.sadtalker.mapping import MappingNet

    return MappingNet(ALIGNED_COEFFICIENTS)


def _expnet() -> nn.Module:
    from models.sadtalker.expnet import ExpNet

    return ExpNet()


def _posevae() -> nn.Module:
    from models.sadtalker.posevae import PoseVAE

    return PoseVAE(official=True)


def _recon() -> nn.Module:
    from models.sadtalker.recon import ReconNet

    return ReconNet()


def _s3fd() -> nn.Module:
    from face_alignment.detection.sfd.net_s3fd import s3fd

    return s3fd()


def _fan() -> nn.Module:
    from face_alignment.models import FAN

    return FAN(4)


FLAT = "SadTalker_V0.0.2_256.safetensors"
FLAT_512 = "SadTalker_V0.0.2_512.safetensors"
OLD_RENDERER = "facevid2vid_00189-model.pth.tar"
NETWORKS = {
    "expnet": Network(_expnet, f"{FLAT} or auido2exp_00300-model.pth", "motion.system=sadtalker"),
    "posevae": Network(_posevae, f"{FLAT} or auido2pose_00140-model.pth", "motion.system=sadtalker", ("netD_motion.",)),
    "recon": Network(_recon, f"{FLAT} or epoch_20.pth", "fitting faces in the space bfm"),
    "generator_256": Network(_generator, f"{FLAT} or {OLD_RENDERER}", "renderer=facevid2vid, controls.size=256"),
    "keypoints_256": Network(_keypoints, f"{FLAT} or {OLD_RENDERER}", "renderer=facevid2vid, controls.size=256"),
    "generator_512": Network(_generator, FLAT_512, "renderer=facevid2vid, controls.size=512"),
    "keypoints_512": Network(_keypoints, FLAT_512, "renderer=facevid2vid, controls.size=512"),
    "mapping_crop": Network(_mapping_crop, "mapping_00229-model.pth.tar", "framings crop, extcrop, resize"),
    "mapping_full": Network(_mapping_full, "mapping_00109-model.pth.tar", "framings full, extfull"),
    "head_estimator": Network(_head_estimator, OLD_RENDERER, "training only"),
    "s3fd": Network(
        _s3fd, f"{FACE_ALIGNMENT}/{DETECTORS['s3fd']}", "face.backend=face_alignment", torch_file=DETECTORS["s3fd"]
    ),
    "fan": Network(
        _fan,
        f"{FACE_ALIGNMENT}/{DETECTORS['fan']}",
        "face.backend=face_alignment",
        torch_file=DETECTORS["fan"],
    ),
}
# beginnings of names in the flat files; {side} is what the file's name says
FLAT_PREFIXES = {
    "audio2exp.": "expnet",
    "audio2pose.": "posevae",
    "face_3drecon.": "recon",
    "generator.": "generator_{side}",
    "kp_extractor.": "keypoints_{side}",
}
PARTS = {
    "generator": "generator_256",
    "kp_detector": "keypoints_256",
    "he_estimator": "head_estimator",
    "net_recon": "recon",
}


@dataclass(frozen=True)
class Found:
    """A network in a file.

    Args:
        network: key of `NETWORKS`.
        path: of the file.
        part, prefix: where in it, as `models.checkpoint.read_state` wants it.
        tensors: their number.
        differences: from what the network must hold.
    """

    network: str
    path: Path
    part: str
    prefix: str
    tensors: int
    differences: Differences

    def read(self) -> dict[str, Tensor]:
        return read_state(self.path, self.part or "state_dict", self.prefix)


@dataclass
class Inventory:
    """What a set of files holds.

    Args:
        found: networks, in the order of the files.
        face_model: folder with files of the Basel face model, if there are any.
        problems: files that can't be used, a sentence each.
    """

    found: list[Found] = field(default_factory=list)
    face_model: Path | None = None
    problems: list[str] = field(default_factory=list)


def take_stock(files: Iterable[Path]) -> Inventory:
    """Look into files, and into the files of folders."""
    inventory = Inventory()
    for path in _opened_up(files, inventory.problems):
        if is_face_model_file(path):
            inventory.face_model = path.parent
            continue
        try:
            inventory.found += _networks_in(path)
        except WeightsError as error:
            inventory.problems.append(str(error))
    inventory.problems += [
        f"{item.path}: {item.network} is not complete: {item.differences}"
        for item in inventory.found
        if item.differences
    ]
    return inventory


def import_sadtalker(files: Iterable[Path], folder: Path, tell: Callable[[str], None]) -> Pack:
    """Make a pack of published files, or add to the pack that is there.

    Args:
        files: in any order; folders are looked into. Of a network that several files hold, the first counts.
        folder: of the pack.
        tell: is given a line per network, and what the pack still lacks.
    Raises:
        SetupError: files that can't be used, with what is missing in them; nothing was written.
    """
    inventory = take_stock(files)
    problems = list(inventory.problems)
    face_model = None
    if inventory.face_model:
        try:
            face_model = read_face_model(inventory.face_model)
        except FaceModelError as error:
            problems.append(str(error))
    before = _already(folder, problems)
    if not problems and not inventory.found and face_model is None:
        problems.append("no weights in these files")
    if problems:
        raise SetupError(problems)
    folder.mkdir(parents=True, exist_ok=True)
    provides: dict[str, Provided] = {}
    hashes: dict[Path, str] = {}
    for item in inventory.found:
        if item.network in provides:
            tell(f"{item.network}: also in {item.path.name}, left there; taken from {provides[item.network].source}")
            continue
        hashes[item.path] = hashes.get(item.path) or sha256_of(item.path)
        provides[item.network] = _store(item, folder, hashes[item.path])
        tell(f"{item.network}: {item.tensors} tensors of {item.path.name}")
    if face_model is not None:
        file = f"{FACE_MODEL}.safetensors"
        face_model.save(folder / file)
        provides[FACE_MODEL] = Provided(file, sha256_of(folder / file), source=str(face_model.source))
        mouth = " and the mouth" if face_model.mouth else ""
        tell(f"{FACE_MODEL}: 68 landmarks{mouth} of {face_model.source}")
    pack = write_declaration(
        folder,
        name=NAME,
        space=SPACE,
        licence=TERMS,
        licence_text=LICENCE_TEXT.read_text("utf-8"),
        provides={**before, **provides},
        published=True,
    )
    for name in lacking(pack):
        tell(f"still lacking {name}, for {NETWORKS[name].used_for}: {NETWORKS[name].files}, from {source_of(name)}")
    return pack


def lacking(pack: Pack) -> list[str]:
    """Networks that something in a render job may ask a published pack for and that it doesn't have."""
    return [name for name, network in NETWORKS.items() if name not in pack and network.used_for != "training only"]


def source_of(name: str) -> str:
    """Where users get a network."""
    return FACE_ALIGNMENT if NETWORKS[name].torch_file else RELEASES


def export(pack: Pack, folder: Path, tell: Callable[[str], None]) -> list[Path]:
    """Write a pack's networks as the published program names and packs them, for programs that read those.

    Args:
        folder: is made; files of the same names are replaced.
        tell: is given a line per file.
    Returns:
        The files.
    Raises:
        PackError: the pack's own files are missing or damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def done(file: str, names: Iterable[str]) -> None:
        written.append(folder / file)
        tell(f"{file}: {', '.join(names)}")

    for side, file in (("256", FLAT), ("512", FLAT_512)):
        inside = {prefix: name.format(side=side) for prefix, name in FLAT_PREFIXES.items()}
        inside = {prefix: name for prefix, name in inside.items() if name in pack}
        if f"generator_{side}" in pack or (side == "256" and inside):
            save_file(
                {prefix + key: value for prefix, name in inside.items() for key, value in _state(pack, name).items()},
                folder / file,
            )
            done(file, inside.values())
    for name, file in (
        ("mapping_crop", "mapping_00229-model.pth.tar"),
        ("mapping_full", "mapping_00109-model.pth.tar"),
    ):
        if name in pack:
            torch.save({"mapping": _state(pack, name)}, folder / file)
            done(file, [name])
    for name in (name for name, network in NETWORKS.items() if network.torch_file and name in pack):
        shutil.copyfile(pack.path(name), folder / NETWORKS[name].torch_file)
        done(NETWORKS[name].torch_file, [name])
    (folder / "LICENCE.txt").write_text(pack.licence_text())
    return written


def _opened_up(files: Iterable[Path], problems: list[str]) -> list[Path]:
    """Files, with folders replaced by what is in them."""
    paths: list[Path] = []
    for path in files:
        if path.is_dir():
            paths += sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            paths.append(path)
        else:
            problems.append(f"{path}: no such file")
    return paths


def _networks_in(path: Path) -> list[Found]:
    """Networks of a file. Raises WeightsError if it is no checkpoint, or of none of the known networks."""
    parts = parts_of(path)
    found = [_examined(PARTS[part], path, part, "") for part in parts if part in PARTS]
    if "mapping" in parts:
        state = read_state(path, "mapping")
        width = state["first.0.weight"].shape[1] if "first.0.weight" in state else 0
        name = "mapping_full" if width == ALIGNED_COEFFICIENTS else "mapping_crop"
        found.append(_examined(name, path, "mapping", "", state))
    if "model" in parts or not parts:
        part = "model" if "model" in parts else ""
        found += _flat(path, part, read_state(path, part or "state_dict"))
    if not found:
        raise WeightsError(path, f"holds none of the known networks ({', '.join(NETWORKS)})")
    return found


def _flat(path: Path, part: str, state: Mapping[str, Tensor]) -> list[Found]:
    """Networks of one state dict."""
    side = "512" if "512" in path.name else "256"
    found = [
        _examined(name.format(side=side), path, part, prefix, state)
        for prefix, name in FLAT_PREFIXES.items()
        if any(key.startswith(prefix) for key in state)
    ]
    signs = {"mapping1.weight": "expnet", "netG.decoder.classbias": "posevae"}
    signs |= {"conv3_3_norm.weight": "s3fd", "top_m_0.conv1.weight": "fan"}
    return found + [_examined(name, path, part, "", state) for sign, name in signs.items() if sign in state]


def _examined(name: str, path: Path, part: str, prefix: str, state: Mapping[str, Tensor] | None = None) -> Found:
    state = state if state is not None else read_state(path, part)
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    with torch.device("meta"):
        network = NETWORKS[name].build()
    return Found(name, path, part, prefix, len(own), compare(network, own, NETWORKS[name].optional))


def _store(item: Found, folder: Path, source_sha256: str) -> Provided:
    torch_file = NETWORKS[item.network].torch_file
    file = torch_file or f"{item.network}.safetensors"
    temporary = folder / f".{file}"
    if torch_file:
        shutil.copyfile(item.path, temporary)
    else:
        save_file({name: tensor.contiguous().clone() for name, tensor in item.read().items()}, temporary)
    temporary.replace(folder / file)
    return Provided(file, sha256_of(folder / file), source=item.path.name, source_sha256=source_sha256)


def _already(folder: Path, problems: list[str]) -> Mapping[str, Provided]:
    """What the pack in a folder provides already."""
    if not (folder / DECLARATION).exists():
        return {}
    try:
        made = Declaration.loads((folder / DECLARATION).read_bytes(), str(folder))
    except PackError as error:
        problems.append(str(error))
        return {}
    if (made.name, made.published) != (NAME, True):
        problems.append(f"{folder} is the pack {made.name!r}; name another folder with out=")
    return made.provides


def _state(pack: Pack, name: str) -> dict[str, Any]:
    return read_state(pack.path(name))
