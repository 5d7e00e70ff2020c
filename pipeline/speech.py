"""Speech: any file with a sound track in, 16 kHz mono out, with what is doubtful about it.

Everything streams: a day of sound takes the memory of a second. Knows nothing of faces.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.interfaces import SAMPLE_RATE, SAMPLES_PER_FRAME
from pipeline import ffmpeg
from pipeline.encoder import Soundtrack
from pipeline.errors import AudioError, VideoError
from pipeline.media import MediaInfo, probe
from pipeline.voice import VoiceMeter

BLOCK = 8 * SAMPLE_RATE  # samples read at a time
LEVEL_SAMPLES = 320  # 20 ms: levels are measured in such stretches
SILENT_CHANNEL = 1e-3  # power relative to the loudest channel, -30 dB: such a channel is left out of the mix
CANCELLED = 0.5  # mix power below this share of what independent channels would give: they cancel
OFFSET = 0.01  # constant part of the signal (full scale = 1) that is also removed from the soundtrack
SILENCE_DB = -85  # dB of full scale: level of the loud parts below which there is nothing to hear
QUIET_DB = -42  # ... and below which speech is brought up
TARGET_DB = -20  # level of the loud parts after that; broadcast speech has about -16 to -22
MISSING_S = 0.3  # this much shorter than the container says: truncated
CLIPPED_SHARE = 2e-4  # of all samples at the ceiling
ABSURD = 100.0  # full scale = 1; larger samples are as broken as NaN
AMPLITUDE_BINS, LARGEST_AMPLITUDE = 4000, 2.0  # histogram of amplitudes; resampling may overshoot full scale

_DECODED = "decoded"  # repair that filters can't do: play the decoded speech
_CUT = ("partial file", "Packet corrupt", "do not match", "Truncat")  # what demuxers say of a file cut short
_BROKEN = ("Error submitting packet", "Error while decoding")  # what decoders say of damaged data


@dataclass(frozen=True)
class SpeechInfo:
    """What `decode_speech` found and made. Plain data.

    Args:
        frames: video frames that the speech fills at 25 fps, at least 1.
        duration_s: decoded length.
        warnings: what the user should know, from a fixed vocabulary: "quiet", "clipped", "no speech",
            "truncated", "damaged".
        repair: ffmpeg filters that the original needs before it is played, "" for none, or "decoded" if it is
            beyond repair by filters.
    """

    frames: int
    duration_s: float
    warnings: tuple[str, ...]
    repair: str

    def soundtrack(self, original: Path, pcm: Path) -> Soundtrack:
        """What the video should play: the original in its own quality, or the decoded speech if it is broken."""
        if self.repair == _DECODED:
            return Soundtrack(pcm, is_raw=True)
        return Soundtrack(original, self.repair)


@dataclass
class _Mix:
    """Statistics of the decoded channels, summed up while streaming (C channels)."""

    samples: int
    power: np.ndarray  # (C, C) mean products of channels
    mean: np.ndarray  # (C,)
    bad: int  # values that were NaN, infinite or absurd


def decode_speech(path: Path, pcm: Path, max_s: float | None = None) -> SpeechInfo:
    """Decode to headerless 16 kHz mono s16le, repairing what would hurt the lips.

    Channels are averaged unless they cancel (then the loudest is taken) or are silent; a constant offset is
    removed; NaN and Inf become silence; quiet speech is brought up.

    Args:
        path: local file: sound, or a video whose sound track is taken.
        pcm: where to write; appears complete or not at all.
        max_s: longest speech accepted, seconds.
    Raises:
        AudioError: no sound, unreadable, shorter than a frame or longer than `max_s`.
    """
    info = _probe_sound(path)
    if max_s is not None and info.duration_s > max_s:
        raise _too_long(path, info.duration_s, max_s)
    mixed = pcm.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.f32")
    written = mixed.with_suffix(".s16")
    try:
        weights = np.full(info.channels, 1 / info.channels, np.float32)
        mix, said = _decode(path, weights, mixed, max_s)
        if mix.samples < SAMPLES_PER_FRAME:
            raise AudioError(
                f"{path} has {mix.samples / SAMPLE_RATE:.3f} s of sound that can be decoded",
                f"speech must fill at least one frame, {SAMPLES_PER_FRAME / SAMPLE_RATE:.2f} s",
            )
        chosen = _choose_channels(mix)
        if not np.allclose(chosen, weights):
            weights = chosen
            mix, _ = _decode(path, weights, mixed, max_s)
        offset = float(weights @ mix.mean)
        loudness_db, is_clipped = _measure(mixed, offset)
        has_voice = loudness_db > SILENCE_DB and _has_voice(mixed, offset, loudness_db)
        gain_db = TARGET_DB - loudness_db if has_voice and loudness_db < QUIET_DB else 0.0
        _write(mixed, written, offset, gain_db)
        written.replace(pcm)
    finally:
        mixed.unlink(missing_ok=True)
        written.unlink(missing_ok=True)
    duration_s = mix.samples / SAMPLE_RATE
    found = []
    if duration_s < info.duration_s - MISSING_S or any(words in said for words in _CUT):
        found.append("truncated")
    elif mix.bad or any(words in said for words in _BROKEN):
        found.append("damaged")
    if gain_db:
        found.append("quiet")
    if is_clipped:
        found.append("clipped")
    if not has_voice:
        found.append("no speech")
    repair = _DECODED if mix.bad else _filters(weights, offset, gain_db)
    return SpeechInfo(mix.samples // SAMPLES_PER_FRAME, duration_s, tuple(found), repair)


def _probe_sound(path: Path) -> MediaInfo:
    try:
        info = probe(path)
    except VideoError as error:
        raise AudioError(error.message, "use a sound file, or a video with a sound track") from error
    if not info.has_audio:
        raise AudioError(f"{path} has no sound track", "use a sound file, or a video with a sound track")
    return info


def _too_long(path: Path, duration_s: float, max_s: float) -> AudioError:
    return AudioError(
        f"{path} is {duration_s / 3600:.1f} h long, more than {max_s / 3600:.1f} h",
        "cut it into several clips or raise the limit",
    )


def _decode(path: Path, weights: np.ndarray, mixed: Path, max_s: float | None) -> tuple[_Mix, str]:
    """Decode to float32 at 16 kHz, write the weighted sum of the channels, gather statistics of all of them.

    Args:
        weights: shape (C,), one per channel of the file.
        mixed: raw float32 file to write.
    Returns:
        The statistics, and what the decoder said.
    """
    channels = len(weights)
    # A track that starts late or has gaps keeps its place in time.
    arguments = ["-threads", "1", *ffmpeg.source(path), "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0"]
    arguments += ["-ac", str(channels), "-ar", str(SAMPLE_RATE), "-f", "f32le", "pipe:1"]
    samples, bad = 0, 0
    power, total = np.zeros((channels, channels)), np.zeros(channels)
    with ffmpeg.Process(arguments) as process, mixed.open("wb") as file:
        for chunk in process.chunks(BLOCK * channels * 4):
            block = np.frombuffer(chunk, "<f4", count=len(chunk) // (4 * channels) * channels).reshape(-1, channels)
            sane = np.abs(block) < ABSURD  # False for NaN
            if not sane.all():
                bad += int(block.size - sane.sum())
                block = np.where(sane, block, np.float32(0))
            samples += len(block)
            if max_s is not None and samples > max_s * SAMPLE_RATE:
                raise _too_long(path, samples / SAMPLE_RATE, max_s)
            power += np.einsum("tc,td->cd", block, block, dtype=np.float64)
            total += block.sum(0, dtype=np.float64)
            file.write((block @ weights).astype("<f4").tobytes())
        process.finish()
        said = process.said()
    count = max(1, samples)
    return _Mix(samples, power / count, total / count, bad), said


def _choose_channels(mix: _Mix) -> np.ndarray:
    """Weights of the channels, shape (C,): the mean of those that carry something, or the loudest if they cancel."""
    covariance = mix.power - np.outer(mix.mean, mix.mean)
    own = np.diag(covariance)
    active = own >= max(own.max() * SILENT_CHANNEL, 1e-12)
    if not active.any():
        return np.full(len(own), 1 / len(own), np.float32)
    weights = active / active.sum()
    independent = own[active].sum() / active.sum() ** 2
    if weights @ covariance @ weights < CANCELLED * independent:
        weights = np.eye(len(own))[own.argmax()]
    return weights.astype(np.float32)


def _blocks(mixed: Path, offset: float) -> Iterator[np.ndarray]:
    with mixed.open("rb") as file:
        while chunk := file.read(BLOCK * 4):
            yield np.frombuffer(chunk, "<f4") - np.float32(offset)


def _measure(mixed: Path, offset: float) -> tuple[float, bool]:
    """Level of the loud parts in dB of full scale, and whether the recording is clipped."""
    power, squared = 0.0, 0.0
    counts = np.zeros(AMPLITUDE_BINS, np.int64)
    for block in _blocks(mixed, offset):
        stretches = block[: len(block) // LEVEL_SAMPLES * LEVEL_SAMPLES].reshape(-1, LEVEL_SAMPLES)
        levels = np.square(stretches, dtype=np.float64).mean(1)
        power += levels.sum()
        squared += np.square(levels).sum()
        bins = np.abs(block) * (AMPLITUDE_BINS / LARGEST_AMPLITUDE)
        counts += np.bincount(np.minimum(bins, AMPLITUDE_BINS - 1).astype(np.int64), minlength=AMPLITUDE_BINS)
    # Weighting each stretch's power by itself finds the speech however much silence surrounds it.
    loudness_db = 10 * np.log10(squared / power) if power > 1e-12 else -120.0
    return float(loudness_db), _is_clipped(counts)


def _is_clipped(counts: np.ndarray) -> bool:
    """Whether amplitudes pile up at the ceiling. In a histogram of natural sound the top is nearly empty."""
    top = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    if top < AMPLITUDE_BINS / LARGEST_AMPLITUDE * 0.05:  # too quiet to tell from so coarse a histogram
        return False
    ceiling, below = counts[int(top * 0.9) :].sum(), counts[int(top * 0.7) : int(top * 0.9)].sum()
    # A pure tone has 1.3 times as many samples in the top tenth as in the fifth below.
    return bool(ceiling > CLIPPED_SHARE * counts.sum() and ceiling > 2 * below)


def _has_voice(mixed: Path, offset: float, loudness_db: float) -> bool:
    meter = VoiceMeter(loudness_db)
    for block in _blocks(mixed, offset):
        meter.add(block)
    return meter.has_voice()


def _write(mixed: Path, pcm: Path, offset: float, gain_db: float) -> None:
    gain = np.float32(32768 * 10 ** (gain_db / 20))
    with pcm.open("wb") as file:
        for block in _blocks(mixed, offset):
            file.write(np.clip(np.rint(block * gain), -32768, 32767).astype("<i2").tobytes())


def _filters(weights: np.ndarray, offset: float, gain_db: float) -> str:
    """ffmpeg filters that do to the original what we did to the decoded speech, as far as it can be heard."""
    filters = []
    if len(weights) > 1 and np.count_nonzero(weights) == 1:
        filters.append(f"pan=mono|c0=c{int(weights.argmax())}")
    if abs(offset) > OFFSET:
        filters.append(f"dcshift=shift={-offset:.5f}")
    if gain_db:
        filters.append(f"volume={gain_db:.2f}dB")
    return ",".join(filters)
