"""What the metric networks say of a video: LSE-C, LSE-D, CSIM, LPIPS, and the features of FID and Emo_Acc.

One pass over the frames feeds all of them; a network without weights is left out and says so. torch is imported when
the first network is loaded.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from models.interfaces import SAMPLES_PER_FRAME
from models.mfcc import compute_mfcc
from models.syncscore import SyncScore, crop_track, face_boxes, score_sounds, sync_crop
from pipeline.errors import SetupError
from pipeline.scoring import Value, Values
from pipeline.weights import Weights

if TYPE_CHECKING:
    from models.emotion import EmotionNetwork
    from models.identity import Identity
    from models.inception import Inception
    from models.lpips import Lpips
    from models.syncnet import SyncNet

EVERY = 5  # frames: neighbours look alike, and the networks are slow
SIDE = 256  # pixels of the longer side at which pictures are compared
BATCH = 8  # frames per call of a network
SHORTEST = 45  # windows of SyncNet, 2 s: below, its scores are noise
METRIC_NETWORKS = ("syncnet", "inception", "identity", "lpips", "lpips_net", "emotion")  # names of their weights
# The networks that each metric of a clip needs.
NEEDS = {
    "lse_c": ("syncnet",),
    "lse_d": ("syncnet",),
    "av_offset": ("syncnet",),
    "csim": ("identity",),
    "lpips": ("lpips", "lpips_net"),
    "t_lpips": ("lpips", "lpips_net"),
}
NO_WEIGHTS, NO_FACE, NO_REAL, NO_SOUND = "no weights", "no face", "no real clip", "no sound"
NOTHING = float("nan")


@dataclass
class NetworkScores:
    """What a clip gave.

    Args:
        values: `lse_c`, `lse_d`, `av_offset` (frames by which the sound leads), `csim`, `lpips`, `t_lpips`.
        features: Inception's, of every fifth frame, for FID: float32, shape (n, 2048); None without weights.
        emotion: probabilities in the order of `models.emotion.EMOTIONS`, shape (8,); None without weights or faces.
        face_misses: frames that CSIM counts as 0 for want of a face.
        strange: the SyncNet values of the same pictures with a stranger's sound.
    """

    values: Values
    features: np.ndarray | None = None
    emotion: np.ndarray | None = None
    face_misses: int = 0
    strange: Values = field(default_factory=dict)


@dataclass
class MetricNetworks:
    """The networks there are weights for."""

    syncnet: "SyncNet | None" = None
    identity: "Identity | None" = None
    inception: "Inception | None" = None
    lpips: "Lpips | None" = None
    emotion: "EmotionNetwork | None" = None

    @classmethod
    def load(cls, weights: Mapping[str, Weights], device: str = "cpu") -> "MetricNetworks":
        """Load what `find_weights` found.

        Raises:
            SetupError: files that are of another network, or damaged; all of them.
        """
        import torch

        from models.emotion import EmotionNetwork
        from models.errors import WeightsError
        from models.identity import Identity
        from models.inception import Inception
        from models.lpips import Lpips
        from models.syncnet import SyncNet

        torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa: scores would depend on the machine
        kinds = {"syncnet": SyncNet, "identity": Identity, "inception": Inception, "emotion": EmotionNetwork}
        loaded: dict[str, Any] = {}
        problems: list[str] = []
        for name in (name for name in kinds if name in weights):
            try:
                loaded[name] = kinds[name].load(weights[name].path, device)
            except WeightsError as error:
                problems.append(f"weights of {name}: {error}")
        if "lpips" in weights and "lpips_net" in weights:
            try:
                loaded["lpips"] = Lpips.load(weights["lpips"].path, weights["lpips_net"].path, device)
            except WeightsError as error:
                problems.append(f"weights of lpips: {error}")
        if problems:
            raise SetupError(problems)
        return cls(**loaded)

    def score(
        self,
        frames: Iterable[np.ndarray],
        landmarks: np.ndarray,
        samples: np.ndarray | None = None,
        real: Iterable[np.ndarray] | None = None,
        source: np.ndarray | None = None,
        strange: np.ndarray | None = None,
    ) -> NetworkScores:
        """Score a video; frames stream.

        Args:
            frames: at 25 fps, RGB, uint8, shape (H, W, 3).
            landmarks: iBUG, in pixels of these frames, shape (T, 68, 2); NaN where no face was seen.
            samples: the sound as it was decoded, 16 kHz mono in [-1, 1]; None without sound. SyncNet hears absolute
                loudness: nothing may have been made louder or quieter.
            real: frames of the real clip, compared one by one.
            source: vector of the person, as `identify` returns it; None takes the first frame with a face.
            strange: the sound of another clip, to see what SyncNet says when nothing fits.
        """
        watch = _Watch(self, landmarks, source)
        crops = watch.follow(frames, real)
        sounds = [(compute_mfcc(s), len(s) // SAMPLES_PER_FRAME) for s in (samples, strange) if s is not None]
        found = iter(())
        if self.syncnet is not None and sounds and watch.has_face:
            found = iter(score_sounds(crops, sounds, self.syncnet, BATCH))
        deque(crops, maxlen=0)  # what SyncNet had no sound for, the others still see
        watch.finish()
        own, others = (
            _sync_values(NO_SOUND if sound is None else next(found, NO_FACE)) for sound in (samples, strange)
        )
        values = self._without_weights(own | watch.values(real is not None))
        features = np.concatenate(watch.features) if watch.features else None
        return NetworkScores(values, features, watch.classified(), watch.misses, self._without_weights(others))

    def identify(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        """The vector of a person, shape (512,); None without weights or face.

        Args:
            image: RGB, uint8, shape (H, W, 3).
            landmarks: iBUG, in its pixels, shape (68, 2).
        """
        if self.identity is None or not np.isfinite(landmarks).all():
            return None
        from models.identity import align_face, five_points

        return self.identity.embed(align_face(image, five_points(landmarks))[None])[0]

    def _without_weights(self, values: Values) -> Values:
        return {
            name: Value(NOTHING, 0, NO_WEIGHTS) if getattr(self, NEEDS[name][0]) is None else value
            for name, value in values.items()
        }


@dataclass
class _Watch:
    """Everything that a pass over the frames gathers."""

    networks: MetricNetworks
    landmarks: np.ndarray
    source: np.ndarray | None
    misses: int = 0
    features: list[np.ndarray] = field(default_factory=list)
    _vectors: list[np.ndarray] = field(default_factory=list)
    _moods: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _distances: list[float] = field(default_factory=list)
    _changes: list[float] = field(default_factory=list)
    _waiting: dict[str, list[np.ndarray]] = field(default_factory=dict)
    _last: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def has_face(self) -> bool:
        return bool(np.isfinite(self.landmarks).all((1, 2)).any())

    def follow(self, frames: Iterable[np.ndarray], real: Iterable[np.ndarray] | None) -> Iterator[np.ndarray]:
        """Look at every frame, and yield SyncNet's crop of it if there is a face at all."""
        track = crop_track(face_boxes(self.landmarks)) if self.has_face else None
        others: Iterator[np.ndarray | None] = chain(real, repeat(None)) if real is not None else repeat(None)
        for number, (frame, points, other) in enumerate(zip(frames, self.landmarks, others)):
            self._look(number, frame, points, other)
            if track is not None:
                yield sync_crop(frame, track[number])

    def finish(self) -> None:
        """Give the networks what waits for a full batch."""
        for kind in list(self._waiting):
            self._call(kind)

    def values(self, has_real: bool) -> Values:
        reason = "no frame to compare" if has_real else NO_REAL
        return {
            "csim": self._likeness(),
            "lpips": _mean(self._distances, reason),
            "t_lpips": _mean(self._changes, reason),
        }

    def classified(self) -> np.ndarray | None:
        if self.networks.emotion is None or not self._moods:
            return None
        vectors, alpha = (np.concatenate(part) for part in zip(*self._moods))
        return self.networks.emotion.classify(vectors, alpha)

    def _likeness(self) -> Value:
        """CSIM, with a 0 for every frame without a face."""
        person = self._vectors[0] if self.source is None and self._vectors else self.source
        if person is None:
            return Value(NOTHING, self.misses, NO_FACE)
        from models.identity import csim

        missed = np.full((self.misses, len(person)), np.nan)
        vectors = np.concatenate([np.reshape(self._vectors, (-1, len(person))), missed])
        return Value(csim(person, vectors)[0], len(vectors))

    def _look(self, number: int, frame: np.ndarray, points: np.ndarray, other: np.ndarray | None) -> None:
        phase = number % EVERY
        if phase > 1:
            return
        if phase == 0:
            self._look_closely(frame, points)
        if self.networks.lpips is not None and other is not None:
            self._compare(phase, _shrunk(frame), other)

    def _look_closely(self, frame: np.ndarray, points: np.ndarray) -> None:
        seen = bool(np.isfinite(points).all())
        if self.networks.inception is not None:
            self._wait("features", _shrunk(frame))
        if self.networks.identity is not None:
            from models.identity import align_face, five_points

            if seen:
                self._wait("identity", align_face(frame, five_points(points)))
            else:
                self.misses += 1
        if self.networks.emotion is not None and seen:
            from models.emotion import emotion_crop

            self._wait("emotion", emotion_crop(frame, points))

    def _compare(self, phase: int, frame: np.ndarray, other: np.ndarray) -> None:
        """LPIPS of a frame and the real one; for the frame after, whether both have changed as much."""
        lpips = self.networks.lpips
        if lpips is None:
            return
        fitted = cv2.resize(other, frame.shape[1::-1], interpolation=cv2.INTER_AREA)
        if phase == 0:
            self._distances.append(float(lpips.distance(frame[None], fitted[None])[0]))
            self._last = frame, fitted
        elif self._last is not None:
            change = lpips.distance(np.stack(self._last), np.stack([frame, fitted]))
            self._changes.append(abs(float(change[0] - change[1])))

    def _wait(self, kind: str, picture: np.ndarray) -> None:
        waiting = self._waiting.setdefault(kind, [])
        waiting.append(picture)
        if len(waiting) == BATCH:
            self._call(kind)

    def _call(self, kind: str) -> None:
        pictures = self._waiting.pop(kind)
        networks = self.networks
        if kind == "features" and networks.inception is not None:
            self.features.append(networks.inception.features(np.stack(pictures)))
        elif kind == "identity" and networks.identity is not None:
            self._vectors += list(networks.identity.embed(np.stack(pictures)))
        elif kind == "emotion" and networks.emotion is not None:
            self._moods.append(networks.emotion.features(np.stack(pictures)))


def _sync_values(sync: SyncScore | str) -> Values:
    """The values of a score, or none with the reason why there is no score."""
    names = ("lse_c", "lse_d", "av_offset")
    if isinstance(sync, str):
        return {name: Value(NOTHING, 0, sync) for name in names}
    if sync.windows < SHORTEST:
        return {name: Value(NOTHING, sync.windows, "shorter than 2 s") for name in names}
    found = (sync.lse_c, sync.lse_d, sync.offset)
    return {name: Value(value, sync.windows) for name, value in zip(names, found)}


def _mean(values: list[float], reason: str) -> Value:
    return Value(float(np.mean(values)), len(values)) if values else Value(NOTHING, 0, reason)


def _shrunk(frame: np.ndarray) -> np.ndarray:
    """The frame with a longer side of 256 pixels."""
    scale = SIDE / max(frame.shape[:2])
    if scale == 1:
        return frame
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
