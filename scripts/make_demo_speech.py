"""Synthesise the demo's speech: short greetings in four languages as 16 kHz mono FLAC.

    sudo apt-get install flite espeak-ng
    python -m scripts.make_demo_speech

flite speaks English with voices recorded by CMU; espeak-ng speaks the rest by rules. Both may be used freely for
what they say. The files are committed, so that the demo needs neither program.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.interfaces import SAMPLE_RATE
from pipeline import ffmpeg

FOLDER = Path(__file__).resolve().parent.parent / "demo" / "speech"
LEVEL_DB = -20.0  # loud parts, dB of full scale
LEAD_S, TAIL_S = 0.2, 0.4  # silence around the words: the mouth is seen at rest


@dataclass(frozen=True)
class Utterance:
    """One file: what is said, and by which program and voice."""

    name: str
    program: str
    voice: str
    text: str

    def command(self, wav: Path) -> list[str]:
        if self.program == "flite":
            return ["flite", "-voice", self.voice, "-t", self.text, "-o", str(wav)]
        return ["espeak-ng", "-v", self.voice, "-s", "145", "-w", str(wav), self.text]


UTTERANCES = (
    Utterance(
        "hello_en", "flite", "slt", "Hello. I am only a photograph, but give me a voice and I will speak to you."
    ),
    Utterance("space_en", "flite", "rms", "From up here, the whole world fits behind my thumb. What a wonderful view!"),
    Utterance("hello_de", "espeak-ng", "de", "Guten Tag! Ich bin nur ein Foto, aber heute darf ich endlich sprechen."),
    Utterance(
        "hello_fr", "espeak-ng", "fr", "Bonjour! Je ne suis qu'une photo, mais aujourd'hui je peux enfin parler."
    ),
    Utterance("hello_es", "espeak-ng", "es", "¡Buenos días! Soy solo una foto, pero hoy por fin puedo hablar."),
)


def synthesise(utterance: Utterance, folder: Path) -> Path:
    """Speak, bring to a common level, write `folder`/<name>.flac."""
    out = folder / f"{utterance.name}.flac"
    with tempfile.TemporaryDirectory() as scratch:
        wav = Path(scratch) / "speech.wav"
        subprocess.run(utterance.command(wav), check=True, stdout=subprocess.DEVNULL)
        raw_format = ["-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "pipe:1"]
        decode = ffmpeg.command("-v", "error", *ffmpeg.source(wav), *raw_format)
        raw = subprocess.run(decode, check=True, stdout=subprocess.PIPE).stdout
        samples = np.frombuffer(raw, "<f4")
        power = np.square(samples[: len(samples) // 320 * 320]).reshape(-1, 320).mean(1)
        level_db = 10 * np.log10(np.square(power).sum() / power.sum())  # as pipeline.speech measures it
        edges = [np.zeros(int(seconds * SAMPLE_RATE), np.float32) for seconds in (LEAD_S, TAIL_S)]
        levelled = np.concatenate([edges[0], samples * 10 ** ((LEVEL_DB - level_db) / 20), edges[1]])
        pcm = np.clip(np.rint(levelled * 32768), -32768, 32767).astype("<i2")
        arguments = ["-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "pipe:0"]
        arguments += ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-compression_level", "8", "-y", str(out)]
        subprocess.run(ffmpeg.command("-v", "error", *arguments), input=pcm.tobytes(), check=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: demo/speech)")
    folder = parser.parse_args().folder
    missing = sorted({u.program for u in UTTERANCES if shutil.which(u.program) is None})
    if missing:
        sys.exit(f"{' and '.join(missing)} not found; install with: sudo apt-get install {' '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    for utterance in UTTERANCES:
        print(synthesise(utterance, folder))


if __name__ == "__main__":
    main()
