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

import argparse
import sys

from pipeline.config import describe, load_settings
from pipeline.environment import set_worker_variables
from pipeline.errors import SetupError, TalkfarmError
from pipeline.evaluation import SCORED, EvaluateConfig
from pipeline.scores import evaluate

ALL_SCORED, BROKEN_OFF, UNUSABLE, SOME_MISSING, INTERRUPTED = 0, 1, 2, 3, 130


def main(words: list[str]) -> int:
    """Run the evaluation that the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.evaluate",
        description=__doc__,
        epilog="settings and their defaults:\n\n" + describe(EvaluateConfig),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="see below")
    try:
        config = load_settings(EvaluateConfig, parser.parse_args(words).settings)
        set_worker_variables(config.cache.folder)
        rows = evaluate(config, _say)
        return ALL_SCORED if all(row["outcome"] == SCORED for row in rows) else SOME_MISSING
    except SetupError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return UNUSABLE
    except TalkfarmError as error:
        print(f"{error}\nbroken off; run the same command again", file=sys.stderr)
        return BROKEN_OFF
    except KeyboardInterrupt:
        print("interrupted; faces tracked so far are kept", file=sys.stderr)
        return INTERRUPTED


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
