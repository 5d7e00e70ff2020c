"""What every job's command line has in common: key=value settings, plain errors, exit codes."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from pipeline.config import describe, load_settings
from pipeline.environment import set_worker_variables
from pipeline.errors import SetupError, TalkfarmError

ALL_DONE, BROKEN_OFF, UNUSABLE, SOME_MISSING, INTERRUPTED = 0, 1, 2, 3, 130


def run_command(
    name: str, purpose: str | None, model: Any, words: list[str], work: Callable[[Any], bool], kept: str
) -> int:
    """Run a job on the settings of a command line and return the exit code.

    Args:
        name: of the job's module.
        purpose: its docstring, for `--help`.
        model: pydantic model of its settings, with a `cache`.
        work: does the job; whether everything could be done.
        kept: what an interruption leaves intact, as a clause.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=purpose,
        epilog="settings and their defaults:\n\n" + describe(model),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="see below")
    try:
        config = load_settings(model, parser.parse_args(words).settings)
        set_worker_variables(config.cache.folder)  # before anything heavy is imported
        return ALL_DONE if work(config) else SOME_MISSING
    except SetupError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        count = len(error.problems)
        print(f"{count} problem{'' if count == 1 else 's'}; nothing was started", file=sys.stderr)
        return UNUSABLE
    except TalkfarmError as error:
        print(f"{error}\nbroken off; {kept}, run the same command again", file=sys.stderr)
        return BROKEN_OFF
    except KeyboardInterrupt:
        print(f"interrupted; {kept}, run the same command again", file=sys.stderr)
        return INTERRUPTED


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
