"""Names of motion systems and renderers, the coefficient space each one speaks, and how to build it.

Importing this module is cheap: a builder imports what it builds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.controls import Controls
from models.interfaces import MotionSystem, Renderer
from models.packs import Pack, shipped_pack

if TYPE_CHECKING:
    from models.facespace.bfm import BfmSpace

REVISION = 6  # raise it when a change in models/ changes frames: finished clips of older revisions are made again
OPEN = "open"  # the pack that ships


def _nothing(pack: Pack, controls: Controls) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Entry:
    """One name.

    Args:
        space: coefficient space, "open" or "bfm"; None: that of the pack it is built from.
        build: makes the object; renderers get `device`, "cpu" or "cuda". What needs networks also gets the `pack` that
            has them, and a renderer of that kind the clip's `controls`.
        needs: networks that it takes from a pack for a clip with certain controls.
        understands: names of `Controls.special` that a motion system heeds.
        context: frames of motion on either side that a renderer's frame depends on.
        tight: whether a renderer knows faces as squares cut closely around them, which is how it is then given them.
    """

    space: str | None
    build: Callable[..., Any]
    needs: Callable[[Pack, Controls], tuple[str, ...]] = _nothing
    understands: tuple[str, ...] = ()
    context: int = 0
    tight: bool = False

    @property
    def takes_weights(self) -> bool:
        """Whether it is built from a pack."""
        return self.needs is not _nothing

    def space_in(self, pack: Pack) -> str:
        """Its coefficient space with a pack."""
        return self.space or pack.space

    def pack_in(self, pack: Pack) -> Pack:
        """The pack that it takes its networks from in a job with a pack: that one, unless it is of another space."""
        return pack if self.space_in(pack) == pack.space else shipped_pack()


def _envelope() -> MotionSystem:
    from models.envelope import EnvelopeMotion

    return EnvelopeMotion()


def _articulator(pack: Pack) -> MotionSystem:
    from models.articulator.motion import ArticulatorMotion

    return ArticulatorMotion.load(pack.path("articulator"))


def _articulator_needs(pack: Pack, controls: Controls) -> tuple[str, ...]:
    return ("articulator",)


def _mesh(device: str) -> Renderer:
    from models.mesh.renderer import MeshRenderer

    return MeshRenderer(device=device)


def _sadtalker(pack: Pack) -> MotionSystem:
    from models.sadtalker.expnet import ExpNet
    from models.sadtalker.motion import SadTalkerMotion
    from models.sadtalker.posevae import PoseVAE

    expnet, posevae = (
        ExpNet.load(pack.path("expnet")),
        PoseVAE.load(pack.path("posevae"), official=pack.published),
    )
    return SadTalkerMotion(expnet, posevae, space=pack.space, official=pack.published)


def _sadtalker_needs(pack: Pack, controls: Controls) -> tuple[str, ...]:
    return ("expnet", "posevae")


def _facevid2vid(device: str, pack: Pack, controls: Controls) -> Renderer:
    from models.checkpoint import load_strict
    from models.facevid2vid.generator import Generator
    from models.facevid2vid.inference import Animator
    from models.facevid2vid.keypoints import KeypointDetector
    from models.facevid2vid.renderer import FaceVid2VidRenderer
    from models.sadtalker.mapping import ALIGNED_COEFFICIENTS, COEFFICIENTS, MappingNet

    names = generator_name, detector_name, mapping_name = _facevid2vid_needs(pack, controls)
    coefficients = ALIGNED_COEFFICIENTS if mapping_name == "mapping_full" else COEFFICIENTS
    generator = Generator(**pack.sizes(generator_name))
    detector = KeypointDetector(**pack.sizes(detector_name))
    mapping = MappingNet(**{"coefficients": coefficients, **pack.sizes(mapping_name)})
    for name, network in zip(names, (generator, detector, mapping)):
        load_strict(network, pack.path(name))
    animator = Animator(generator, detector, mapping, device=device)
    side = _facevid2vid_side(pack, controls)
    return FaceVid2VidRenderer(animator, space=pack.space, side=side, official=pack.published)


def _facevid2vid_side(pack: Pack, controls: Controls) -> int:
    """Pixels of the networks' square: the clip's size, or what comes nearest among networks of an own training."""
    from models.facevid2vid.sizes import SIDES

    trained = [] if pack.published else [side for side in SIDES if f"generator_{side}" in pack]
    return min(trained, key=lambda side: abs(side - controls.size), default=controls.size)


def _facevid2vid_needs(pack: Pack, controls: Controls) -> tuple[str, ...]:
    is_put_back = controls.framing in ("full", "extfull")
    mapping = "mapping_full" if is_put_back and (pack.published or "mapping_full" in pack) else "mapping_crop"
    side = _facevid2vid_side(pack, controls)
    return (f"generator_{side}", f"keypoints_{side}", mapping)


def build_bfm(pack: Pack) -> "BfmSpace":
    """The face space "bfm" of a pack that provides what `BFM_NEEDS` names."""
    from models.checkpoint import load_strict
    from models.facespace.bfm import BfmSpace
    from models.facespace.face_model import FaceModel
    from models.sadtalker.recon import ReconNet

    recon = ReconNet(**pack.sizes("recon"))
    load_strict(recon, pack.path("recon"))
    return BfmSpace(recon, FaceModel.load(pack.path("face_model")) if "face_model" in pack else None)


def build_motion_system(name: str, pack: Pack | None = None) -> MotionSystem:
    """A motion system with the networks of a pack; default: those that ship.

    Raises:
        KeyError: no such motion system.
        PackError, models.errors.WeightsError: the pack lacks a network, or its file can't be used.
    """
    entry = MOTION_SYSTEMS[name]
    return entry.build(pack=entry.pack_in(pack or shipped_pack())) if entry.takes_weights else entry.build()


BFM_NEEDS = ("recon",)
MOTION_SYSTEMS: dict[str, Entry] = {
    "articulator": Entry("open", _articulator, _articulator_needs),
    "envelope": Entry("open", _envelope),
    "sadtalker": Entry(
        None, _sadtalker, _sadtalker_needs, understands=("pose.style", "pose.reference", "blink.reference")
    ),
}
RENDERERS: dict[str, Entry] = {
    "mesh": Entry("open", _mesh),
    "facevid2vid": Entry(None, _facevid2vid, _facevid2vid_needs, context=13, tight=True),
}
