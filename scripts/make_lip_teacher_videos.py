"""Talking videos in which nothing but the lips moves: what SadTalker's ExpNet was distilled from (Sec. 3.1).

    python -m scripts.make_lip_teacher_videos videos=videos.csv weights=wav2lip_gan.pth out=teacher [device=cuda]
    python -m jobs.prepare videos=teacher/videos.csv out=features
    python -m jobs.train trainable=expnet features=features ...

Of every talking video, the first frame that shows a face stands still, and Wav2Lip makes it speak the video's own
sound. `videos` is what `jobs.prepare` takes; the table that is written has the same ids, speakers, languages and
splits. The weights are yours: wav2lip.pth or wav2lip_gan.pth, for research only. Videos that are there already are
kept, and one that can't be used is told and left out. `cache.dir` is that of the jobs.
"""

import csv
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from omegaconf import MISSING, OmegaConf

from models.controls import FaceChoice
from models.errors import WeightsError
from models.syncscore import face_boxes
from models.teachers.wav2lip import Wav2Lip
from pipeline.audio import SpeechFile
from pipeline.config import CacheConfig, RenderConfig
from pipeline.encoder import Encoder, Encoding
from pipeline.errors import SetupError, TalkfarmError
from pipeline.prep import decoded_speech, prep_portrait, prep_speech, soundtrack, upright_image
from pipeline.talking_videos import TalkingVideo, read_videos

NAME_DIGITS = 20
COLUMNS = ("video", "id", "speaker", "language", "split")
BELOW_CHIN = 0.05  # of the face's height; as the original's ten pixels are of a usual face
AROUND = 2.0  # sides of the square that is kept, over those of the face
MOST_PX = 384  # of that square
STRETCH_FRAMES = 250  # painted at once
SHARP = Encoding(crf=12)  # lips are what is learned from


def main(words: list[str]) -> int:
    """Write the videos and their table; exit code 0, or 3 if videos had to be left out, 2 if nothing was started."""
    defaults = {"videos": MISSING, "weights": MISSING, "out": "teacher", "device": "cpu", "cache": {}}
    asked = OmegaConf.merge(OmegaConf.create(defaults), OmegaConf.from_dotlist(words))
    if missing := OmegaConf.missing_keys(asked):
        print(f"give {' and '.join(f'{name}=...' for name in sorted(missing))}\n{__doc__}", file=sys.stderr)
        return 2
    try:
        videos = read_videos(asked.videos)
        network = Wav2Lip.load(Path(asked.weights), asked.device)
    except (SetupError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2
    out = Path(asked.out).resolve()
    (out / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, video in enumerate(videos, start=1):
        path = out / "videos" / f"{hashlib.sha256(video.video.encode()).hexdigest()[:NAME_DIGITS]}.mp4"
        try:
            if not path.exists():
                make_video(video, path, network, CacheConfig(**asked.cache))
        except TalkfarmError as error:
            print(f"{video.id}: {error}", file=sys.stderr)
            continue
        rows.append({**video.model_dump(exclude_none=True), "video": f"videos/{path.name}"})
        print(f"{number}/{len(videos)} {video.id}", flush=True)
    with (out / "videos.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return 0 if len(rows) == len(videos) else 3


def make_video(video: TalkingVideo, out: Path, network: Wav2Lip, cache: CacheConfig) -> None:
    """Write one video. Raises TalkfarmError."""
    config = RenderConfig(portrait=video.video, audio=video.video, cache=cache)
    portrait = prep_portrait(video.video, FaceChoice(), config)
    speech = prep_speech(video.video, config)
    still, box = framed(upright_image(portrait, config), face_boxes(portrait.face.landmarks[None])[0])
    height, width = still.shape[:2]
    sound = SpeechFile(decoded_speech(speech, config))
    with Encoder(out, (width, height), speech.frames, soundtrack(video.video, config), SHARP) as encoder:
        for painted in speaking(still, box, sound, network):
            encoder.write(painted)


def framed(picture: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """The part of a picture around a face, both sides even, at most `MOST_PX`, and the face in it.

    Args:
        picture: RGB, uint8, shape (H, W, 3).
        box: of the face in it, x0, y0, x1, y1.
    Returns:
        the part, uint8, and x0, y0, x1, y1 of the face in its pixels.
    """
    corners = np.array(box, np.float64).reshape(2, 2)
    corners[1, 1] += BELOW_CHIN * (corners[1, 1] - corners[0, 1])
    middle, half = corners.mean(0), AROUND / 2 * np.ptp(corners, axis=0).max()
    low = np.maximum(0, middle - half).astype(int)
    high = np.minimum(picture.shape[1::-1], middle + half).astype(int)
    scale = min(1.0, MOST_PX / (high - low).max())
    size = np.maximum(2, np.round((high - low) * scale) // 2 * 2).astype(int)
    part = cv2.resize(picture[low[1] : high[1], low[0] : high[0]], size.tolist(), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = np.clip(np.round((corners - low) * size / (high - low)), 0, size).astype(int).ravel().tolist()
    return part, (x0, y0, x1, y1)


def speaking(
    still: np.ndarray, box: tuple[int, int, int, int], sound: SpeechFile, network: Wav2Lip
) -> Iterator[np.ndarray]:
    """Stretches of frames, uint8, shape (n, H, W, 3), as many in all as the sound has."""
    x0, y0, x1, y1 = box
    for start in range(0, sound.frames, STRETCH_FRAMES):
        stop = min(start + STRETCH_FRAMES, sound.frames)
        # its training paired a frame with the window that our front end has for the next one
        heard = np.minimum(np.arange(start + 1, stop + 1), sound.frames - 1)
        windows = sound.mel_windows(start, heard[-1] + 1)[heard - start]
        frames = np.repeat(still[None], stop - start, axis=0)
        for frame, face in zip(frames, network.speak(still[y0:y1, x0:x1], windows)):
            frame[y0:y1, x0:x1] = cv2.resize(face, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)
        yield frames


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
