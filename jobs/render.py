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

import sys
import time

from jobs.command import run_command, say
from pipeline.config import RenderConfig
from pipeline.errors import TalkfarmError


def main(words: list[str]) -> int:
    """Run the job that the command line asks for and return the exit code."""
    return run_command("jobs.render", __doc__, RenderConfig, words, _render, "finished clips are kept")


def _render(config: RenderConfig) -> bool:
    return _render_manifest(config) if config.manifest else _render_one(config)


def _render_manifest(config: RenderConfig) -> bool:
    from pipeline.job import run_job

    report = run_job(config, say)
    say(report.table())
    return report.all_rendered


def _render_one(config: RenderConfig) -> bool:
    from pipeline.single import render_single

    began = time.monotonic()
    try:
        record = render_single(config, lambda line: say(f"{time.monotonic() - began:.1f} s: {line}"))
    except TalkfarmError as error:
        print(f"{error.message}\n    {error.hint}", file=sys.stderr)
        return False
    if record.warnings:
        say(f"warnings: {', '.join(record.warnings)}")
    speed = record.frames / max(record.seconds_render, 1e-6)
    say(
        f"{record.uri}: {record.duration_s:.2f} s, {record.width} x {record.height}, "
        f"{record.size_bytes / 1e6:.1f} MB, rendered at {speed:.0f} frames/s"
    )
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
