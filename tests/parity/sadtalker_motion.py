"""Runners of what SadTalker hears and how it moves: mel front end, ExpNet, PoseVAE, alignment and windows.

Legend: B clips, T frames.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from models.facespace.alignment5 import SCALE_PX, SIDE, align, fit_camera, five_points, flip
from models.interfaces import EXPRESSION, POSE
from models.sadtalker import expnet, posevae
from models.sadtalker.audio_encoder import PAPER_CHANNELS
from models.sadtalker.chunks import decode_in_turn, smooth
from models.sadtalker.expnet import ExpNet
from models.sadtalker.posevae import PoseVAE
from models.sadtalker.tracks import spread_by_travel
from models.sadtalker.windows import RADIUS, coefficient_windows
from pipeline import audio
from pipeline.ffhq import PORTRAIT_SIDE, face_square
from tests.parity.golden import Golden, GoldenError
from tests.parity.registry import Limit, Outputs, runner

FRONT_END = {
    "sample_rate": audio.SAMPLE_RATE,
    "fps": audio.FPS,
    "n_fft": audio.FFT_SAMPLES,
    "hop": audio.HOP_SAMPLES,
    "win": audio.FFT_SAMPLES,
    "n_mels": audio.MELS,
    "fmin": audio.LOWEST_HZ,
    "fmax": audio.HIGHEST_HZ,
    "preemphasis": audio.PREEMPHASIS,
    "ref_level_db": audio.REFERENCE_DB,
    "min_level_db": -audio.RANGE_DB,
    "max_abs": audio.MEL_LIMIT,
}
WINDOWS = re.compile(r"windows((_\d+)+)")  # an output's name says of which frames
CAMERAS = {"cam_1": [15.0], "cam_3": [-20.0, 30.0, 10.0]}  # degrees, which no tensor gives


@runner("mel_frontend", limits={"mel_basis": Limit(atol=1e-8)})
def run_mel_frontend(golden: Golden) -> Outputs:
    """The front end's numbers are fixed: other ones are another front end."""
    if differing := {name: value for name, value in golden.args.items() if FRONT_END.get(name, value) != value}:
        raise GoldenError(f"the golden is of another front end: {differing}")
    outputs: dict[str, Any] = {"mel_basis": audio.mel_filters()}
    for name, tensor in golden.exact_inputs.items():
        if not name.startswith("wav"):
            continue
        suffix, wave = name.removeprefix("wav"), tensor.numpy().reshape(-1)
        frames = len(wave) // audio.SAMPLES_PER_FRAME
        samples = frames * audio.SAMPLES_PER_FRAME

        def read(first: int, last: int, kept=wave[:samples]):
            return kept[first:last]

        outputs |= {
            f"num_frames{suffix}": [frames, samples],
            f"chunks{suffix}": audio.mel_windows(read, samples, 0, frames),
            f"start_idx{suffix}": audio.window_starts(0, frames),
            f"mel_full{suffix}": audio.mel_frames(read, samples, 0, samples // audio.HOP_SAMPLES + 1),
        }
    return outputs


@runner("expnet", "full_audio2exp", "audio2exp")
def run_expnet(golden: Golden) -> Outputs:
    """Every frame of every clip on its own; what is heard lies clip after clip."""
    if golden.state:
        network = ExpNet(**_stored_sizes(golden, expnet.sizes_of))
    else:
        network = ExpNet(tuple(golden.args.get("audio_channels", PAPER_CHANNELS)))
    golden.fill(network)
    mel, reference, blink = (golden.inputs[name] for name in ("mel", "ref", "ratio"))
    clips, frames = mel.shape[:2]
    reference = reference[..., :EXPRESSION].expand(clips, frames, -1)
    blink = blink.reshape(len(blink), -1, 1).expand(clips, frames, -1)
    exp = network(mel.flatten(0, 1), reference.flatten(0, 1), blink.flatten(0, 1))
    outputs = {"exp": exp.unflatten(0, (clips, frames))}
    if "audio_emb" in golden.outputs:
        outputs["audio_emb"] = network.audio_encoder(mel.flatten(0, 1))[..., None, None]
    return outputs


@runner("posevae", "full_audio2pose", "audio2pose")
def run_posevae(golden: Golden) -> Outputs:
    """Whole clips through the decoder, and one chunk through both halves; the critic where the golden has it."""
    network = build_posevae(golden)
    golden.fill(network)
    given = golden.inputs
    outputs: dict[str, Tensor | np.ndarray] = {}
    for suffix in [name.removeprefix("mel") for name in given if name.startswith("mel")]:
        change, pose = _heads(network, given, suffix)
        outputs |= {f"pose_motion{suffix}": change, f"pose_pred{suffix}": pose}
        outputs[f"pose_savgol{suffix}"] = np.stack([smooth(pose_TP) for pose_TP in pose])
    if {"pose_motion_gt", "audio_emb", "eps"} <= given.keys():
        real = given["pose_motion_gt"]
        start = given["ref"][:, 0, -POSE:].expand(len(real), -1)
        motion, mean, log_variance = network(
            real, start, given["audio_emb"], _styles(given, len(real)), given["eps"].reshape(len(real), -1)
        )
        outputs |= {"train_pose_motion": motion, "mu": mean, "logvar": log_variance}
    if "disc_in" in given:
        outputs["disc"] = network.netD_motion(given["disc_in"])
    return outputs


def _heads(network: PoseVAE, given: Mapping[str, Tensor], suffix: str) -> tuple[np.ndarray, np.ndarray]:
    """Change since the reference frame, and pose, of clips; shape (B, T, 6) each."""
    mel, latents = given[f"mel{suffix}"], given[f"z{suffix}"]
    clips, frames = len(mel), mel.shape[1] - 1  # the first is the reference frame
    chunks = -(-frames // network.chunk)
    if len(latents) < chunks:
        raise GoldenError(f"z{suffix} has {len(latents)} latents, but {frames} frames take {chunks}")
    start = given["ref"][:, 0, -POSE:].expand(clips, -1).numpy()
    changes = []
    for clip, style in enumerate(_styles(given, clips).tolist()):
        heard = network.hear(mel[clip, 1:]).numpy()
        drawn = latents[:chunks].expand(-1, clips, -1)[:, clip].numpy()
        change = decode_in_turn(network, heard, start[clip], style, drawn)
        changes.append(np.concatenate([np.zeros((1, POSE), np.float32), change]))
    change = np.stack(changes)
    return change, start[:, None] + change


def _styles(given: Mapping[str, Tensor], clips: int) -> Tensor:
    """A style per clip, int64; one may be all clips'."""
    return given["class"].reshape(-1).long().expand(clips)


def build_posevae(golden: Golden) -> PoseVAE:
    """A PoseVAE of the golden's sizes: those of its weights, or, where these are drawn, of the arguments."""
    if golden.state:
        return PoseVAE(**_stored_sizes(golden, posevae.sizes_of), official=True)
    args = golden.args
    if args.get("config") == "official":
        return PoseVAE(official=True)
    sizes = {
        "channels": tuple(args["audio_channels"]),
        "heard": args["audio_emb_out"],
        "chunk": args["seq_len"],
        "styles": args["num_classes"],
        "latent": args["latent"],
        "encoder_hidden": tuple(args["encoder_layer_sizes"][1:]),  # the first is the reference's for the pose alone
        "decoder_hidden": tuple(args["decoder_layer_sizes"][:-1]),
        "filters": tuple(args["resunet_filters"]),
    }
    alone = PoseVAE(**sizes, critic=None, official=True)
    return alone if len(alone.state_dict()) == golden.drawn_tensors else PoseVAE(**sizes, official=True)


def _stored_sizes(golden: Golden, sizes_of: Callable[[dict[str, Tensor]], dict[str, Any]]) -> dict[str, Any]:
    """Arguments of the network that the golden's weights are of."""
    try:
        return sizes_of(golden.state)
    except KeyError as error:
        raise GoldenError(f"the golden's weights are of another network: {error} is missing") from error


@runner("geometry", limits={"aligned_*": Limit(atol=1)})
def run_geometry(golden: Golden) -> Outputs:
    given = {name: tensor.numpy() for name, tensor in golden.exact_inputs.items()}
    outputs: dict[str, Any] = {}
    if {"image", "lm68", "lm3d_5"} <= given.keys():
        outputs |= _aligned(given["image"], given["lm68"], given["lm3d_5"], golden.args)
    for name in [name.removesuffix("_size") for name in given if name.endswith("_size")]:
        size, landmarks = (int(given[f"{name}_size"][0]), int(given[f"{name}_size"][1])), given[f"{name}_lm68"]
        side = golden.args.get("align_output_size", PORTRAIT_SIDE)
        square = face_square(size, landmarks, side=side, official=True)
        outputs |= {f"{name}_rsize": square.size, f"{name}_crop": square.crop, f"{name}_quad": np.array(square.inner)}
    if "coeffs" in given:
        coefficients = given["coeffs"]
        for name in golden.outputs:
            if windows := WINDOWS.fullmatch(name):
                numbers = np.array([int(number) for number in windows[1].split("_")[1:]])
                radius = golden.args.get("semantic_radius", RADIUS)
                outputs[name] = coefficient_windows(coefficients, numbers, radius)
        for name in CAMERAS.keys() & golden.outputs.keys():
            strips = len(golden.outputs[name])
            turn = spread_by_travel(CAMERAS[name], len(coefficients))
            outputs[name] = np.pad(turn, (0, -len(turn) % strips), mode="edge").reshape(strips, -1)
    return outputs


def _aligned(image: np.ndarray, landmarks: np.ndarray, standard: np.ndarray, args: Mapping[str, Any]) -> dict[str, Any]:
    """A picture that the face reconstruction looks at, and how it came about."""
    height, width = image.shape[:2]
    side, scale_px = args.get("target_size", SIDE), args.get("rescale_factor", SCALE_PX)
    alignment = align((width, height), landmarks, standard=standard, side=side, scale_px=scale_px)
    points = five_points(flip(landmarks, height))
    return {
        "lm5_yup": points,
        "pos_t": alignment.centre,
        "pos_s": np.array([fit_camera(points, standard)[1]]),
        "trans_params": alignment.parameters,
        f"aligned_{side}": alignment.cut(image),
        "lm_aligned": alignment.move(landmarks),
    }
