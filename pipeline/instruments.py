"""What a worker measures with: faces and sounds that are looked at once, and the networks that have weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models.interfaces import SAMPLE_RATE
from pipeline import ffmpeg
from pipeline.config import CacheConfig
from pipeline.evidence import Evidence
from pipeline.media import probe, video_frames
from pipeline.networks import METRIC_NETWORKS, NEEDS, NO_WEIGHTS, MetricNetworks, NetworkScores
from pipeline.observation import METRIC_SIDE, tracked_size
from pipeline.scoring import NOTHING, Value
from pipeline.weights import WeightsPlace


class WeightsConfig(WeightsPlace):
    """Weights of the metric networks; without them their columns say "no weights"."""

    def load(self, cache: CacheConfig) -> MetricNetworks | None:
        """The networks that there are weights for, or None. Raises SetupError for wrong files, TransientError."""
        if not self.dir and not self.files:
            return None
        return MetricNetworks.load(self.find(cache.folder, METRIC_NETWORKS))


@dataclass
class Instruments:
    """One object per process.

    Args:
        evidence: faces and sounds.
        weights: where weights are.
        cache: for remote weights.
    """

    evidence: Evidence
    weights: WeightsConfig
    cache: CacheConfig

    @cached_property
    def networks(self) -> MetricNetworks | None:
        """Loaded when they are first asked for."""
        return self.weights.load(self.cache)

    @property
    def lacking(self) -> tuple[str, ...]:
        """What no network is there for, of what scores of a whole run are made from: "features", "emotions"."""
        networks = self.networks
        found = {"features": networks and networks.inception, "emotions": networks and networks.emotion}
        return tuple(name for name, network in found.items() if not network)

    def look(self, video: str, sound: str, reference: str | None = None, strange: str | None = None) -> NetworkScores:
        """What the networks say of a video; nothing is decoded if there are none.

        Args:
            video, sound: URIs.
            reference: URI of the real clip.
            strange: URI of another clip's sound.
        """
        if self.networks is None:
            return NetworkScores({name: Value(NOTHING, 0, NO_WEIGHTS) for name in NEEDS})
        face, path = self.evidence.face(video), self.evidence.fetch(video).path
        return self.networks.score(
            _frames(path),
            face.landmarks * (max(tracked_size(path)) / METRIC_SIDE),
            self._samples(sound),
            _frames(self.evidence.fetch(reference).path) if reference else None,
            strange=self._samples(strange) if strange else None,
        )

    def _samples(self, uri: str) -> np.ndarray | None:
        """A sound track as it was recorded, 16 kHz mono float32; None if there is none."""
        path = self.evidence.fetch(uri).path
        if not probe(path).has_audio:
            return None
        arguments = ["-threads", "1", *ffmpeg.source(path), "-map", "0:a:0"]
        with ffmpeg.Process([*arguments, "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "pipe:1"]) as process:
            data = b"".join(process.chunks(2**20))
        return np.frombuffer(data[: len(data) // 4 * 4], "<f4")


def _frames(path: Path) -> Iterator[np.ndarray]:
    return video_frames(path, size=tracked_size(path))
