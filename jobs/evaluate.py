"""Score talking videos: sync with the sound, nearness to the real clip, motion, sharpness.

    python -m jobs.evaluate runs.night=out/night out=scores
    python -m jobs.evaluate runs.ours=out/night runs.theirs=theirs.csv out=scores
    python -m jobs.evaluate runs.real=videos/ out=scores

A run is the output folder of a render job, a folder of videos, or a table with the columns id and video, and where
there are any: reference (the real video of the same speech), audio, phones, speaker, seams. Several runs are compared
over the clips that all of them have. Faces are tracked once per video and kept in the cache.

Exit codes: 0 every video is scored; 2 the runs or the configuration can't be used, nothing was started; 3 finished,
but some videos could not be scored: scores.parquet and the table say why.
"""

import sys

from jobs.command import run_command, say
from pipeline.evaluation import SCORED, EvaluateConfig
from pipeline.scores import evaluate


def main(words: list[str]) -> int:
    """Run the evaluation that the command line asks for and return the exit code."""
    return run_command("jobs.evaluate", __doc__, EvaluateConfig, words, _evaluate, "faces tracked so far are kept")


def _evaluate(config: EvaluateConfig) -> bool:
    return all(row["outcome"] == SCORED for row in evaluate(config, say))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
