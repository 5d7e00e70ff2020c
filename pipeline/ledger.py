"""Finds the clip that kills its workers, and keeps the score of a run.

A worker says when it starts on a clip and when it is through. A clip that is started again though its last start
was never finished has killed a worker, by a segmentation fault, for want of memory, in a CUDA abort. The count is
kept in the output folder, so that the next run doesn't begin by losing two more workers. A clip whose machine
went away, or whose whole job was killed, is not to blame. Nothing here knows of Ray.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.commit import Output
from pipeline.records import RENDERED, Record

START_S = 60.0  # of workers, on machines that run already
MOST_KILLS = 2  # workers that one clip may take down before it is quarantined


@dataclass(frozen=True)
class Score:
    """How far a run is.

    Args:
        ended: clips by outcome.
        video_s: seconds of finished video; parts of long clips count as they are written.
        expected_s: seconds of video of all clips that have not failed, as far as known.
        deaths: one sentence per worker that has died.
        has_begun: whether any worker has taken up a clip.
    """

    ended: Counter
    video_s: float
    expected_s: float
    deaths: tuple[str, ...] = ()
    has_begun: bool = False


class Ledger:
    """The one book of a run; lives in a process that never touches a clip.

    Args:
        out: the output folder, where kills are remembered.
        is_alive: whether the machine of that name still takes part.
        lengths: seconds of video to expect of each clip.
    """

    def __init__(self, out: str, is_alive: Callable[[str], bool], lengths: dict[str, float]):
        self._output = Output(out)
        self._is_alive = is_alive
        self._open: dict[tuple[str, int], str] = {}
        self._kills: dict[tuple[str, str], int] = {}
        self._ended: dict[str, str] = {}
        self._video: dict[tuple[str, int], float] = {}
        self._expected = dict(lengths)
        self._deaths: list[str] = []

    def start(self, clip_id: str, spec_hash: str, part: int, stage: str, node: str) -> int:
        """Note that a worker on machine `node` begins with a clip; returns how many it has killed so far."""
        clip, key = (clip_id, spec_hash), (clip_id, part)
        if clip not in self._kills:
            self._kills[clip] = self._output.crashes(clip_id, spec_hash)
        last_node = self._open.get(key)
        if last_node is not None and self._is_alive(last_node):
            self._kills[clip] += 1
            self._output.write_crashes(clip_id, spec_hash, self._kills[clip], stage)
            self._deaths.append(f"a worker died on clip '{clip_id}' ({stage})")
        self._open[key] = node
        return self._kills[clip]

    def finish(self, clip_id: str, part: int) -> None:
        """Note that the worker is through with a clip, whatever came of it."""
        self._open.pop((clip_id, part), None)

    def expect(self, clip_id: str, seconds: float) -> None:
        """Note how long a clip will really be."""
        self._expected[clip_id] = seconds

    def end(self, record: Record) -> None:
        """Note the outcome of a clip, or a finished part. Repeats don't count twice."""
        if record.outcome == RENDERED:
            self._video[(record.clip_id, record.part)] = record.duration_s
        else:
            self._expected.pop(record.clip_id, None)
        if record.parts == 1 or record.outcome != RENDERED:
            self._ended[record.clip_id] = record.outcome

    def score(self) -> Score:
        """The score so far."""
        video_s, expected_s = sum(self._video.values()), sum(self._expected.values())
        return Score(
            Counter(self._ended.values()), video_s, expected_s, tuple(self._deaths), has_begun=bool(self._kills)
        )


class Progress:
    """Turns scores into lines.

    Args:
        clips: how many clips the run has to do.
    """

    def __init__(self, clips: int):
        self._clips = clips
        self._deaths_told = 0
        self._began = time.monotonic()

    def lines(self, score: Score) -> list[str]:
        """What is new, and how far things are."""
        news = list(score.deaths[self._deaths_told :])
        self._deaths_told = len(score.deaths)
        return [*news, self.line(score)]

    def line(self, score: Score) -> str:
        """For example: 12/40 done, 1 failed | 8.2 clips/min | 3.1 s of video per second | about 3 min left"""
        passed = max(time.monotonic() - self._began, 1e-3)
        if not score.has_begun and passed > START_S:
            return (
                f"0/{self._clips} done, none begun in {_duration(passed)}: the cluster may have no CPU or GPU to spare"
            )
        if not score.ended and not score.video_s:
            return f"0/{self._clips} done, workers are starting"
        done = score.ended[RENDERED]
        failed = sum(score.ended.values()) - done
        speed = score.video_s / passed
        words = [
            f"{done}/{self._clips} done, {failed} failed",
            f"{60 * done / passed:.1f} clips/min",
            f"{speed:.1f} s of video per second",
        ]
        if score.video_s > 0:
            left = max(score.expected_s - score.video_s, 0) / speed
            words.append(f"about {_duration(left)} left")
        return " | ".join(words)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
