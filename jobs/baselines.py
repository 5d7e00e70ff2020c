"""The table that motion systems are judged by: real video, first frame repeated, envelope, and a system of choice.

    python -m jobs.baselines videos=../shared/data/talking out=baselines
    python -m jobs.baselines videos=videos.csv system=envelope out=baselines

Every video is rendered from its first frame and its own sound, then scored against its real frames; the table is
scores/table.md in the output folder. Run the same command again after an interruption: finished videos are kept.

Exit codes: 0 every video is scored; 2 the videos or the configuration can't be used, nothing was started; 3 finished,
but some videos could not be rendered or scored.
"""

import argparse
import sys

from pipeline.baselines import BaselineConfig, run_baselines, run_names
from pipeline.config import describe, load_settings
from pipeline.environment import set_worker_variables
from pipeline.errors import SetupError, TalkfarmError
from pipeline.evaluation import SCORED

ALL_SCORED, BROKEN_OFF, UNUSABLE, SOME_MISSING, INTERRUPTED = 0, 1, 2, 3, 130


def main(words: list[str]) -> int:
    """Make the table that the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.baselines",
        description=__doc__,
        epilog="settings and their defaults:\n\n" + describe(BaselineConfig),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="see below")
    try:
        config = load_settings(BaselineConfig, parser.parse_args(words).settings)
        set_worker_variables(config.cache.folder)
        rows = run_baselines(config, _say)
        count = sum(row["run"] == "real" for row in rows) * len(run_names(config))
        return ALL_SCORED if sum(row["outcome"] == SCORED for row in rows) == count else SOME_MISSING
    except SetupError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return UNUSABLE
    except TalkfarmError as error:
        print(f"{error}\nbroken off; finished videos are kept, run the same command again", file=sys.stderr)
        return BROKEN_OFF
    except KeyboardInterrupt:
        print("interrupted; finished videos are kept, run the same command again", file=sys.stderr)
        return INTERRUPTED


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
