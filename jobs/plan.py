"""Check a manifest and everything it points to, and render nothing.

    python -m jobs.plan manifest=clips.jsonl
    python -m jobs.plan manifest=s3://bucket/clips.parquet config=night.yaml json=plan.json
    python -m jobs.plan portrait=anna.jpg audio=hello.wav

Exit codes: 0 every clip would be rendered; 2 the manifest or the configuration can't be used; 3 some clips would
not be rendered.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from jobs.command import ALL_DONE, SOME_MISSING, UNUSABLE
from pipeline import storage
from pipeline.config import RenderConfig, describe, load_config
from pipeline.errors import SetupError, TalkfarmError
from pipeline.inspection import Finding, inspect
from pipeline.manifest import clips_of
from pipeline.packs import settle

SHOWN_CLIPS = 3  # ids named per problem; the JSON has them all


def main(words: list[str]) -> int:
    """Run the check that the command line asks for and return the exit code."""
    words, json_file = _parse(words)
    try:
        config = load_config(words)
        storage.configure(config.storage.options, config.storage.retries)
        result = check(config)
    except SetupError as error:
        result = {"exit_code": UNUSABLE, "setup": error.problems}
    _print(result)
    if json_file:
        try:
            storage.write_atomic(json_file, json.dumps(result, indent=2, ensure_ascii=False).encode())
        except TalkfarmError as error:
            print(f"json={json_file} was not written: {error}", file=sys.stderr)
            return UNUSABLE
    return result["exit_code"]


def check(config: RenderConfig) -> dict[str, Any]:
    """Everything that can be said about a job before it starts, as the JSON file has it.

    Raises:
        SetupError: the manifest can't be used.
    """
    clips = clips_of(config)
    config = settle(config, clips)
    findings = inspect(clips, config, _progress(config.flow.progress_every_s))
    faulty = {clip_id for finding in findings if finding.error for clip_id in finding.clips}
    doubtful = {clip_id for finding in findings if finding.warnings for clip_id in finding.clips} - faulty
    durations = {finding.source.uri: finding.duration_s for finding in findings if finding.source.kind == "audio"}
    return {
        "exit_code": SOME_MISSING if faulty else ALL_DONE,
        "clips": len(clips),
        "would_render": len(clips) - len(faulty),
        "with_warnings": len(doubtful),
        "minutes": round(sum(durations[clip.audio] for clip in clips if clip.id not in faulty) / 60, 3),
        "portraits": len({clip.portrait for clip in clips}),
        "recordings": len(durations),
        "problems": [_entry(finding, error=finding.error, hint=finding.hint) for finding in findings if finding.error],
        "warnings": [_entry(finding, warning=warning) for finding in findings for warning in finding.warnings],
    }


def _parse(words: list[str]) -> tuple[list[str], str | None]:
    """The settings among the command line's words, and the name of the JSON file."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.plan",
        description=__doc__,
        epilog="settings and their defaults:\n\njson=\n    file that gets the result as JSON\n" + describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="see below")
    settings = parser.parse_args(words).settings
    json_files = [word.removeprefix("json=") for word in settings if word.startswith("json=")]
    return [word for word in settings if not word.startswith("json=")], json_files[-1] if json_files else None


def _entry(finding: Finding, **said: str) -> dict[str, Any]:
    return {"kind": finding.source.kind, "uri": finding.source.uri, **said, "clips": list(finding.clips)}


def _print(result: dict[str, Any]) -> None:
    for problem in result.get("setup", []):
        print(problem, file=sys.stderr)
    if "setup" in result:
        count = len(result["setup"])
        print(f"{count} problem{'s' * (count > 1)}, nothing was checked", file=sys.stderr)
        return
    for warning in result["warnings"]:
        print(f"warning  {_named(warning['warning'], warning['uri'])}  [{_some(warning['clips'])}]")
    for problem in result["problems"]:
        print(f"problem  {_named(problem['error'], problem['uri'])} ({problem['hint']})  [{_some(problem['clips'])}]")
    print(
        f"{result['would_render']} of {result['clips']} clips would be rendered: {result['minutes']:.1f} minutes of "
        f"video from {result['portraits']} portraits and {result['recordings']} recordings"
    )
    refused = result["clips"] - result["would_render"]
    if refused or result["with_warnings"]:
        print(f"{refused} would not be rendered, {result['with_warnings']} would be rendered with a warning")


def _named(sentence: str, uri: str) -> str:
    """A sentence that says which file it is about."""
    return sentence if uri in sentence else f"{uri}: {sentence}"


def _some(clip_ids: list[str]) -> str:
    more = len(clip_ids) - SHOWN_CLIPS
    return ", ".join(clip_ids[:SHOWN_CLIPS]) + (f" and {more} more" if more > 0 else "")


def _progress(every_s: float) -> Callable[[int, int], None]:
    """A teller of progress on stderr that is silent when little time has passed."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            print(f"checked {done} of {total} files", file=sys.stderr)

    return tell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
