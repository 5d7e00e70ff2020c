"""SadTalker's motion: ExpNet for the face, PoseVAE for the head (SadTalker, 3; supplement, B.2 and B.5).

Read in stretches: what is kept of an hour of sound is a few numbers per frame. Legend: T frames, E expression,
P pose (pitch, yaw, roll, three translations), A numbers heard per frame.

The published program has an idle mode for clips without sound: a mel of zeros, the middle of its range, which no sound
gives. There is none here: silence takes its place, which is heard as any other sound, by the published weights as the
lowest value throughout, by own ones, against its own habit, as zeros. Lips rest (in the open space they are shut), the
head moves on by its seed, and blinks and glances come as ever.
"""

from pathlib import Path

import numpy as np
import torch

from models.articulator.hearing import Habit
from models.articulator.pauses import find_speech
from models.controls import BlinkControls, Controls, PoseControls
from models.facespace.camera import rotation
from models.facespace.deep3d import from_deep3d, to_deep3d
from models.idle import NECK, RAMP_S, blink_closure, gaze_over_time, spread_keys
from models.interfaces import EXPRESSION, FPS, POSE, FaceFit, Motion, Speech
from models.prosody import listen
from models.sadtalker.chunks import count_in_turn, decode_blended, decode_in_turn, draw_starts, linger, smooth
from models.sadtalker.expnet import ExpNet
from models.sadtalker.hearing import compare
from models.sadtalker.open_face import blink_strength, follow_lids, settle
from models.sadtalker.posevae import PoseVAE
from models.sadtalker.tracks import spread_by_travel

STRETCH_FRAMES = 64  # heard at a time; larger batches are slower on a CPU
LINGERING = 0.65  # correlation of the latents of chunks that overlap by half, as of real heads on average
OFFICIAL_BLINK = np.array([0.5, 0.9, 1.0, 0.9, 0.5])  # closure per frame

# Files of a folder of weights: ExpNet's, the prefix of its names, PoseVAE's, and the prefix of its names.
OWN_FILES = ("expnet.safetensors", "", "posevae.safetensors", "")
OFFICIAL_FILES = (
    ("SadTalker_V0.0.2_256.safetensors", "audio2exp.", "SadTalker_V0.0.2_256.safetensors", "audio2pose."),
    ("SadTalker_V0.0.2_512.safetensors", "audio2exp.", "SadTalker_V0.0.2_512.safetensors", "audio2pose."),
    ("auido2exp_00300-model.pth", "", "auido2pose_00140-model.pth", ""),
)


class SadTalkerMotion:
    """A motion system (`models.interfaces.MotionSystem`).

    Args:
        expnet, posevae: for inference, on one device.
        space: coefficient space that they were trained in, "open" or "bfm".
        official: for the published weights, which speak Deep3DFaceRecon's poses (`models.facespace.deep3d`). What they
            were trained or tuned with is kept: mel windows as they are; blinks of five frames; chunks of 32 frames,
            each with a latent of its own, that only smoothing joins; a reference's head motion on top of the generated
            one; tracks of angles at an even pace. Otherwise a voice is heard against its own habit, lids open slower
            than they shut, chunks fade into each other at irregular distances and their latents linger, the head sets
            out from the portrait's pose, a reference replaces the generated motion, and tracks are smooth. In the open
            space lips are calibrated (`models.sadtalker.open_face`).
            What merely breaks in the published program is right in both: clips of any length, equal keys of a track,
            references that are shorter than the clip (they are followed there and back, without a jump).
    Raises:
        ValueError: official weights of another space than "bfm".
    """

    def __init__(self, expnet: ExpNet, posevae: PoseVAE, *, space: str = "open", official: bool = False):
        if official and space != "bfm":
            raise ValueError(f"the published weights speak of the face model bfm, not {space!r}")
        self.space = space
        self._expnet, self._posevae, self._official = expnet, posevae, official

    @classmethod
    def load(cls, folder: Path, *, space: str = "open", device: str = "cpu") -> "SadTalkerMotion":
        """From a folder of weights: own ones, expnet.safetensors and posevae.safetensors, or the published files.

        The names inside the older published pair (.pth) are inferred, not seen.

        Args:
            folder: own weights go before published ones.
            space: of own weights; published ones are of "bfm".
            device: "cpu" or "cuda"; only the former has been run.
        Raises:
            FileNotFoundError: none of the known files.
            models.errors.WeightsError: damaged files, or of other networks.
        """
        for files in (OWN_FILES, *OFFICIAL_FILES):
            first, first_prefix, second, second_prefix = files
            if (folder / first).exists() and (folder / second).exists():
                official = files is not OWN_FILES
                expnet = ExpNet.load(folder / first, first_prefix).to(device)
                posevae = PoseVAE.load(folder / second, second_prefix, official=official).to(device)
                return cls(expnet, posevae, space="bfm" if official else space, official=official)
        known = ", ".join(" and ".join(dict.fromkeys(files[::2])) for files in (OWN_FILES, *OFFICIAL_FILES))
        raise FileNotFoundError(f"no weights of SadTalker's motion in {folder}; known files: {known}")

    @property
    def styles(self) -> int:
        """How many styles of head motion there are."""
        return self._posevae.styles

    def generate(
        self,
        speech: Speech,
        source: FaceFit,
        controls: Controls,
        seed: int,
        *,
        style: int = 0,
        pose_from: Motion | None = None,
        blinks_from: Motion | None = None,
    ) -> Motion:
        """Motion of the whole clip. The same arguments give the same numbers.

        Args:
            speech: at least one frame.
            source: the portrait's face in the same space.
            controls: pose, expression, blink and gaze are read.
            seed: of head, blinks and glances, each with its own stream.
            style: of the head motion, 0 to `styles` - 1.
            pose_from: another video's motion, whose head movement since its first frame is taken; `pose.scale`
                applies to it.
            blinks_from: another video's motion, during which the portrait blinks when that video does. In the open
                space what ExpNet is shown is the portrait's expression, whose lids follow that video's frame by frame
                (`models.sadtalker.open_face.follow_lids`). Other spaces' lids can't be told from the rest, so that, as
                in the published program, ExpNet is shown the video's whole expression in the portrait's place; brows
                and smiles come along.
        Raises:
            ValueError: an unknown style, or a reference or a face of another space.
        """
        if not 0 <= style < self.styles:
            raise ValueError(f"style {style} is unknown: these weights know 0 to {self.styles - 1}")
        for given in (source, pose_from, blinks_from):
            if given is not None and given.space != self.space:
                raise ValueError(f"coefficients of the space {given.space!r}, where {self.space!r} is needed")
        head_stream, blink_stream, gaze_stream = (
            np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)
        )
        closure = self._closure(speech.frames, controls.blink, blink_stream)
        shown = source.expression[None]
        if blinks_from is not None:
            closure, shown = np.zeros(speech.frames), blinks_from.expression
            if self.space == "open":
                shown = source.expression + follow_lids(shown, source)
        if self.space == "open":
            closure = closure * blink_strength(self._expnet.lids(), source)
        shown = shown[there_and_back(np.arange(speech.frames), len(shown))].astype(np.float32)
        expression, heard = self._listen(speech, closure, shown)
        change = self._head_change(heard, source, controls.pose, style, head_stream, pose_from)
        pose = self._pose(source, change, controls.pose)
        gaze = gaze_over_time(source.gaze, pose[:, :2] - source.pose[:2], controls.gaze, gaze_stream)
        scale = controls.expression.scale
        if self.space == "open":
            voice = listen(speech).voice
            expression = settle(expression, shown, source, voice, find_speech(speech, voice), scale)
        else:
            expression *= scale
        return Motion(self.space, expression, pose.astype(np.float32), gaze.astype(np.float32))

    def _closure(self, frames: int, controls: BlinkControls, generator: np.random.Generator) -> np.ndarray:
        """Closure of the lids, shape (T,): natural blinks, of the course that the network knows."""
        closure = blink_closure(frames, controls, generator)
        if not self._official or frames < len(OFFICIAL_BLINK):
            return closure
        return np.convolve(closure == 1, OFFICIAL_BLINK, mode="same")  # both are shut on their third frame

    @torch.inference_mode()
    def _listen(self, speech: Speech, closure: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the sound says: expression (T, 64), and what PoseVAE hears (T, A).

        Args:
            closure: of the lids, shape (T,).
            shown: reference expression, shape (T, 64).
        """
        device = self._expnet.mapping1.weight.device
        expression = np.empty((speech.frames, EXPRESSION), np.float32)
        habit = None if self._official else Habit.of_speech(speech)
        heard = []
        for start in range(0, speech.frames, STRETCH_FRAMES):
            frames = np.arange(start, min(start + STRETCH_FRAMES, speech.frames))
            windows = speech.mel_windows(start, frames[-1] + 1)
            mel = torch.from_numpy(compare(windows, habit) if habit else windows)[:, None].to(device)
            reference = torch.from_numpy(shown[frames]).to(device)
            blink = torch.from_numpy(closure[frames, None].astype(np.float32)).to(device)
            expression[frames] = self._expnet(mel, reference, blink).cpu().numpy()
            heard.append(self._posevae.hear(mel).cpu().numpy())
        return expression, np.concatenate(heard)

    def _head_change(
        self,
        heard: np.ndarray,
        source: FaceFit,
        controls: PoseControls,
        style: int,
        generator: np.random.Generator,
        pose_from: Motion | None,
    ) -> np.ndarray:
        """How far the head is from the portrait's pose, in the network's numbers, shape (T, 6)."""
        frames = len(heard)
        change = np.zeros((frames, POSE), np.float32)
        if controls.still or controls.scale == 0:
            return change
        if pose_from is None or self._official:
            change[1:] = self._generate_change(heard[1:], source, style, generator)  # the first frame is the portrait
            change = smooth(change)
            if not self._official:
                change *= np.minimum(1, np.arange(frames) / (RAMP_S * FPS))[:, None]
        if pose_from is not None:
            reference = self._spoken(pose_from.pose)
            change += reference[there_and_back(np.arange(frames), len(reference))] - reference[0]
        return controls.scale * change

    def _generate_change(
        self, heard: np.ndarray, source: FaceFit, style: int, generator: np.random.Generator
    ) -> np.ndarray:
        """Pose minus the portrait's from what is heard after the first frame, shape (T - 1, 6)."""
        network, start = self._posevae, self._spoken(source.pose)
        if self._official:
            latents = generator.standard_normal((count_in_turn(len(heard), network.chunk), network.latent))
            return decode_in_turn(network, heard, start, style, latents)
        starts = draw_starts(len(heard), network.chunk, generator.spawn(1)[0])  # a longer clip begins as a shorter one
        hops = np.diff(starts, prepend=0)
        latents = generator.standard_normal((len(starts), network.latent))
        latents = linger(latents, LINGERING ** (2 * hops / network.chunk))
        return decode_blended(network, heard, start, style, latents, starts)

    def _pose(self, source: FaceFit, change: np.ndarray, controls: PoseControls) -> np.ndarray:
        """The head's pose, shape (T, 6), after what tracks replace."""
        pose = self._spoken(source.pose) + change
        pose = (from_deep3d(pose) if self._official else pose).astype(np.float64)
        generated = pose.copy()
        for axis, track in enumerate((controls.pitch, controls.yaw, controls.roll)):
            if track is not None:
                degrees = (spread_by_travel if self._official else spread_keys)(track, len(pose))
                pose[:, axis] = source.pose[axis] + np.radians(degrees)
        if self.space == "open":  # the neck stays where it is, of which only the open space knows
            shift = (rotation(generated[:, :3]) - rotation(pose[:, :3])) @ NECK
            pose[:, 3:5] += np.exp(-generated[:, 5:]) * shift[:, :2]
        return pose

    def _spoken(self, pose: np.ndarray) -> np.ndarray:
        """Poses (..., 6) in the numbers that the network speaks."""
        return to_deep3d(pose) if self._official else pose


def there_and_back(frames: np.ndarray, length: int) -> np.ndarray:
    """Frames of a video that is shorter than needed: forwards, backwards, and so on; it never jumps."""
    if length == 1:
        return np.zeros_like(frames)
    steps = frames % (2 * length - 2)
    return np.minimum(steps, 2 * length - 2 - steps)
