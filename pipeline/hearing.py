"""What can be heard in a recording, frame by frame: what the metrics need of it, decoded once."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.interfaces import FPS, SAMPLE_RATE
from pipeline.arrays import Arrays
from pipeline.audio import SpeechFile
from pipeline.librosa_lock import load_librosa
from pipeline.metrics.sync import log_mel, voice_level
from pipeline.speech import decode_speech

REVISION = 1  # raise it when hearings change: stored ones are made again
STRETCH = 60 * FPS  # frames that are looked at a time
ONSET_HOP = 512  # samples, 32 ms


@dataclass(frozen=True)
class Hearing(Arrays):
    """Speech of T video frames at 25 fps.

    Args:
        bands: shape (T, 26), of `pipeline.metrics.sync.log_mel`.
        level: shape (T,), of `pipeline.metrics.sync.voice_level`.
        onsets: where sounds begin, in frames.
        beats: what a beat tracker for music makes of it, in frames: for comparison with published figures.
    """

    bands: np.ndarray
    level: np.ndarray
    onsets: np.ndarray
    beats: np.ndarray

    def __len__(self) -> int:
        return len(self.level)


def hear(path: Path) -> Hearing:
    """Listen to a sound file or to the sound track of a video, a minute at a time.

    Raises:
        AudioError: no sound, unreadable or shorter than a frame.
    """
    with tempfile.TemporaryDirectory(prefix="talkfarm-") as folder:
        pcm = Path(folder) / "speech.pcm"
        decode_speech(path, pcm)
        speech = SpeechFile(pcm)
        parts = []
        for first in range(0, speech.frames, STRETCH):
            samples = speech.samples(first, min(first + STRETCH, speech.frames))
            onsets, beats = find_beats(samples)
            parts.append((log_mel(samples), voice_level(samples), onsets + first, beats + first))
    return Hearing(*(np.concatenate(column).astype(np.float32) for column in zip(*parts)))


def find_beats(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Onsets and tracked beats of 16 kHz mono samples, in video frames.

    Onset strength is the median over bands of the percussive part (librosa), hop 512.
    """
    librosa = load_librosa("beat", "effects", "onset")
    percussive = librosa.effects.percussive(samples)
    strength = librosa.onset.onset_strength(y=percussive, sr=SAMPLE_RATE, hop_length=ONSET_HOP, aggregate=np.median)
    common = {"onset_envelope": strength, "sr": SAMPLE_RATE, "hop_length": ONSET_HOP, "units": "time"}
    onsets = librosa.onset.onset_detect(**common)
    _, beats = librosa.beat.beat_track(**common)
    return np.asarray(onsets) * FPS, np.asarray(beats) * FPS
