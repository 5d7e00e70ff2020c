"""Fits find again what a face was made of."""

import time

import numpy as np
import pytest

from models.facespace import camera
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit

SPACE = OpenSpace.load()
RNG = np.random.default_rng(7)


def synthetic(pose: tuple[float, ...], strength: float = 0.6, noise_px: float = 0.0, **shapes: float) -> tuple:
    """A face of 120 px between the eyes at (200, 220): its points (478, 3), identity and expression."""
    identity = RNG.normal(size=80) * SPACE.identity_sd * 0.1
    expression = sum((v * SPACE.direction(k) for k, v in shapes.items()), np.zeros(64)) * strength / 0.6
    face = FaceFit(
        "open",
        np.zeros((478, 3)),
        identity,
        expression,
        np.array(pose),
        np.zeros(2),
        120.0,
        np.array([200.0, 220.0]),
        0.0,
    )
    points = SPACE.project_points(face)
    return points + RNG.normal(size=points.shape) * noise_px, identity, expression


def degrees(radians: np.ndarray) -> np.ndarray:
    return np.degrees(np.asarray(radians, np.float64))


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.2, -0.4, 0.1), (-0.15, 0.5, -0.7), (0.1, 0.2, 2.9)])
def test_photo_recovers_pose_and_shape(angles):
    points, *_ = synthetic((*angles, 0, 0, 0), jaw_open=0.3, smile_R=0.4, noise_px=0.3)
    face = SPACE.fit(points)
    assert np.abs(degrees(face.pose[:3] - angles)).max() < 2.5
    assert face.scale_px == pytest.approx(120, rel=0.03)
    assert face.residual < 0.006
    there = SPACE.project(face, face.expression, face.pose)
    assert np.linalg.norm((there - points[:468])[:, :2], axis=1).mean() < 0.006 * 120
    assert (face.pose[3:] == 0).all()


def test_photo_is_quick():
    points, *_ = synthetic((0, 0, 0, 0, 0, 0))
    SPACE.fit(points)
    start = time.process_time()
    SPACE.fit(points)
    assert time.process_time() - start < 0.3


def test_fit_follows_scale_and_place():
    points, *_ = synthetic((0.1, 0.2, 0, 0, 0, 0), jaw_open=0.2)
    face, moved = SPACE.fit(points), SPACE.fit(points * 2.5 + (40, -30, 0))
    assert np.allclose(moved.expression, face.expression, atol=2e-3)
    assert moved.scale_px == pytest.approx(2.5 * face.scale_px, rel=1e-3)
    assert np.allclose(moved.origin_px, 2.5 * face.origin_px + (40, -30), atol=0.05)


def test_mirrored_face_mirrors_the_fit():
    points, *_ = synthetic((0.1, 0.3, 0.2, 0, 0, 0), smile_R=0.5, blink_R=0.5)
    face, mirrored = SPACE.fit(points), SPACE.fit(points[SPACE.mirror] * (-1, 1, 1) + (400, 0, 0))
    assert np.allclose(mirrored.pose[:3], face.pose[:3] * (1, -1, -1), atol=0.01)


@pytest.mark.parametrize(("yaw", "pitch"), [(0.3, 0), (-0.25, 0.1), (0, -0.2)])
def test_gaze_signs_and_size(yaw, pitch):
    pose = np.array([0.1, 0.35, 0.2, 0, 0, 0])
    points, *_ = synthetic(tuple(pose))
    eyeball = np.array([-np.sin(yaw), np.sin(pitch), 0]) * 0.115 * 120
    points[468:] += camera.rotation(pose[:3]) @ eyeball
    assert np.allclose(SPACE.fit(points).gaze, (yaw, pitch), atol=0.06)


def test_68_landmarks_suffice_for_pose_and_mouth():
    pose = (0.1, 0.3, -0.2, 0, 0, 0)
    points, *_ = synthetic(pose, jaw_open=0.5, noise_px=0.3)
    face = SPACE.fit(SPACE.ibug(points)[:, :2])
    assert face.landmarks.shape == (478, 3)
    assert np.abs(degrees(face.pose[:3] - pose[:3])).max() < 5
    gap = [(p[14, 1] - p[13, 1]) / 120 for p in (points, face.landmarks)]
    assert gap[1] == pytest.approx(gap[0], abs=0.02)


def test_closing_and_blinking_shut_this_very_face():
    points, *_ = synthetic((0.1, 0.2, 0, 0, 0, 0), jaw_open=0.5, smile_R=0.3)
    face = SPACE.fit(points)
    shut = SPACE.canonical(face)[:468] + np.tensordot(SPACE.closing(face), SPACE.expression, 1)
    assert abs(shut[14, 1] - shut[13, 1]) < 0.005
    right, left = (SPACE.canonical(face)[:468] + np.tensordot(b, SPACE.expression, 1) for b in SPACE.blink(face))
    assert abs(right[145, 1] - right[159, 1]) < 0.01
    assert right[374, 1] - right[386, 1] > 0.05
    assert abs(left[374, 1] - left[386, 1]) < 0.01


def video(frames: int, noise_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A nodding, talking, once blinking head: points (T, 478, 3), poses (T, 6), expressions (T, 64)."""
    t = np.arange(frames) / 25
    pose = np.stack([0.1 * np.sin(4 * t), 0.25 * np.sin(1.3 * t), 0.05 * t, 0.1 * t, 0.05 * np.sin(t), 0.1 * t], 1)
    talk = (0.3 * np.abs(np.sin(9 * t)))[:, None] * SPACE.direction("jaw_open")
    lids = np.exp(-(((t - t[frames // 2]) / 0.06) ** 2))[:, None]
    expression = talk + lids * (SPACE.direction("blink_R") + SPACE.direction("blink_L"))
    identity = RNG.normal(size=80) * SPACE.identity_sd * 0.1
    points = camera.project(SPACE.vertices(identity, expression), pose, 120.0, np.array([200.0, 220.0]))
    irises = camera.project(np.repeat(SPACE.mean[None, 468:], frames, 0), pose, 120.0, np.array([200.0, 220.0]))
    points = np.concatenate([points, irises], 1)
    return points + RNG.normal(size=points.shape) * noise_px, pose, expression


def test_video_recovers_motion_under_the_first_camera():
    points, pose, _ = video(100, noise_px=0.2)
    face, motion = SPACE.fit_video(points)
    assert len(motion) == 100
    assert (motion.pose[0, 3:] == 0).all()
    assert np.abs(degrees(motion.pose[:, :3] - pose[:, :3])).mean() < 1.5
    assert np.allclose(motion.pose[:, 5] - motion.pose[0, 5], pose[:, 5], atol=0.02)
    placed = SPACE.project(face, motion.expression, motion.pose)
    gaps = [(p[:, 14, 1] - p[:, 13, 1]) for p in (points, placed)]
    assert np.corrcoef(*gaps)[0, 1] > 0.99
    lids = [(p[:, 145, 1] - p[:, 159, 1]) for p in (points, placed)]
    assert lids[1].argmin() == pytest.approx(lids[0].argmin(), abs=1)
    assert np.allclose(face.gaze, motion.gaze[0])


def test_video_calms_the_detectors_noise_without_delay():
    points, pose, _ = video(100, noise_px=1.0)
    motion = SPACE.fit_video(points)[1]
    single = np.array([SPACE.fit(p).pose[:3] for p in points[20:40]])
    shake = [np.diff(p, 2, axis=0).std() for p in (single, motion.pose[20:40, :3], pose[20:40, :3])]
    assert shake[1] - shake[2] < 0.5 * (shake[0] - shake[2])
    lags = [np.corrcoef(pose[10:-10, 0], motion.pose[10 + k : 90 + k, 0])[0, 1] for k in (-2, -1, 0, 1, 2)]
    assert int(np.argmax(lags)) == 2


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_short_videos(frames):
    points, *_ = video(frames, noise_px=0.3)
    motion = SPACE.fit_video(points)[1]
    assert motion.expression.shape == (frames, 64)
    assert motion.expression.dtype == motion.pose.dtype == motion.gaze.dtype == np.float32
