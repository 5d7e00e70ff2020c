"""Runners of SadTalker's renderer: face-vid2vid, the mapping network and the face reconstruction."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.facevid2vid.generator import Generator
from models.facevid2vid.keypoints import Angles, Head, HeadEstimator, KeypointDetector, angles, place, rotation
from models.facevid2vid.motion import DenseMotion
from models.facevid2vid.painter import Painter
from models.sadtalker.mapping import MappingNet
from models.sadtalker.recon import ReconNet
from models.sadtalker.windows import coefficient_windows
from tests.parity.golden import Golden, Named
from tests.parity.registry import Limit, Outputs, runner

THINNED = re.compile(r"(\w+)_s(\d+)")  # an output of which every so many samples are stored
MAPS = {"deformation": slice(1, 4), "decoder_in": slice(2, 4), "mask": slice(2, 5)}  # axes that are thinned out


def motion_sizes(args: Mapping[str, Any]) -> dict[str, int]:
    return {
        "width": args["block_expansion"],
        "max_width": args["max_features"],
        "blocks": args["num_blocks"],
        "compress": args["compress"],
    }


def build_generator(args: Mapping[str, Any]) -> Generator:
    decoder = Named("decoder's argument", args.get("decoder") or {})
    motion = Named("motion network's argument", args["dense_motion_params"])
    return Generator(
        keypoints=args["num_kp"],
        width=args["block_expansion"],
        max_width=args["max_features"],
        halvings=args["num_down_blocks"],
        channels=args["reshape_channel"],
        depth=args["reshape_depth"],
        resblocks=args["num_resblocks"],
        motion=motion_sizes(motion),
        decoder={"outside": decoder["out_channels"], "hidden": decoder["spade_hidden"]} if decoder else {},
    )


def build_detector(args: Mapping[str, Any]) -> KeypointDetector:
    return KeypointDetector(
        keypoints=args["num_kp"],
        width=args["block_expansion"],
        max_width=args["max_features"],
        blocks=args["num_blocks"],
        depth=args["reshape_depth"],
        temperature=args["temperature"],
        shrink=round(1 / args["scale_factor"]),
    )


def build_mapping(args: Mapping[str, Any]) -> MappingNet:
    return MappingNet(
        coefficients=args["coeff_nc"],
        width=args["descriptor_nc"],
        layers=args["layer"],
        keypoints=args["num_kp"],
        bins=args["num_bins"],
    )


def nested(golden: Golden, name: str) -> Mapping[str, Any]:
    """Arguments of one of several networks of a golden."""
    return Named(f"argument of '{name}'", golden.args[name])


def pictures(golden: Golden) -> Tensor:
    """Pictures of a golden in 0 .. 1, shape (B, 3, H, W)."""
    for name in ("image", "source_image"):
        if name in golden.inputs:
            return golden.inputs[name]
    return golden.inputs["image_u8"].float() / 255


def head_outputs(head: Head) -> Outputs:
    return {"yaw": head.yaw, "pitch": head.pitch, "roll": head.roll, "t": head.translation, "exp": head.expression}


@runner("dense_motion")
def run_dense_motion(golden: Golden) -> Outputs:
    args, given = golden.args, golden.inputs
    network = DenseMotion(args["num_kp"], args["feature_channel"], args["reshape_depth"], **motion_sizes(args))
    golden.fill(network)
    flow = network(given["feature"], given["kp_source"], given["kp_driving"])
    return {"mask": flow.mask, "deformation": flow.deformation, "occlusion_map": flow.occlusion}


# Dropping weights below a threshold is not continuous: single pixels differ between any two orders of summation, so
# that the largest error says little.
@runner("spade_generator", "full_generator", "generator", limits={"prediction": Limit(mean=2e-4)})
def run_generator(golden: Golden) -> Outputs:
    network, given = build_generator(golden.args), golden.inputs
    golden.fill(network)
    painted = network(pictures(golden), given["kp_source"], given["kp_driving"])
    maps = {"deformation": painted.flow.deformation, "decoder_in": painted.steer, "mask": painted.flow.mask}
    outputs = {
        "prediction": painted.frame,
        "occlusion_map": painted.flow.occlusion,
        "mask_mean": painted.flow.mask.mean((2, 3, 4)),
        **maps,
    }
    for name in golden.outputs:
        if (thinned := THINNED.fullmatch(name)) and thinned[1] in maps:
            whole, axes = maps[thinned[1]], MAPS[thinned[1]]
            every = [slice(None)] * whole.ndim
            every[axes] = [slice(None, None, int(thinned[2]))] * (axes.stop - axes.start)
            outputs[name] = whole[tuple(every)]
    return outputs


@runner("kp_detector", "full_kp_extractor", "kp_extractor")
def run_detector(golden: Golden) -> Outputs:
    network, image = build_detector(golden.args), pictures(golden)
    golden.fill(network)
    return {"kp": network(image), "down": network.down(image)}


@runner("full_he_estimator", "he_estimator")
def run_estimator(golden: Golden) -> Outputs:
    args = golden.args
    network = HeadEstimator(args["num_kp"], args["block_expansion"], args["max_features"], args["num_bins"])
    golden.fill(network)
    return head_outputs(network(pictures(golden)))


@runner("kp_transform")
def run_placing(golden: Golden) -> Outputs:
    """In the inputs' own precision: there are no weights."""
    given = golden.exact_inputs
    head = Head(given["yaw"], given["pitch"], given["roll"], given["t"], given["exp"])
    turn = angles(head)
    expressionless = head._replace(expression=torch.zeros_like(head.expression))
    forced = Angles(*(given.get(f"{name}_in", angle) for name, angle in turn._asdict().items()))
    return {
        "deg_yaw": turn.yaw,
        "deg_pitch": turn.pitch,
        "deg_roll": turn.roll,
        "rot": rotation(turn),
        "kp": place(given["kp"], head),
        "kp_override": place(given["kp"], head, forced),
        "kp_no_exp": place(given["kp"], expressionless),
    }


@runner("mapping", "full_mapping_109", "full_mapping_229", "full_mapping")
def run_mapping(golden: Golden) -> Outputs:
    network = build_mapping(golden.args)
    golden.fill(network)
    return head_outputs(network(golden.inputs["semantics"]))


@runner("full_face_3drecon", "face_3drecon")
def run_reconstruction(golden: Golden) -> Outputs:
    first = golden.state.get("backbone.conv1.weight")
    network = ReconNet() if first is None else ReconNet(len(first))
    golden.fill(network)
    return {"coeff257": network(pictures(golden))}


@runner("make_animation")
def run_animation(golden: Golden) -> Outputs:
    """The whole of the fast path: frames of a clip from coefficients, and with the head turned by other angles.

    Of the clip's frames, the golden may hold the first ones only.
    """
    given = golden.inputs
    generator, detector, mapping = (
        build_generator(nested(golden, "generator")),
        build_detector(nested(golden, "kp_detector")),
        build_mapping(nested(golden, "mapping")),
    )
    if any(name.startswith("generator.") for name in golden.state):
        golden.fill(generator, "generator.")
    else:
        golden.sibling("spade_generator").fill(generator)
    golden.fill(detector, "kp_extractor.")
    golden.fill(mapping, "mapping.")
    painter = Painter(generator)
    image, source = given["source_image"][:1], given["source_semantics"][:1]
    canonical = detector(image)
    look = painter.look(image, place(canonical, mapping(source)))
    rows = given["coeffs"].numpy()
    heads = mapping(torch.from_numpy(coefficient_windows(rows, np.arange(len(rows)), source.shape[2] // 2)))

    def paint(frame: int, turn: dict[str, Tensor]) -> Tensor:
        head = one(heads, frame)
        return painter(look, place(canonical, head, angles(head)._replace(**turn)))[0]

    outputs = {}
    for name, stored in golden.outputs.items():
        turned = name.removeprefix("frames").removeprefix("_").split("_")
        # the clip's frames lie in the strips one after the other
        tracks = {axis: given[f"{axis}_c_seq"].flatten() for axis in turned if axis}
        frames = [paint(t, {axis: track[t : t + 1] for axis, track in tracks.items()}) for t in range(len(stored))]
        outputs[name] = torch.stack(frames)
    return outputs


def one(heads: Head, frame: int) -> Head:
    """The head of one frame."""
    return Head(*(part[frame : frame + 1] for part in heads))
