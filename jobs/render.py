"""Render talking videos: a whole manifest, or one clip.

    python -m jobs.render manifest=clips.jsonl out=out
    python -m jobs.render manifest=s3://bucket/clips.parquet out=s3://bucket/night config=night.yaml
    python -m jobs.render portrait=anna.jpg audio=hello.wav out=hello.mp4
    ray job submit --working-dir . -- python -m jobs.render manifest=s3://bucket/clips.parquet out=s3://bucket/night

Run the same command again after an interruption: finished clips are kept, the rest is done. A manifest is rendered
on the Ray cluster that is announced (RAY_ADDRESS, `ray job submit`, `ray start`), else on one that is started for
the job; one clip is rendered in this process.

Exit codes: 0 every clip is rendered; 1 broken off, run again; 2 the manifest or the configuration can't be used,
nothing was started; 3 finished, but some clips could not be rendered.
"""

import argparse
import sys
import time

from pipeline.config import RenderConfig, describe, load_config
from pipeline.environment import set_worker_variables
from pipeline.errors import SetupError, TalkfarmError

ALL_RENDERED, BROKEN_OFF, UNUSABLE, SOME_MISSING, INTERRUPTED = 0, 1, 2, 3, 130


def main(words: list[str]) -> int:
    """Run the job that the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.render",
        description=__doc__,
        epilog="settings and their defaults:\n\n" + describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="see below")
    try:
        config = load_config(parser.parse_args(words).settings)
        set_worker_variables(config.cache.folder)
        return _render_manifest(config) if config.manifest else _render_one(config)
    except SetupError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(f"{_count(len(error.problems), 'problem')}; nothing was started", file=sys.stderr)
        return UNUSABLE
    except TalkfarmError as error:
        print(f"{error}\nbroken off; finished clips are kept, run the same command again", file=sys.stderr)
        return BROKEN_OFF
    except KeyboardInterrupt:
        print("interrupted; finished clips are kept, run the same command again", file=sys.stderr)
        return INTERRUPTED


def _render_manifest(config: RenderConfig) -> int:
    from pipeline.job import run_job

    report = run_job(config, _say)
    _say(report.table())
    return ALL_RENDERED if report.all_rendered else SOME_MISSING


def _render_one(config: RenderConfig) -> int:
    from pipeline.single import render_single

    began = time.monotonic()
    try:
        record = render_single(config, lambda line: _say(f"{time.monotonic() - began:.1f} s: {line}"))
    except TalkfarmError as error:
        print(f"{error.message}\n    {error.hint}", file=sys.stderr)
        return SOME_MISSING
    if record.warnings:
        _say(f"warnings: {', '.join(record.warnings)}")
    speed = record.frames / max(record.seconds_render, 1e-6)
    _say(
        f"{record.uri}: {record.duration_s:.2f} s, {record.width} x {record.height}, "
        f"{record.size_bytes / 1e6:.1f} MB, rendered at {speed:.0f} frames/s"
    )
    return ALL_RENDERED


def _say(line: str) -> None:
    print(line, flush=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
