"""Made-up talking videos and what was "seen" of them, for tests that need neither a face nor a face finder."""

import subprocess
from pathlib import Path

import numpy as np

from models.facespace import camera
from models.facespace.eye_motion import eye_motion
from models.facespace.open import OpenSpace
from pipeline import ffmpeg, storage
from pipeline.cache import hash_file
from pipeline.prepare import ACCEPTED, REJECTED, PrepareConfig, Verdict, take_uri
from pipeline.take import Take
from pipeline.talking_videos import TalkingVideo
from tests.fakes import note
from tests.media_files import chirps, write_wav

SIDE = 96  # pixels


def write_video(path: Path, seconds: float, hue: int = 0) -> Path:
    """A moving test picture with voice-like sound."""
    sound = write_wav(path.with_suffix(".wav"), chirps(seconds))
    picture = f"testsrc=s={SIDE}x{SIDE}:r=25:d={seconds},hue=h={hue}"
    arguments = ["-v", "error", "-y", "-f", "lavfi", "-i", picture, "-i", str(sound), "-pix_fmt", "yuv420p"]
    subprocess.run(ffmpeg.command(*arguments, str(path)), check=True)
    sound.unlink()
    return path


def make_take(frames: int, lag: int = 0, size: tuple[int, int] = (SIDE, SIDE), seed: int = 0) -> Take:
    """A nodding head whose jaw follows a rhythm."""
    space = OpenSpace.load()
    t = np.arange(frames)
    expression = 0.4 * np.abs(np.sin(t / 3 + seed))[:, None] * space.direction("jaw_open")
    still = np.zeros(frames)
    pose = np.stack([0.1 * np.sin(t / 9), 0.2 * np.cos(t / 7 + seed), still, still, still, still], 1)
    points = camera.project(space.vertices(np.zeros(80), expression), pose, 80.0, np.array([128.0, 120.0]))
    return Take(
        landmarks=space.ibug(points)[..., :2].astype(np.float32),
        expression=expression.astype(np.float32),
        pose=pose.astype(np.float32),
        gaze=np.zeros((frames, 2), np.float32),
        eye_motion=eye_motion(space, expression),
        size=np.array(size),
        lag=np.array(lag),
        confidence=np.array(0.5),
        span=np.array([max(0, -lag), frames - max(0, lag)]),
    )


def pretend_to_look(video: TalkingVideo, key: str, config: PrepareConfig) -> Verdict:
    """What `pipeline.prepare.look` does, without looking: names say how a video behaves."""
    import json
    import os
    from dataclasses import asdict

    note("look", video.id)
    if "kill" in video.id:
        os._exit(139)
    if "bad" in video.id:
        verdict = Verdict(REJECTED, f"{video.video} has a second shot", "cut it")
    else:
        local = storage.local_path(video.video)
        assert local is not None
        sha256, frames = hash_file(local), int(video.id.split("_")[1])
        seen = make_take(frames)
        storage.write_atomic(take_uri(sha256, config), seen.dumps())
        verdict = Verdict(ACCEPTED, sha256=sha256, frames=frames, width=SIDE, height=SIDE, seen=1.0)
    storage.write_atomic(config.path("videos", f"{key}.json"), json.dumps(asdict(verdict)).encode())
    return verdict
