"""The table that motion systems are judged by: real video, first frame repeated, envelope, and a system of choice.

    python -m jobs.baselines videos=../shared/data/talking out=baselines
    python -m jobs.baselines videos=videos.csv system=envelope out=baselines

Every video is rendered from its first frame and its own sound, then scored against its real frames; the table is
scores/table.md in the output folder. Run the same command again after an interruption: finished videos are kept.

Exit codes: 0 every video is scored; 2 the videos or the configuration can't be used, nothing was started; 3 finished,
but some videos could not be rendered or scored.
"""

import sys

from jobs.command import run_command, say
from pipeline.baselines import BaselineConfig, run_baselines, run_names
from pipeline.evaluation import SCORED


def main(words: list[str]) -> int:
    """Make the table that the command line asks for and return the exit code."""
    return run_command("jobs.baselines", __doc__, BaselineConfig, words, _compare, "finished videos are kept")


def _compare(config: BaselineConfig) -> bool:
    rows = run_baselines(config, say)
    count = sum(row["run"] == "real" for row in rows) * len(run_names(config))
    return sum(row["outcome"] == SCORED for row in rows) == count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
