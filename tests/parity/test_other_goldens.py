"""Goldens that nobody has made yet: other sizes, batches, lengths and precisions; and broken ones.

What is expected is written out here as the references compute it. Run: pytest tests/parity/test_other_goldens.py
"""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.facevid2vid.keypoints import angles, place
from models.facevid2vid.painter import Painter
from models.sadtalker.expnet import ExpNet
from models.sadtalker.posevae import PoseVAE
from models.sadtalker.recon import ReconNet
from tests.parity.__main__ import main
from tests.parity.compare import check
from tests.parity.facevid2vid import build_detector, build_generator, build_mapping, head_outputs
from tests.parity.golden import Golden
from tests.parity.made_goldens import drawn, lively, write_golden

CHANNELS = (4, 4, 8, 8, 12)
DETECTOR = {
    "block_expansion": 4,
    "max_features": 8,
    "num_kp": 6,
    "reshape_depth": 2,
    "num_blocks": 2,
    "temperature": 0.2,
    "scale_factor": 0.5,
}
MAPPING = {"coeff_nc": 73, "descriptor_nc": 12, "layer": 2, "num_kp": 6, "num_bins": 66}
GENERATOR = {
    "block_expansion": 4,
    "max_features": 16,
    "num_down_blocks": 2,
    "reshape_channel": 4,
    "reshape_depth": 2,
    "num_resblocks": 1,
    "num_kp": 6,
    "dense_motion_params": {"block_expansion": 4, "max_features": 8, "num_blocks": 2, "compress": 3},
    "decoder": {"out_channels": 4, "spade_hidden": 8},
}


def problems(folder: Path, case: str, outputs: set[str] | None = None) -> list[str]:
    """What is wrong with a case; that all of its outputs are looked at is checked here."""
    rows = check(folder, case, raising=True)
    assert outputs is None or {row.output for row in rows} == outputs
    return [f"{row.output}: {row.problem}" for row in rows if row.problem]


def write_expnet(folder: Path, stem: str = "expnet", clips: int = 2, frames: int = 13, **facts) -> None:
    network = lively(ExpNet(CHANNELS))
    mel, ref, ratio = drawn(clips, frames, 1, 80, 16), drawn(clips, frames, 70, seed=1), drawn(clips, frames, 1, seed=2)
    exp = torch.stack([network(mel[k], ref[k, :, :64], ratio[k]) for k in range(clips)])
    embedded = torch.cat([network.audio_encoder(clip) for clip in mel])[..., None, None]
    write_golden(
        folder,
        stem,
        {"audio_channels": CHANNELS},
        state=network.state_dict(),
        inputs={"mel": mel, "ref": ref, "ratio": ratio},
        outputs={"exp": exp, "audio_emb": embedded},
        **facts,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_expnet_of_several_clips_in_any_precision(tmp_path: Path, dtype: torch.dtype):
    loose = {name: {"atol": 2e-2 if dtype == torch.float16 else 5e-6, "rtol": 1e-2} for name in ("exp", "audio_emb")}
    write_expnet(tmp_path, dtype=dtype, tolerance=loose)
    assert not problems(tmp_path, "expnet", {"exp", "audio_emb"})


def test_a_golden_is_run_by_what_its_json_says(tmp_path: Path):
    write_expnet(tmp_path, "expnet_b", module="expnet")
    write_expnet(tmp_path, "another", module="expnet")
    write_expnet(tmp_path, "expnet_of_3_clips", clips=3, frames=2)
    write_expnet(tmp_path, "unheard", module="a network that we lack")
    assert not any(problems(tmp_path, case) for case in ("expnet_b", "another", "expnet_of_3_clips"))
    assert problems(tmp_path, "unheard") == ["-: no runner"]


def heads_as_the_reference(network: PoseVAE, mel: Tensor, z: Tensor, start: Tensor, style: Tensor) -> Tensor:
    """Change since the first frame, shape (B, T, 6): whole chunks, then the end of one that hears the last frames."""
    clips, size = len(mel), network.chunk
    heard = network.hear(mel[:, 1:].flatten(0, 1)).unflatten(0, (clips, -1))
    whole, rest = divmod(heard.shape[1], size)
    parts = [torch.zeros(clips, 1, 6)]
    for k in range(whole):
        parts.append(network.decoder(start, z[k], heard[:, k * size : (k + 1) * size], style))
    if rest:
        last = heard[:, -size:]
        padding = last[:, :1].repeat(1, size - last.shape[1], 1)
        parts.append(network.decoder(start, z[whole], torch.cat([padding, last], 1), style)[:, -rest:])
    return torch.cat(parts, 1)


def write_posevae(folder: Path, critic: tuple[int, ...] | None, clips: int, dtype: torch.dtype) -> set[str]:
    args = {"seq_len": 16, "latent": 5, "num_classes": 7}
    args |= {"audio_emb_out": 3, "encoder_layer_sizes": [96, 12, 10], "decoder_layer_sizes": [9, 11, 96]}
    network = PoseVAE(
        channels=CHANNELS,
        heard=3,
        chunk=16,
        styles=7,
        latent=5,
        encoder_hidden=(12, 10),
        decoder_hidden=(9, 11),
        filters=(2, 3, 4, 5),
        critic=critic,
        official=True,
    )
    lively(network)
    style = torch.arange(clips) + 2
    inputs = {"ref": drawn(clips, 35, 70), "class": style, "audio_emb": drawn(clips, 16, CHANNELS[-1], seed=3)}
    inputs |= {"pose_motion_gt": drawn(clips, 16, 6, seed=4), "eps": drawn(clips, 5, seed=5)}
    outputs = {}
    start = inputs["ref"][:, 0, -6:]
    for length, frames in (("long", 35), ("short", 9), ("whole", 17)):
        inputs[f"mel_{length}"] = drawn(clips, frames, 1, 80, 16, seed=frames)
        inputs[f"z_{length}"] = drawn(-(-(frames - 1) // 16), clips, 5, seed=frames)
        change = heads_as_the_reference(network, inputs[f"mel_{length}"], inputs[f"z_{length}"], start, style)
        outputs |= {f"pose_motion_{length}": change, f"pose_pred_{length}": start[:, None] + change}
    made = network(inputs["pose_motion_gt"], start, inputs["audio_emb"], style, inputs["eps"])
    outputs |= dict(zip(("train_pose_motion", "mu", "logvar"), made))
    if critic:
        inputs["disc_in"] = drawn(3, 16, 6)
        outputs["disc"] = network.netD_motion(inputs["disc_in"])
    write_golden(folder, "posevae", args, state=network.state_dict(), inputs=inputs, outputs=outputs, dtype=dtype)
    return set(outputs)


@pytest.mark.parametrize(
    ("critic", "clips", "dtype"),
    [(None, 1, torch.float32), ((4, 6, 8), 2, torch.float32), ((5,), 3, torch.float64)],
    ids=["one clip", "critic, two clips", "small critic, float64"],
)
def test_posevae_of_other_sizes(tmp_path: Path, critic: tuple[int, ...] | None, clips: int, dtype: torch.dtype):
    outputs = write_posevae(tmp_path, critic, clips, dtype)
    assert not problems(tmp_path, "posevae", outputs)


def test_outputs_that_a_golden_lacks_are_not_asked_for(tmp_path: Path):
    network = lively(
        PoseVAE(channels=CHANNELS, heard=2, chunk=8, styles=1, latent=2, filters=(1, 1, 1, 1), critic=None)
    )
    inputs = {"ref": drawn(1, 1, 70), "class": torch.tensor(0), "mel": drawn(1, 9, 1, 80, 16), "z": drawn(1, 1, 2)}
    start, style = inputs["ref"][:, 0, -6:], torch.zeros(1, dtype=torch.int64)
    change = heads_as_the_reference(network, inputs["mel"], inputs["z"], start, style)
    state = network.state_dict()
    write_golden(tmp_path, "posevae", {}, state=state, inputs=inputs, outputs={"pose_motion": change})
    assert not problems(tmp_path, "posevae", {"pose_motion"})


def test_mapping_and_reconstruction_of_other_sizes(tmp_path: Path):
    mapping, recon = lively(build_mapping(MAPPING)), lively(ReconNet(4))
    windows, image = drawn(1, 73, 27), torch.rand(2, 3, 64, 64)
    outputs = head_outputs(mapping(windows))
    state, inputs = mapping.state_dict(), {"semantics": windows}
    write_golden(tmp_path, "mapping_73", MAPPING, state=state, inputs=inputs, outputs=outputs, dtype=torch.float64)
    recon_outputs = {"coeff257": recon(image)}
    write_golden(tmp_path, "face_3drecon", {}, state=recon.state_dict(), inputs={"image": image}, outputs=recon_outputs)
    assert not problems(tmp_path, "mapping_73", set(outputs))
    assert not problems(tmp_path, "face_3drecon", {"coeff257"})


def write_generator(folder: Path, stem: str, **facts) -> dict[str, Tensor]:
    network = lively(build_generator(GENERATOR))
    image = (torch.rand(3, 3, 32, 32) * 255).byte()
    source, driving = 0.5 * drawn(3, 6, 3), 0.5 * drawn(3, 6, 3, seed=1)
    painted = network(image.float() / 255, source, driving)
    outputs = {
        "prediction": painted.frame,
        "decoder_in_s2": painted.steer[:, :, ::2, ::2],
        "deformation": painted.flow.deformation,
        "deformation_s3": painted.flow.deformation[:, ::3, ::3, ::3],
    }
    inputs = {"image_u8": image, "kp_source": source, "kp_driving": driving}
    write_golden(
        folder,
        stem,
        GENERATOR,
        state=network.state_dict(),
        inputs=inputs,
        outputs=outputs,
        dtype=torch.float64,
        **facts,
    )
    return outputs


def test_generator_of_other_sizes(tmp_path: Path):
    outputs = write_generator(tmp_path, "spade_generator")
    assert not problems(tmp_path, "spade_generator", set(outputs))


def test_animation_of_other_lengths_finds_the_generator_of_its_variant(tmp_path: Path):
    """Seven frames in three strips; with yaw and roll given, the golden holds the first two only."""
    write_generator(tmp_path, "spade_generator", variant="a")
    write_generator(tmp_path, "spade_generator_b", module="spade_generator", variant="b")
    generator, detector, mapping = build_generator(GENERATOR), build_detector(DETECTOR), build_mapping(MAPPING)
    Golden(tmp_path / "x.json", {}, load_file(tmp_path / "spade_generator_b.safetensors")).fill(generator)
    lively(detector), lively(mapping)
    image, coefficients = torch.rand(1, 3, 32, 32), drawn(7, 73)
    rows = torch.cat([coefficients[:1].expand(13, -1), coefficients, coefficients[-1:].expand(13, -1)])
    windows = torch.stack([rows[t : t + 27].T for t in range(7)])
    source = drawn(1, 73, 27, seed=2)
    painter = Painter(generator)
    frames = _frames(painter, detector, mapping, image, source, windows)
    yaw = torch.tensor([-20.0, -10.0, 0.0, 10.0, 20.0, 30.0, 25.0, 25.0, 25.0])
    turned = _frames(painter, detector, mapping, image, source, windows[:2], yaw=yaw, roll=-yaw)
    inputs = {
        "source_image": image,
        "coeffs": coefficients,
        "source_semantics": source.expand(3, -1, -1),
        "yaw_c_seq": yaw.reshape(3, 3),
        "roll_c_seq": -yaw.reshape(3, 3),
    }
    state = {f"kp_extractor.{name}": tensor for name, tensor in detector.state_dict().items()}
    state |= {f"mapping.{name}": tensor for name, tensor in mapping.state_dict().items()}
    args = {"generator": GENERATOR, "kp_detector": DETECTOR, "mapping": MAPPING}
    outputs = {"frames": frames, "frames_yaw_roll": turned}
    write_golden(tmp_path, "make_animation_b", args, state=state, inputs=inputs, outputs=outputs, variant="b")
    assert not problems(tmp_path, "make_animation_b", {"frames", "frames_yaw_roll"})


def _frames(painter, detector, mapping, image, source, windows, **tracks: Tensor) -> Tensor:
    canonical = detector(image)
    look = painter.look(image, place(canonical, mapping(source)))
    head = mapping(windows)
    turn = angles(head)._replace(**{name: track[: len(windows)] for name, track in tracks.items()})
    return painter(look, place(canonical, head, turn))


def test_cameras_and_windows_of_other_clips(tmp_path: Path):
    coefficients = drawn(10, 5)
    rows = torch.cat([coefficients[:1]] * 2 + [coefficients] + [coefficients[-1:]] * 2)
    write_golden(
        tmp_path,
        "geometry",
        {"semantic_radius": 2},
        state={},
        inputs={"coeffs": coefficients},
        outputs={"windows_9_1": torch.stack([rows[9:14].T, rows[1:6].T]), "cam_1": torch.full((4, 3), 15.0)},
    )
    assert not problems(tmp_path, "geometry", {"windows_9_1", "cam_1"})


def test_one_broken_golden_is_one_row(tmp_path: Path, monkeypatch, capsys):
    for stem in ("a", "b", "c", "d", "e", "f"):
        write_expnet(tmp_path, stem, clips=1, frames=2, module="expnet")
    (tmp_path / "a.json").write_text('{"args":')
    (tmp_path / "b.safetensors").unlink()
    (tmp_path / "c.safetensors").write_bytes(b"no tensors")
    tensors = load_file(tmp_path / "d.safetensors")
    write_bare(tmp_path / "d", {name: tensor for name, tensor in tensors.items() if name != "state.mapping1.bias"})
    write_bare(tmp_path / "e", {name: tensor for name, tensor in tensors.items() if name != "in.ratio"})
    monkeypatch.setattr(sys, "argv", ["parity", str(tmp_path)])
    assert main() == 1
    said, errors = capsys.readouterr()
    lines = {line.split()[0]: line for line in said.splitlines()[1:-1]}
    assert not errors and sorted(lines) == ["a", "b", "c", "d", "e", "f"]
    assert "a.json is no JSON" in lines["a"] and "b.safetensors is missing" in lines["b"]
    assert "c.safetensors is damaged" in lines["c"]
    assert "ExpNet: missing: mapping1.bias" in lines["d"] and "no input 'ratio'" in lines["e"]
    assert lines["f"].endswith("ok") and said.splitlines()[-1] == "5 failed"
    assert len(said.splitlines()) == 1 + 5 + 2 + 1, "one row each, two of the golden that is whole"


def write_bare(place: Path, tensors: dict[str, Tensor]) -> None:
    place.with_suffix(".json").write_text(json.dumps({"module": "expnet"}))
    save_file(tensors, place.with_suffix(".safetensors"))
