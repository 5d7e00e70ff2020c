"""Runners of what SadTalker hears and how it moves: mel front end, ExpNet, PoseVAE, alignment and windows."""

from typing import Any

from pipeline import audio
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
