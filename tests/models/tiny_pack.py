"""Packs of tiny networks with random weights, and the same networks in the shape of the published files."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from models.articulator.network import Articulator
from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import KeypointDetector
from models.packs import Pack, Provided, sha256_of, write_declaration
from models.sadtalker.mapping import ALIGNED_COEFFICIENTS, MappingNet
from models.sadtalker.recon import ReconNet
from tests.models.sadtalker.sounds import networks

KEYPOINTS = 3
MOTION = {"width": 2, "max_width": 4, "blocks": 2, "compress": 2}
GENERATOR = {
    "keypoints": KEYPOINTS,
    "width": 4,
    "max_width": 8,
    "channels": 2,
    "depth": 4,
    "resblocks": 1,
    "motion": MOTION,
    "decoder": {"outside": 4, "hidden": 4},
}
DETECTOR = {"keypoints": KEYPOINTS, "width": 2, "max_width": 4, "blocks": 2, "depth": 4}
MAPPING = {"width": 8, "keypoints": KEYPOINTS}
SIZES = {
    "generator_256": GENERATOR,
    "keypoints_256": DETECTOR,
    "generator_512": GENERATOR,
    "keypoints_512": DETECTOR,
    "mapping_crop": MAPPING,
    "mapping_full": {**MAPPING, "coefficients": ALIGNED_COEFFICIENTS},
    "recon": {"width": 2},
    "expnet": {},  # these tell their sizes by their weights
    "posevae": {},
    "articulator": {},
}
PUBLISHED = tuple(name for name in SIZES if name != "articulator")
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "generator_256": lambda: Generator(**GENERATOR),
    "keypoints_256": lambda: KeypointDetector(**DETECTOR),
    "generator_512": lambda: Generator(**GENERATOR),
    "keypoints_512": lambda: KeypointDetector(**DETECTOR),
    "mapping_crop": lambda: MappingNet(**MAPPING),
    "mapping_full": lambda: MappingNet(**SIZES["mapping_full"]),
    "recon": lambda: ReconNet(width=2),
    "expnet": lambda: networks(official=True)[0],
    "posevae": lambda: networks(official=True)[1],
    "articulator": lambda: Articulator(width=8, members=1),
}


def network(name: str, seed: int = 0) -> nn.Module:
    """A tiny one, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BUILDERS[name]().eval()


def write_pack(folder: Path, names: tuple[str, ...] = PUBLISHED, space: str = "bfm", name: str = "tiny") -> Pack:
    """A pack of some of the networks."""
    folder.mkdir(parents=True, exist_ok=True)
    provides = {}
    for each in names:
        file = f"{each}.safetensors"
        save_file({key: t.contiguous().clone() for key, t in network(each).state_dict().items()}, folder / file)
        provides[each] = Provided(file, sha256_of(folder / file), SIZES[each], source="random")
    return write_declaration(
        folder,
        name=name,
        space=space,
        licence="CC0-1.0",
        licence_text="No rights reserved.",
        provides=provides,
        published=space == "bfm",
    )


def write_published(folder: Path, seed: int = 0) -> dict[str, Path]:
    """The networks as the files of both published sets hold them; by the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {name: network(name, seed).state_dict() for name in PUBLISHED}
    prefixes = {"audio2exp": "expnet", "audio2pose": "posevae", "face_3drecon": "recon"}
    for side in (256, 512):
        inside = {**prefixes, "generator": f"generator_{side}", "kp_extractor": f"keypoints_{side}"}
        flat = {f"{p}.{key}": t.clone() for p, name in inside.items() for key, t in states[name].items()}
        save_file(flat, folder / f"SadTalker_V0.0.2_{side}.safetensors")
    torches = {
        "mapping_00229-model.pth.tar": {"mapping": states["mapping_crop"], "epoch": 229},
        "mapping_00109-model.pth.tar": {"mapping": states["mapping_full"]},
        "auido2exp_00300-model.pth": {"model": states["expnet"], "epoch": 300},
        "auido2pose_00140-model.pth": {"model": states["posevae"]},
        "facevid2vid_00189-model.pth.tar": {
            "generator": states["generator_256"],
            "kp_detector": states["keypoints_256"],
        },
        "epoch_20.pth": {"net_recon": states["recon"]},
    }
    for name, content in torches.items():
        torch.save(content, folder / name)
    return {path.name: path for path in folder.iterdir()}
