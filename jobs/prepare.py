"""Turn talking videos into training features.

    python -m jobs.prepare videos=videos/ out=features
    python -m jobs.prepare videos=s3://bucket/videos.csv out=s3://bucket/features
    ray job submit --working-dir . -- python -m jobs.prepare videos=s3://bucket/videos.csv out=s3://bucket/features

A table has the columns video, id, speaker, language, split; only video is required. Videos that can't be learned from
(several shots, no or several faces, sound that doesn't belong to the lips) are left out; datacard.md says which and
why. Run the same command again after an interruption or with more videos: what is done is kept.

Exit codes: 0 every video is used; 1 broken off, run again; 2 the table, the configuration or the output folder can't be
used, nothing was started; 3 finished, but some videos are left out.
"""

import sys

from jobs.command import run_command, say
from pipeline.prepare import PrepareConfig


def main(words: list[str]) -> int:
    """Run the job that the command line asks for and return the exit code."""
    return run_command("jobs.prepare", __doc__, PrepareConfig, words, _prepare, "finished videos are kept")


def _prepare(config: PrepareConfig) -> bool:
    from pipeline.prepare_job import all_usable, prepare

    card = prepare(config, say)
    say(
        f"{config.out}: {card['minutes']:.1f} minutes of {len(card['speakers'])} speakers in {card['rows']} rows, from "
        f"{card['videos'].get('accepted', 0)} of {card['videos']['listed']} videos; see datacard.md"
    )
    return all_usable(card)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
