"""Runners of what SadTalker hears and how it moves: mel front end, ExpNet, PoseVAE, alignment and windows."""

from typing import Any

import numpy as np
from torch import Tensor

from models.facespace.alignment5 import align, fit_camera, five_points, flip
from models.interfaces import EXPRESSION, POSE
from models.sadtalker.audio_encoder import PAPER_CHANNELS
from models.sadtalker.chunks import decode_in_turn, smooth
from models.sadtalker.expnet import ExpNet
from models.sadtalker.posevae import PoseVAE
from models.sadtalker.tracks import spread_by_travel
from models.sadtalker.windows import coefficient_windows
from pipeline import audio
from pipeline.ffhq import face_square
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
WINDOW_FRAMES = (0, 5, 20, 39)  # of `windows_0_5_20_39`
CAMERAS = {"cam_1": [15.0], "cam_3": [-20.0, 30.0, 10.0]}  # degrees; the goldens' notes give them, no tensor does


@runner("mel_frontend", limits={"mel_basis": Limit(atol=1e-8)})
def run_mel_frontend(golden: Golden) -> Outputs:
    """The front end's numbers are fixed: other ones are another front end."""
    if differing := {name: value for name, value in golden.args.items() if FRONT_END.get(name, value) != value}:
        raise GoldenError(f"the golden is of another front end: {differing}")
    outputs: dict[str, Any] = {"mel_basis": audio.mel_filters()}
    for suffix in ("", "_short"):
        wave = golden.inputs[f"wav{suffix}"].numpy()
        frames = len(wave) // audio.SAMPLES_PER_FRAME
        samples = frames * audio.SAMPLES_PER_FRAME

        def read(first: int, last: int, kept=wave[:samples]):
            return kept[first:last]

        outputs[f"num_frames{suffix}"] = [frames, samples]
        outputs[f"chunks{suffix}"] = audio.mel_windows(read, samples, 0, frames)
        if not suffix:
            outputs["mel_full"] = audio.mel_frames(read, samples, 0, samples // audio.HOP_SAMPLES + 1)
            outputs["start_idx"] = audio.window_starts(0, frames)
    return outputs


@runner("expnet", "full_audio2exp")
def run_expnet(golden: Golden) -> Outputs:
    network = ExpNet(tuple(golden.args.get("audio_channels", PAPER_CHANNELS)))
    golden.fill(network)
    mel, reference, blink = (golden.inputs[name][0] for name in ("mel", "ref", "ratio"))
    outputs = {"exp": network(mel, reference[:, :EXPRESSION], blink)[None]}
    if "audio_emb" in golden.outputs:
        outputs["audio_emb"] = network.audio_encoder(mel)[..., None, None]
    return outputs


@runner("posevae", "full_audio2pose")
def run_posevae(golden: Golden) -> Outputs:
    """Whole clips through the decoder, and one chunk through both halves; the critic where the golden has it."""
    network = PoseVAE(**_posevae_sizes(golden), official=True)
    golden.fill(network)
    given = golden.inputs
    style, start = given["class"], given["ref"][0, 0, -POSE:]
    outputs: dict[str, Tensor | np.ndarray] = {}
    for length in ("long", "short"):
        heard = network.hear(given[f"mel_{length}"][0, 1:]).numpy()
        latents = given[f"z_{length}"][:, 0].numpy()
        change = decode_in_turn(network, heard, start.numpy(), int(style), latents)
        change = np.concatenate([np.zeros((1, POSE), np.float32), change])
        pose = start.numpy() + change
        outputs[f"pose_motion_{length}"] = change[None]
        outputs[f"pose_pred_{length}"] = pose[None]
        outputs[f"pose_savgol_{length}"] = smooth(pose)[None]
    motion, mean, log_variance = network(given["pose_motion_gt"], start[None], given["audio_emb"], style, given["eps"])
    outputs |= {"train_pose_motion": motion, "mu": mean, "logvar": log_variance}
    if "disc_in" in given:
        outputs["disc"] = network.netD_motion(given["disc_in"])
    return outputs


def _posevae_sizes(golden: Golden) -> dict[str, Any]:
    """Our arguments for the reference's; {} for the published sizes."""
    if golden.args.get("config") == "official":
        return {}
    args = golden.args
    return {
        "channels": tuple(args["audio_channels"]),
        "heard": args["audio_emb_out"],
        "chunk": args["seq_len"],
        "styles": args["num_classes"],
        "latent": args["latent"],
        "encoder_hidden": tuple(args["encoder_layer_sizes"][1:]),  # the first is the reference's for the pose alone
        "decoder_hidden": tuple(args["decoder_layer_sizes"][:-1]),
        "filters": tuple(args["resunet_filters"]),
        "critic": None,
    }


@runner("geometry", limits={"aligned_224": Limit(atol=1)})
def run_geometry(golden: Golden) -> Outputs:
    given, args = {name: tensor.numpy() for name, tensor in golden.inputs.items()}, golden.args
    height, width = given["image"].shape[:2]
    alignment = align(
        (width, height),
        given["lm68"],
        standard=given["lm3d_5"],
        side=args["target_size"],
        scale_px=args["rescale_factor"],
    )
    points = five_points(flip(given["lm68"], height))
    coefficients, numbers = given["coeffs"], np.array(WINDOW_FRAMES)
    outputs: dict[str, Any] = {
        "lm5_yup": points,
        "pos_t": alignment.centre,
        "pos_s": np.array([fit_camera(points, given["lm3d_5"])[1]]),
        "trans_params": alignment.parameters,
        "aligned_224": alignment.cut(given["image"]),
        "lm_aligned": alignment.move(given["lm68"]),
        "windows_0_5_20_39": coefficient_windows(coefficients, numbers, args["semantic_radius"]),
    }
    for name in ("big", "small"):
        size = (int(given[f"{name}_size"][0]), int(given[f"{name}_size"][1]))
        square = face_square(size, given[f"{name}_lm68"], side=args["align_output_size"], official=True)
        outputs |= {f"{name}_rsize": square.size, f"{name}_crop": square.crop, f"{name}_quad": np.array(square.inner)}
    for name, keys in CAMERAS.items():
        batch = golden.outputs[name].shape[0]
        outputs[name] = spread_by_travel(keys, len(coefficients)).reshape(batch, -1)
    return outputs
