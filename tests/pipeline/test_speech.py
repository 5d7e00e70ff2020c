"""Any sound becomes clean 16 kHz mono, and what is doubtful about it is told."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoder import Encoder, Soundtrack
from pipeline.errors import AudioError
from pipeline.speech import decode_speech
from tests.media_files import chirps, convert, moving_bar, sound_of, write_float_wav, write_wav

ROOT = Path(__file__).resolve().parents[2]
VOICE = chirps(3.0)


def decode(path: Path):
    """What was found, and the decoded samples in [-1, 1]."""
    pcm = path.with_suffix(".pcm")
    info = decode_speech(path, pcm)
    return info, np.fromfile(pcm, "<i2") / 32768


def test_plain_speech_passes_unchanged(tmp_path):
    info, samples = decode(write_wav(tmp_path / "a.wav", VOICE))
    assert (info.frames, info.duration_s, info.warnings, info.repair) == (75, 3.0, (), "")
    assert np.abs(samples - VOICE).max() < 2e-4


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 96_000])
def test_rates(tmp_path, rate):
    info, samples = decode(write_wav(tmp_path / "a.wav", chirps(3.0, rate), rate))
    assert info.frames == 75 and info.warnings == ()
    assert np.corrcoef(samples, VOICE)[0, 1] > 0.99


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.ogg", "libvorbis"), ("a.m4a", "aac")])
def test_codecs(tmp_path, name, codec):
    raw = (VOICE * 32767).astype("<i2").tobytes()
    info, samples = decode(convert(raw, ["-f", "s16le", "-ar", "16000", "-ac", "1"], tmp_path / name, codec))
    assert abs(info.frames - 75) <= 2 and info.warnings == () and info.repair == ""
    assert np.corrcoef(samples[: len(VOICE)][:45_000], VOICE[:45_000])[0, 1] > 0.95  # and in time


@pytest.mark.parametrize(
    ("gains", "repair"),
    [
        ((1, 1), ""),
        ((1, -1), "pan=mono|c0=c0"),
        ((0.5, -1), "pan=mono|c0=c1"),
        ((1, 0), "pan=mono|c0=c0"),
        ((0, 0, 1, 0, 0, 0), "pan=mono|c0=c2"),
        ((0, 0.9, 1, 0, 0, 0), ""),
    ],
)
def test_channels_neither_cancel_nor_get_quieter(tmp_path, gains, repair):
    info, samples = decode(write_wav(tmp_path / "a.wav", np.stack([gain * VOICE for gain in gains], 1)))
    assert info.repair == repair
    assert np.abs(np.corrcoef(samples, VOICE)[0, 1]) > 0.999
    assert samples.std() == pytest.approx(VOICE.std(), rel=0.06)


def test_offset_is_removed(tmp_path):
    info, samples = decode(write_wav(tmp_path / "a.wav", 0.3 * VOICE + 0.5))
    assert np.abs(samples - 0.3 * (VOICE - VOICE.mean())).max() < 1e-3
    assert info.repair.startswith("dcshift=shift=-0.5") or info.repair.startswith("dcshift=shift=-0.49")


def test_broken_numbers_become_silence(tmp_path):
    broken = VOICE.copy()
    broken[1000:1010], broken[20_000], broken[30_000] = np.nan, np.inf, 1e30
    info, samples = decode(write_float_wav(tmp_path / "a.wav", broken))
    assert info.warnings == ("damaged",) and info.repair == "decoded"
    good = np.isfinite(broken) & (np.abs(broken) < 10)
    assert np.abs(samples - VOICE)[good].max() < 2e-3 and np.abs(samples[~good]).max() < 2e-3


def test_quiet_speech_is_brought_up_in_lips_and_ears(tmp_path):
    path = write_float_wav(tmp_path / "a.wav", VOICE / 1000)
    info, samples = decode(path)
    assert info.warnings == ("quiet",)
    assert np.corrcoef(samples, VOICE)[0, 1] > 0.999 and 0.03 < samples.std() < 0.2
    with Encoder(tmp_path / "a.mp4", (64, 48), 75, info.soundtrack(path, tmp_path / "a.pcm")) as encoder:
        encoder.write(moving_bar(75))
    assert sound_of(tmp_path / "a.mp4").std() == pytest.approx(samples.std(), rel=0.1)


def test_clipping_is_told(tmp_path):
    assert decode(write_wav(tmp_path / "a.wav", np.clip(12 * VOICE, -0.99, 0.99)))[0].warnings == ("clipped",)


def test_what_is_no_speech(tmp_path):
    generator = np.random.default_rng(0)
    time = np.arange(48_000) / 16_000
    for samples in (
        np.zeros(48_000),
        0.1 * generator.standard_normal(48_000),
        1e-5 * generator.standard_normal(48_000),
        0.3 * np.sin(2 * np.pi * 440 * time),
        0.3 * np.sin(2 * np.pi * 1000 * time) * (time % 0.5 < 0.25),
    ):
        info, decoded = decode(write_float_wav(tmp_path / "a.wav", samples))
        assert info.warnings == ("no speech",)
        assert decoded.std() == pytest.approx(samples.std(), rel=0.1, abs=1e-5)  # noise isn't brought up


def test_truncated_files_give_what_they_have(tmp_path):
    whole = write_wav(tmp_path / "whole.wav", VOICE).read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    info, _ = decode(tmp_path / "a.wav")
    assert info.warnings == ("truncated",) and info.frames == 37


def test_one_frame_is_enough_and_less_is_not(tmp_path):
    assert decode(write_wav(tmp_path / "a.wav", VOICE[:640]))[0].frames == 1
    for count in (0, 1, 639):
        with pytest.raises(AudioError, match=r"0\.04 s"):
            decode(write_wav(tmp_path / "a.wav", VOICE[:count]))


def test_what_has_no_sound(tmp_path):
    with Encoder(tmp_path / "silent.mp4", (64, 48), 5) as encoder:
        encoder.write(moving_bar(5))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("these are words, not sound\n" * 40)
    for name, words in (("silent.mp4", "no sound track"), ("empty.wav", "empty"), ("text.wav", "not a video or sound")):
        with pytest.raises(AudioError, match=words) as caught:
            decode(tmp_path / name)
        assert name in caught.value.message and caught.value.hint
    assert not list(tmp_path.glob("*.pcm")) and not list(tmp_path.glob(".*"))


def test_limit(tmp_path):
    path = write_wav(tmp_path / "a.wav", VOICE)
    with pytest.raises(AudioError, match="more than"):
        decode_speech(path, tmp_path / "a.pcm", max_s=2.0)
    assert decode_speech(path, tmp_path / "a.pcm", max_s=3.5).frames == 75


def test_a_video_lends_its_sound_in_time(tmp_path):
    sound = write_wav(tmp_path / "a.wav", VOICE)
    with Encoder(tmp_path / "a.mp4", (64, 48), 75, Soundtrack(sound)) as encoder:
        encoder.write(moving_bar(75))
    info, samples = decode(tmp_path / "a.mp4")
    assert info.frames == 75 and np.corrcoef(samples[:45_000], VOICE[:45_000])[0, 1] > 0.98


def test_memory_does_not_grow_with_length(tmp_path):
    """Ten times as long a recording is decoded in the same memory."""
    code = (
        "import sys; from pathlib import Path; from pipeline.speech import decode_speech;"
        "decode_speech(Path(sys.argv[1]), Path(sys.argv[2])); print(Path('/proc/self/status').read_text())"
    )
    peaks = []
    for seconds in (40, 400):
        path = write_wav(tmp_path / "a.wav", np.tile(VOICE[:32_000], seconds // 2))
        command = [sys.executable, "-c", code, str(path), str(tmp_path / "a.pcm")]
        status = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        peaks.append(int(status.split("VmHWM:")[1].split()[0]))  # kB
    assert peaks[1] < 1.1 * peaks[0]


HOSTILE = {  # warnings, or None where it must be refused
    "48k_stereo.wav": (),
    "5.1.wav": (),
    "8k_ulaw.wav": (),
    "96k_24bit.flac": (),
    "bird.ogg": ("no speech",),
    "clipped.wav": ("clipped",),
    "dc_offset.wav": (),
    "empty_room.wav": ("no speech",),
    "lead_silence_10s.wav": (),
    "m4a.m4a": (),
    "missing_wav_header.wav": None,
    "mp3_24k.mp3": (),
    "music_strings.ogg": ("no speech",),
    "nan_float.wav": ("damaged",),
    "no_samples.wav": None,
    "noise.wav": ("no speech",),
    "noisy_0dB.wav": (),
    "one_sample.wav": None,
    "opus.opus": (),
    "quiet_-60dB.wav": ("quiet",),
    "short_0.19s.wav": (),
    "short_0.1s.wav": (),
    "silence_5s.wav": ("no speech",),
    "stereo_antiphase.wav": (),
    "stereo_one_silent.wav": (),
    "text.wav": None,
    "tone_440.wav": ("no speech",),
    "trumpet.ogg": ("no speech",),
    "truncated.mp3": ("truncated",),
    "truncated.wav": ("truncated",),
    "vorbis.ogg": (),
    "webm.webm": (),
    "white_noise_5s.wav": ("no speech",),
    "zero_bytes.wav": None,
}


def test_hostile_recordings(shared_data, tmp_path):
    for name, warnings in HOSTILE.items():
        path = shared_data / "hostile" / f"aud_{name}"
        if warnings is None:
            with pytest.raises(AudioError):
                decode_speech(path, tmp_path / "a.pcm")
            continue
        info = decode_speech(path, tmp_path / "a.pcm")
        assert info.warnings == warnings, name
        with Encoder(tmp_path / "a.mp4", (64, 48), 3, info.soundtrack(path, tmp_path / "a.pcm")) as encoder:
            encoder.write(moving_bar(3))


def test_real_speech_is_recognised(shared_data, tmp_path):
    found = {
        p.name: decode_speech(p, tmp_path / "a.pcm").warnings for p in sorted((shared_data / "speech").iterdir())[::2]
    }
    assert [name for name, warnings in found.items() if "no speech" in warnings] == []


def test_demo_speech(tmp_path):
    files = sorted((ROOT / "demo" / "speech").glob("*.flac"))
    assert len(files) >= 4 and len({path.stem[-2:] for path in files}) >= 2  # languages
    for path in files:
        info = decode_speech(path, tmp_path / "a.pcm")
        assert 4 <= info.duration_s <= 7 and info.warnings == ()
