"""Runners of SadTalker's renderer: face-vid2vid, the mapping network and the face reconstruction."""

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
from tests.parity.golden import Golden
from tests.parity.registry import Limit, Outputs, runner

EVERY = 4  # samples of a size that is stored thinned out


def motion_sizes(args: Mapping[str, Any]) -> dict[str, int]:
    return {
        "width": args["block_expansion"],
        "max_width": args["max_features"],
        "blocks": args["num_blocks"],
        "compress": args["compress"],
    }


def build_generator(args: Mapping[str, Any]) -> Generator:
    decoder = args.get("decoder", {})
    return Generator(
        keypoints=args["num_kp"],
        width=args["block_expansion"],
        max_width=args["max_features"],
        halvings=args["num_down_blocks"],
        channels=args["reshape_channel"],
        depth=args["reshape_depth"],
        resblocks=args["num_resblocks"],
        motion=motion_sizes(args["dense_motion_params"]),
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


def picture(golden: Golden) -> Tensor:
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


@runner("spade_generator")
def run_generator(golden: Golden) -> Outputs:
    network, given = build_generator(golden.args), golden.inputs
    golden.fill(network)
    painted = network(given["source_image"], given["kp_source"], given["kp_driving"])
    return {"prediction": painted.frame, "mask": painted.flow.mask, "occlusion_map": painted.flow.occlusion}


# Dropping weights below a threshold is not continuous: single pixels differ between any two orders of summation, so
# that the largest error says little.
@runner("full_generator", limits={"prediction": Limit(mean=2e-4)})
def run_full_generator(golden: Golden) -> Outputs:
    network, given = build_generator(golden.args), golden.inputs
    golden.fill(network)
    painted = network(picture(golden), given["kp_source"], given["kp_driving"])
    return {
        "prediction": painted.frame,
        "occlusion_map": painted.flow.occlusion,
        "mask_mean": painted.flow.mask.mean((2, 3, 4)),
        "deformation_s4": painted.flow.deformation[:, ::EVERY, ::EVERY, ::EVERY],
        "decoder_in_s4": painted.steer[:, :, ::EVERY, ::EVERY],
    }


@runner("kp_detector", "full_kp_extractor")
def run_detector(golden: Golden) -> Outputs:
    network = build_detector(golden.args)
    golden.fill(network)
    if "image" not in golden.inputs:
        return {"kp": network(picture(golden))}
    image = golden.inputs["image"]
    return {"kp": network(image), "down": network.down(image)}


@runner("full_he_estimator")
def run_estimator(golden: Golden) -> Outputs:
    args = golden.args
    network = HeadEstimator(args["num_kp"], args["block_expansion"], args["max_features"], args["num_bins"])
    golden.fill(network)
    return head_outputs(network(picture(golden)))


@runner("kp_transform")
def run_placing(golden: Golden) -> Outputs:
    given = golden.inputs
    head = Head(given["yaw"], given["pitch"], given["roll"], given["t"], given["exp"])
    turn = angles(head)
    expressionless = head._replace(expression=torch.zeros_like(head.expression))
    forced = Angles(given["yaw_in"], given["pitch_in"], given["roll_in"])
    return {
        "deg_yaw": turn.yaw,
        "deg_pitch": turn.pitch,
        "deg_roll": turn.roll,
        "rot": rotation(turn),
        "kp": place(given["kp"], head),
        "kp_override": place(given["kp"], head, forced),
        "kp_no_exp": place(given["kp"], expressionless),
    }


@runner("mapping", "full_mapping_109", "full_mapping_229")
def run_mapping(golden: Golden) -> Outputs:
    network = build_mapping(golden.args)
    golden.fill(network)
    return head_outputs(network(golden.inputs["semantics"]))


@runner("full_face_3drecon")
def run_reconstruction(golden: Golden) -> Outputs:
    network = ReconNet()
    golden.fill(network)
    return {"coeff257": network(picture(golden))}


@runner("make_animation")
def run_animation(golden: Golden) -> Outputs:
    """The whole of the fast path: frames of a clip from coefficients."""
    args, given = golden.args, golden.inputs
    generator, detector, mapping = (
        build_generator(args["generator"]),
        build_detector(args["kp_detector"]),
        build_mapping(args["mapping"]),
    )
    golden.sibling("spade_generator").fill(generator)
    golden.fill(detector, "kp_extractor.")
    golden.fill(mapping, "mapping.")
    painter = Painter(generator)
    canonical = detector(given["source_image"])
    look = painter.look(given["source_image"], place(canonical, mapping(given["source_semantics"][:1])))
    rows = given["coeffs"].numpy()
    heads = mapping(torch.from_numpy(coefficient_windows(rows, np.arange(len(rows)))))
    frames = [painter(look, place(canonical, one(heads, t)))[0] for t in range(len(rows))]
    # the clip's frames lie in the strips one after the other
    yaw_T = given["yaw_c_seq"].flatten()[: len(golden.outputs["frames_yaw"])]
    turned = [
        painter(look, place(canonical, one(heads, t), angles(one(heads, t))._replace(yaw=yaw[None])))[0]
        for t, yaw in enumerate(yaw_T)
    ]
    return {"frames": torch.stack(frames), "frames_yaw": torch.stack(turned)}


def one(heads: Head, frame: int) -> Head:
    """The head of one frame."""
    return Head(*(part[frame : frame + 1] for part in heads))
