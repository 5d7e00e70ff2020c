"""Scores of a whole run."""

from functools import partial

import numpy as np
import pytest

from models.emotion import EMOTIONS
from models.frechet import kernel_distance
from pipeline.run_scores import emotion_accuracy, fid


def test_fid_needs_frames_and_kid_stands_in(monkeypatch):
    monkeypatch.setattr("pipeline.run_scores.kernel_distance", partial(kernel_distance, subsets=2))
    rng = np.random.default_rng(0)
    few = fid([rng.normal(size=(30, 8)), rng.normal(size=(20, 8))], [rng.normal(size=(60, 8))])
    assert few["fid"].note == "50 frames, 2048 needed: KID instead"
    assert np.isfinite(few["kid"].value)
    many = [rng.normal(size=(1100, 8)) for _ in range(2)]
    values = fid(many, [clip + 3 for clip in many])
    assert values["fid"].value == pytest.approx(8 * 9, rel=1e-6)
    assert values["fid"].frames == 2200
    assert fid([], many)["kid"].note == "no frames"


def test_emotion_accuracy_and_confusion():
    right, wrong = np.eye(8)[EMOTIONS.index("happy")], np.eye(8)[EMOTIONS.index("sad")]
    share, confusion = emotion_accuracy(["happy", "happy", "fear"], [right, wrong, wrong])
    assert share.value == pytest.approx(1 / 3)
    assert confusion[EMOTIONS.index("fear"), EMOTIONS.index("sad")] == 1
    assert confusion.sum() == 3
    assert np.isnan(emotion_accuracy([], [])[0].value)
    with pytest.raises(ValueError, match=r"unknown emotions: joy; known: happy"):
        emotion_accuracy(["joy"], [right])
