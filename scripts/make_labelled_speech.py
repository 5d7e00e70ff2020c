"""Synthetic speech whose phones are known to the millisecond, as training features: what lips must do, told by rules.

    apt-get install espeak-ng flite
    python -m scripts.make_labelled_speech out=features [minutes=24] [seed=0]

Needs libespeak-ng (its events name each phoneme as it is spoken) and, for a second kind of voice, flite. What their
programs say is used, never their code. Every utterance becomes a row of the features that `jobs.prepare` writes, with
expressions from `models.teachers.visemes`, a head that stands still, and no pictures; beside them lie the sound of each
row, speech/<row_id>.wav, and its phones, phones.jsonl. In a folder that `jobs.prepare` has written, the rows join the
real ones, and its data card says so: `jobs.train` learns from both. Labelled speech of an earlier run is replaced.
"""

import ctypes
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf
from scipy.io import wavfile

from models.facespace.eye_motion import EYE_MOTION
from models.facespace.open import OpenSpace
from models.interfaces import GAZE, POSE, SAMPLE_RATE, SAMPLES_PER_FRAME
from models.teachers.visemes import LABELLED, Phone, expression_curves
from pipeline import reserved, storage
from pipeline.audio import mel_windows
from pipeline.datacard import LABELLED_SHARD, labelled_shards, to_markdown, with_labelled
from pipeline.features import MASKS, Features, Origin

SPACE = "open"  # of the expressions that phones become
CARD, PHONES = "datacard.json", "phones.jsonl"
ROW = "labelled"  # what ids of rows begin with
WORDS = Path(__file__).with_name("labelled_speech_words.json")
VARIANTS = ("", *(f"+m{n}" for n in range(1, 8)), *(f"+f{n}" for n in range(1, 6)), "+klatt", "+klatt2", "+klatt4")
ENGLISH = ("en-us", "en-gb", "en-gb-scotland")
OTHERS = ("de", "fr-fr", "es", "ru", "it")
FLITE_VOICES = ("slt", "rms", "awb", "kal16")
FLITE_SHARE, ENGLISH_SHARE = 0.34, 0.34  # of the utterances; the rest is in other languages
ROWS_PER_SHARD = 200
SPLITS = (("validation", 0.05), ("test", 0.05))  # of the voices

# The phones of flite, which writes them in ARPAbet.
ARPABET = {
    "aa": "ɑ",
    "ae": "æ",
    "ah": "ʌ",
    "ao": "ɔ",
    "aw": "aʊ",
    "ax": "ə",
    "ay": "aɪ",
    "b": "b",
    "ch": "tʃ",
    "d": "d",
}
ARPABET |= {
    "dh": "ð",
    "eh": "ɛ",
    "er": "ɜ",
    "ey": "eɪ",
    "f": "f",
    "g": "g",
    "hh": "h",
    "ih": "ɪ",
    "iy": "i",
    "jh": "dʒ",
}
ARPABET |= {"k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s"}
ARPABET |= {"sh": "ʃ", "t": "t", "th": "θ", "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ"}


@dataclass(frozen=True)
class Utterance:
    """Speech of one voice, 16 kHz, and its phones."""

    voice: str
    language: str
    samples: np.ndarray
    phones: list[Phone]


def main(words: list[str]) -> int:
    """Write features of about so many minutes; 0, or 2 if they can't join what is in the folder."""
    defaults = {"out": "labelled", "minutes": 24.0, "seed": 0}
    asked = OmegaConf.merge(OmegaConf.create(defaults), OmegaConf.from_dotlist(words))
    out, space = Path(asked.out), OpenSpace.load()
    if (there := _space_of(out)) not in ("", SPACE):
        problem = f"holds features of the space '{there}', labelled speech is of the space '{SPACE}'"
        print(f"out={out} {problem}: use another folder", file=sys.stderr)
        return 2
    _forget(out)
    for folder in ("features", "speech"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows, spoken_s, labels = [], 0.0, []
    shards = 0
    voices: dict[str, int] = {}
    for number, utterance in enumerate(_utterances(np.random.default_rng(asked.seed))):
        features = _features(utterance, f"{ROW}{number:05d}", voices, space)
        rows.append(features.to_row())
        row_id, split = features.origin.row_id, features.origin.split
        wavfile.write(out / "speech" / f"{row_id}.wav", SAMPLE_RATE, _as_int16(utterance.samples))
        labels.append({"row_id": row_id, "split": split, "phones": [asdict(phone) for phone in utterance.phones]})
        spoken_s += len(utterance.samples) / SAMPLE_RATE
        done = spoken_s >= 60 * asked.minutes
        if done or len(rows) == ROWS_PER_SHARD:
            pq.write_table(pa.Table.from_pylist(rows), out / "features" / f"{LABELLED_SHARD}{shards:03d}.parquet")
            rows, shards = [], shards + 1
        if done:
            break
    (out / PHONES).write_text("".join(json.dumps(label, ensure_ascii=False) + "\n" for label in labels))
    _amend_card(out)
    print(f"{out}: {spoken_s / 60:.1f} minutes, {len(labels)} utterances of {len(voices)} voices")
    return 0


def _space_of(out: Path) -> str:
    """Coefficient space of the features that `jobs.prepare` has written, or has begun to; "" if there are none."""
    card, asked = out / CARD, out / reserved.FILE
    if card.exists():
        return json.loads(card.read_text())["made_with"]["settings"]["space"]
    if asked.exists():
        begun: Any = OmegaConf.load(asked)
        return begun.get("space", "")
    return ""


def _forget(out: Path) -> None:
    """Remove the labelled speech of an earlier run, also from the data card."""
    for shard in labelled_shards(str(out)):
        Path(shard).unlink()
    for sound in (out / "speech").glob(f"{ROW}*.wav"):
        sound.unlink()
    (out / PHONES).unlink(missing_ok=True)
    _amend_card(out)


def _amend_card(out: Path) -> None:
    """Name the labelled speech of the folder in its data card, if it has one."""
    path = out / CARD
    if not path.exists():
        return
    before = json.loads(path.read_text())
    card = with_labelled(before, str(out))
    if card != before:
        storage.write_atomic(str(path), json.dumps(card, indent=1, ensure_ascii=False).encode())
        storage.write_atomic(str(path.with_suffix(".md")), to_markdown(card).encode())


def _utterances(rng: np.random.Generator) -> Iterator[Utterance]:
    words = {language: text.split() for language, text in json.loads(WORDS.read_text()).items()}
    synthesiser, has_flite = Espeak(), shutil.which("flite") is not None
    while True:
        kind = rng.random()
        if has_flite and kind < FLITE_SHARE:
            made = _flite(_sentence(words["en"], rng), rng)
        else:
            voice = str(rng.choice(ENGLISH if kind < FLITE_SHARE + ENGLISH_SHARE else OTHERS))
            made = synthesiser.say(_sentence(words[voice[:2]], rng), voice, str(rng.choice(VARIANTS)), rng)
        if len(made.samples) >= SAMPLE_RATE and made.phones:
            yield made


def _sentence(words: list[str], rng: np.random.Generator) -> str:
    chosen = [str(word) for word in rng.choice(words, rng.integers(6, 15))]
    if rng.random() < 0.6:
        chosen[rng.integers(1, len(chosen) - 1)] += ","  # a breath
    return " ".join(chosen) + "."


def _features(utterance: Utterance, row_id: str, voices: dict[str, int], space: OpenSpace) -> Features:
    samples, frames = utterance.samples, len(utterance.samples) // SAMPLES_PER_FRAME
    voice = voices.setdefault(utterance.voice, len(voices))  # from 0 on
    drawn, split = np.random.default_rng(voice).random(), "train"
    for name, share in SPLITS:
        if drawn < share:
            split = name
            break
        drawn -= share
    nothing = {
        "landmarks": np.full((frames, 68, 2), np.nan),
        "boxes": np.full((frames, len(MASKS), 4), np.nan),
        "eye_motion": np.full((frames, EYE_MOTION), np.nan),
    }
    arrays = {
        **nothing,
        "expression": expression_curves(utterance.phones, frames, space),
        "pose": np.zeros((frames, POSE)),
        "gaze": np.zeros((frames, GAZE)),
        "mel": mel_windows(lambda first, last: samples[first:last], frames * SAMPLES_PER_FRAME, 0, frames),
        "sound": _as_int16(samples)[: frames * SAMPLES_PER_FRAME].reshape(frames, SAMPLES_PER_FRAME),
        "seen": np.ones(frames, bool),
    }
    identity = {
        "speaker": LABELLED + utterance.voice,
        "language": utterance.language,
        "split": split,
        "identity": -1 - voice,  # below 0: real speakers of the same folder count from 0 on
    }
    source = {"video_id": row_id, "sha256": "", "style": -1, "space": SPACE, "start": 0, "frames": frames, "lag": 0}
    return Features(Origin(row_id=row_id, **identity, **source), arrays)


def _as_int16(samples: np.ndarray) -> np.ndarray:
    return (32767 * samples.clip(-1, 1)).astype("<i2")


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_SPOKEN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_LIST_END, _SENTENCE_END, _PHONEME = 0, 5, 7
_RETRIEVE, _PHONEME_EVENTS_IN_IPA = 1, 1 | 2
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_UTF8 = 1


class Espeak:
    """The synthesiser's library, which reports phonemes as it speaks; the program doesn't."""

    def __init__(self):
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self._rate = self._library.espeak_Initialize(_RETRIEVE, 0, None, _PHONEME_EVENTS_IN_IPA)
        self._callback = _SPOKEN(self._heard)  # kept: the library only borrows it
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, variant: str, rng: np.random.Generator) -> Utterance:
        """Speak, at a rate and pitch drawn at random."""
        self._pieces: list[np.ndarray] = []
        self._marks: list[tuple[float, str]] = []
        self._library.espeak_SetVoiceByName((voice + variant).encode())
        for setting, (low, high) in ((_RATE, (130, 215)), (_PITCH, (20, 75)), (_PITCH_RANGE, (30, 80))):
            self._library.espeak_SetParameter(setting, int(rng.integers(low, high)), 0)
        words = text.encode()
        self._library.espeak_Synth(words, len(words) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = _at_16_khz(np.concatenate(self._pieces).astype(np.float32) / 32768, self._rate)
        ends = [*(start for start, _ in self._marks[1:]), len(samples) / SAMPLE_RATE]
        phones = [Phone(start, end, name) for (start, name), end in zip(self._marks, ends) if end > start]
        return Utterance(voice + variant, voice[:2], samples, phones)

    def _heard(self, samples, count: int, events) -> int:
        if count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while events[number].type != _LIST_END:
            event = events[number]
            if event.type in (_PHONEME, _SENTENCE_END):  # a message's end is told as of its beginning
                name = event.name.decode("utf-8", "ignore") if event.type == _PHONEME else ""
                self._marks.append((event.audio_position / 1000, name))
            number += 1
        return 0


def _flite(text: str, rng: np.random.Generator) -> Utterance:
    """flite prints the end of each phone when asked for durations."""
    voice, stretch = str(rng.choice(FLITE_VOICES)), f"duration_stretch={rng.uniform(0.75, 1.15):g}"
    with tempfile.TemporaryDirectory(prefix="talkfarm-speech-") as folder:
        path = Path(folder) / "speech.wav"
        words = ["flite", "-voice", voice, "-t", text, "-o", str(path), "-psdur", "--setf", stretch]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        rate, samples = wavfile.read(path)
    phones, start = [], 0.0
    for word in said.split():
        match = re.match(r"([a-z]+)[ :_]?([\d.]+)$", word)
        if match:
            phones.append(Phone(start, float(match[2]), ARPABET.get(match[1], "")))
            start = float(match[2])
    return Utterance(f"flite-{voice}", "en", _at_16_khz(samples.astype(np.float32) / 32768, rate), phones)


def _at_16_khz(samples: np.ndarray, rate: int) -> np.ndarray:
    return librosa.resample(y=samples, orig_sr=rate, target_sr=SAMPLE_RATE).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
