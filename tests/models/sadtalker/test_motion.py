"""SadTalker's motion: clips of any length, the same numbers for the same seed, and every control does what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.articulator.hearing import STRETCH_FRAMES as HABIT_FRAMES
from models.articulator.hearing import Habit
from models.articulator.lip_basis import LipBasis
from models.controls import BlinkControls, Controls, ExpressionControls, GazeControls, PoseControls
from models.errors import WeightsError
from models.facespace import topology as top
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion
from models.rest import both_sides
from models.sadtalker.hearing import compare
from models.sadtalker.motion import STRETCH_FRAMES, SadTalkerMotion, there_and_back
from models.sadtalker.open_face import MOST_BLINK, blink_strength, follow_lids
from tests.models.sadtalker.sounds import Noise, networks, nodding, system
from tests.models.voices import face

POSE = np.array([0.1, -0.2, 0.05, 0.02, -0.01, 0.03], np.float32)
EXPRESSION = np.linspace(-0.5, 0.5, 64).astype(np.float32)


def portrait(space: str = "open") -> FaceFit:
    return replace(face(EXPRESSION, POSE), space=space)


def generate(frames=120, seed=3, official=False, speech=None, space=None, **other):
    """Of own weights in the open space, unless said otherwise."""
    controls, made = other.pop("controls", Controls()), system(official, space)
    return made.generate(speech or Noise(frames), portrait(made.space), controls, seed, **other)


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 12, 13, 14, 20, 21, 22, 31, 32, 33, 34, 48, 49, 64, 65, 100])
def test_clips_of_any_length(frames, official):
    motion = generate(frames, official=official)
    parts = (motion.expression, motion.pose, motion.gaze)
    assert [part.shape for part in parts] == [(frames, 64), (frames, 6), (frames, 2)]
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in parts)
    assert motion.space == ("bfm" if official else "open")


def test_the_seed_decides():
    first, again, other = generate(), generate(), generate(seed=4)
    assert np.array_equal(first.expression, again.expression) and np.array_equal(first.pose, again.pose)
    assert np.array_equal(first.gaze, again.gaze)
    assert not np.allclose(first.pose, other.pose) and not np.allclose(first.expression, other.expression)


def test_long_sound_is_read_in_stretches_without_seams():
    speech = Noise(3 * STRETCH_FRAMES + 7)
    motion = generate(speech=speech, space="bfm", controls=Controls(blink=BlinkControls(mode="off")))
    assert speech.longest <= max(STRETCH_FRAMES, HABIT_FRAMES)
    habit = Habit.of_speech(speech)
    expnet, _ = networks()
    for start in (STRETCH_FRAMES - 2, 3 * STRETCH_FRAMES + 3):  # across a border, and at the end
        mel = torch.from_numpy(compare(speech.mel_windows(start, start + 4), habit))[:, None]
        alone = expnet(mel, torch.from_numpy(EXPRESSION).expand(4, -1), torch.zeros(4, 1))
        assert np.abs(motion.expression[start : start + 4] - alone.detach().numpy()).max() < 1e-5


def test_head_sets_out_from_the_portrait():
    motion = generate()
    assert np.allclose(motion.pose[0], POSE, atol=1e-6)
    assert motion.pose[60:].std(0).min() > 1e-4
    assert np.abs(np.diff(motion.pose[:10], axis=0)).max() < np.abs(motion.pose - POSE).max() / 5


def test_heads_move_at_no_beat():
    phases, lines = zip(*(beat(generate(1600, seed).pose) for seed in range(2)))
    assert max(phases) < 1.6 and max(lines) < 40  # 5 and hundreds from chunks at regular distances


def beat(pose: np.ndarray) -> tuple[float, float]:
    """How regularly a head moves at half a chunk: its speed there at the fastest over that at the slowest phase, and
    the power of its speed at that frequency over the floor around it."""
    speed = np.linalg.norm(np.diff(pose[:, :3], axis=0), axis=1)
    phases = [speed[k::16].mean() for k in range(16)]
    power = np.abs(np.fft.rfft((speed - speed.mean()) * np.hanning(len(speed)))) ** 2
    hertz = np.fft.rfftfreq(len(speed), 1 / 25)
    line = power[np.abs(hertz - 25 / 16) < 0.06].max()
    return max(phases) / min(phases), line / np.median(power[(hertz > 1) & (hertz < 2.2)])


def test_a_longer_clip_begins_as_a_shorter_one():
    short, long = (generate(frames, speech=Noise(frames)).pose for frames in (300, 400))
    assert np.abs(short[:240] - long[:240]).max() < 1e-3 < np.abs(short - long[:300]).max()


def test_styles():
    assert system().styles == 5
    assert not np.allclose(generate(style=4).pose, generate().pose)
    with pytest.raises(ValueError, match="style 5 is unknown: these weights know 0 to 4"):
        generate(style=5)


def test_as_many_styles_as_were_trained():
    made = SadTalkerMotion(*networks(styles=60))
    last, first = (
        made.generate(Noise(60), portrait(), Controls(pose=PoseControls(style=k)), 3, style=k).pose for k in (59, 0)
    )
    assert made.styles == 60 and not np.allclose(first, last)


@pytest.mark.parametrize("controls", [PoseControls(still=True), PoseControls(scale=0)])
@pytest.mark.parametrize("official", [False, True])
def test_still_head(controls, official):
    motion = generate(controls=Controls(pose=controls), official=official)
    assert np.abs(motion.pose - POSE).max() < 1e-6


def test_scales():
    controls = Controls(pose=PoseControls(scale=2), expression=ExpressionControls(scale=0.5))
    plain, scaled = (generate(space="bfm", controls=given) for given in (Controls(), controls))
    assert np.allclose(scaled.pose - POSE, 2 * (plain.pose - POSE), atol=1e-5)
    assert np.allclose(scaled.expression, plain.expression / 2, atol=1e-6)
    still, less, more = (lips_of(generate(controls=scaled_lips(scale))) for scale in (0, 0.5, 1))
    assert np.allclose(less - still, (more - still) / 2, atol=1e-5), "in the open space, lips alone are scaled"


def scaled_lips(scale: float) -> Controls:
    return Controls(expression=ExpressionControls(scale=scale))


def lips_of(motion: Motion) -> np.ndarray:
    return LipBasis.load().coordinates(motion.expression)


def test_blinks():
    assert np.ptp(blink_signal(BlinkControls(mode="off"))) == 0
    rare, often = blink_signal(BlinkControls(per_minute=6)), blink_signal(BlinkControls(per_minute=30))
    assert count(rare) < count(often) and often.max() == 1
    official = blink_signal(BlinkControls(per_minute=30), official=True)
    assert count(official) == count(often)
    peak = int(np.argmax(official))
    assert official[peak - 3 : peak + 4] == pytest.approx([0, 0.5, 0.9, 1, 0.9, 0.5, 0])


def blink_signal(controls: BlinkControls, official: bool = False) -> np.ndarray:
    """What ExpNet is told of the lids, found by what changes in the expression of a network that listens to it only."""
    expnet, posevae = networks(official)
    expnet.mapping1.weight.data.zero_()
    expnet.mapping1.weight.data[:, -1] = 1.0
    expnet.mapping1.bias.data.zero_()
    made = SadTalkerMotion(expnet, posevae, space="bfm", official=official)
    return made.generate(Noise(750), portrait("bfm"), Controls(blink=controls), 3).expression[:, 0]


def count(signal: np.ndarray) -> int:
    return int((np.diff((signal > 0).astype(int)) > 0).sum())


@pytest.mark.parametrize("official", [False, True])
def test_tracks_turn_the_head_from_the_portrait_s_pose(official):
    controls = Controls(pose=PoseControls(yaw=10.0, roll=[-5.0, 5.0, 5.0]))
    motion, plain = generate(controls=controls, official=official), generate(official=official)
    turned = np.degrees(motion.pose[:, :3] - POSE[:3])
    assert np.allclose(turned[:, 1], 10, atol=1e-3)
    assert turned[0, 2] == pytest.approx(-5, abs=1e-3) and turned[-1, 2] == pytest.approx(5, abs=0.1)
    assert np.allclose(motion.pose[:, 0], plain.pose[:, 0], atol=1e-6)  # pitch is left to the network


def test_gaze_is_held_where_it_is_told():
    motion = generate(controls=Controls(gaze=GazeControls(mode="fixed", yaw=10, pitch=-5)))
    assert np.allclose(np.degrees(motion.gaze), [10, -5], atol=1e-4)


@pytest.mark.parametrize("official", [False, True])
def test_head_motion_of_another_video(official):
    reference = nodding(30, "bfm" if official else "open")
    motion, plain = (generate(official=official, pose_from=given) for given in (reference, None))
    nod = (reference.pose - reference.pose[0])[there_and_back(np.arange(120), 30)]
    expected = plain.pose + nod if official else POSE + nod
    assert np.abs(motion.pose[:, :3] - expected[:, :3]).max() < 1e-4
    half = generate(official=False, pose_from=nodding(30), controls=Controls(pose=PoseControls(scale=0.5)))
    assert np.abs(half.pose - POSE).max() == pytest.approx(np.abs(nod).max() / 2, rel=1e-3)


def test_lids_of_another_video_are_followed_and_nothing_else_of_its_face():
    lids, brows = movement("blink"), movement("brow_outer") + movement("brow_inner")
    closure = np.zeros(100)
    closure[[20, 21, 22, 60, 61, 62]] = [0.5, 1, 0.5] * 2
    grimace = brows + movement("smile") + 0.3 * movement("lid_raise")  # all the time, and brows go up once more
    raised = np.convolve(np.arange(100) == 80, np.ones(10), mode="same")
    face_of = grimace + closure[:, None] * lids + raised[:, None] * brows
    reference = Motion("open", face_of.astype(np.float32), np.zeros((100, 6), np.float32), np.zeros((100, 2)))
    followed, plain = (
        keeping().generate(Noise(100), face(), no_blinks(), 3, blinks_from=given).expression
        for given in (reference, None)
    )
    change = followed - plain
    brow, lid = (change @ way / (way @ way) for way in (brows, lids))
    assert np.abs(brow).max() < 0.05
    assert np.abs(lid - closure).max() < 0.01
    assert np.abs(lips_of(Motion("open", change, reference.pose, reference.gaze))).max() < 0.05


def test_eyes_that_follow_go_no_further_than_shut():
    lids = movement("blink")
    narrow = face(0.6 * lids)
    blinking = np.outer([0, 0, 0, 0.2, 1, 0, 0, 0], lids)
    change = follow_lids(blinking, narrow)
    assert np.allclose(change[3], 0.2 * lids, atol=1e-5) and np.allclose(change[0], 0, atol=1e-6)
    assert np.allclose(change[4], blink_strength(lids, narrow) * lids, atol=1e-5)
    assert np.allclose(follow_lids(blinking[4:5], narrow), 0, atol=1e-6), "a single picture does not blink"


def movement(name: str) -> np.ndarray:
    return both_sides(OpenSpace.load(), name)


def no_blinks() -> Controls:
    return Controls(blink=BlinkControls(mode="off"))


def keeping() -> SadTalkerMotion:
    """Own weights in the open space whose face is the one that they are shown."""
    expnet, posevae = networks()
    expnet.keep_reference()
    return SadTalkerMotion(expnet, posevae)


@pytest.mark.parametrize("official", [False, True])
def test_in_other_spaces_another_video_s_whole_expression_is_shown(official):
    expnet, posevae = networks(official)
    expnet.keep_reference()
    expnet.mapping1.weight.data[:, -1] = 1000.0
    made = SadTalkerMotion(expnet, posevae, space="bfm", official=official)
    motion = made.generate(Noise(100), portrait("bfm"), Controls(), 3, blinks_from=nodding(40, "bfm"))
    assert np.allclose(motion.expression[:, 0], there_and_back(np.arange(100), 40), atol=1e-4)


@pytest.mark.parametrize("opened", [-0.5, 0.0, 0.5])
def test_a_portrait_s_own_eyes_just_shut(opened):
    space = OpenSpace.load()
    blink = space.direction("blink_R") + space.direction("blink_L")
    source = face(-opened * blink)
    shut = source.expression + blink_strength(blink, source) * blink
    vertices = space.vertices(np.zeros(80), shut)
    gaps = vertices[list(top.RIGHT_EYE_LOWER[1:-1]), 1] - vertices[list(top.RIGHT_EYE_UPPER[1:-1]), 1]
    assert abs(gaps.mean()) < 0.003
    assert blink_strength(0 * blink, source) == MOST_BLINK


def test_there_and_back_never_jumps():
    assert there_and_back(np.arange(8), 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1]
    assert there_and_back(np.arange(3), 1).tolist() == [0, 0, 0]


def test_spaces_are_not_mixed():
    with pytest.raises(ValueError, match="'bfm', where 'open'"):
        system().generate(Noise(5), portrait("bfm"), Controls(), 0)
    with pytest.raises(ValueError, match="'bfm', where 'open'"):
        generate(pose_from=nodding(5, "bfm"))
    with pytest.raises(ValueError, match="published weights"):
        SadTalkerMotion(*networks(), space="open", official=True)


def test_weights_from_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expnet\.safetensors and posevae\.safetensors"):
        SadTalkerMotion.load(tmp_path)
    expnet, posevae = networks()
    everything = {f"audio2exp.{name}": tensor for name, tensor in expnet.state_dict().items()}
    everything |= {f"audio2pose.{name}": tensor for name, tensor in posevae.state_dict().items()}
    save_file({**everything, "generator.first.weight": torch.zeros(1)}, tmp_path / "SadTalker_V0.0.2_256.safetensors")
    published = SadTalkerMotion.load(tmp_path)
    assert published.space == "bfm"
    expected = generate(official=True)
    assert np.array_equal(published.generate(Noise(120), portrait("bfm"), Controls(), 3).pose, expected.pose)
    save_file(expnet.state_dict(), tmp_path / "expnet.safetensors")
    save_file(posevae.state_dict(), tmp_path / "posevae.safetensors")
    own = SadTalkerMotion.load(tmp_path)
    assert own.space == "open"
    assert np.array_equal(own.generate(Noise(120), portrait(), Controls(), 3).pose, generate().pose)


def test_weights_of_something_else(tmp_path):
    for name in ("expnet", "posevae"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match="not a checkpoint of ExpNet"):
        SadTalkerMotion.load(tmp_path)


def test_the_older_published_pair(tmp_path):
    expnet, posevae = networks(official=True)
    torch.save({"model": expnet.state_dict(), "epoch": 300}, tmp_path / "auido2exp_00300-model.pth")
    torch.save({"model": posevae.state_dict(), "epoch": 140}, tmp_path / "auido2pose_00140-model.pth")
    assert SadTalkerMotion.load(tmp_path).space == "bfm"
