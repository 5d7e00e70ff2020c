"""The weak-perspective camera and the head's rotation, as `models.interfaces` defines them."""

import numpy as np


def rotation(angles: np.ndarray) -> np.ndarray:
    """R = Rz(roll) @ Ry(yaw) @ Rx(pitch) of angles (..., 3) = pitch, yaw, roll in radians; shape (..., 3, 3)."""
    pitch, yaw, roll = np.moveaxis(np.asarray(angles), -1, 0)
    cx, sx, cy, sy, cz, sz = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw), np.cos(roll), np.sin(roll)
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def angles(matrix: np.ndarray) -> np.ndarray:
    """Pitch, yaw, roll in radians of rotations (..., 3, 3); yaw within a quarter turn; shape (..., 3)."""
    pitch = np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2])
    yaw = np.arcsin(np.clip(-matrix[..., 2, 0], -1, 1))
    roll = np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return np.stack([pitch, yaw, roll], -1)


def pose_points(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """exp(-t_z) R X + (t_x, t_y, 0): model points (..., N, 3) under poses (..., 6), in model units, (..., N, 3)."""
    turned = points @ np.swapaxes(rotation(pose[..., :3]), -1, -2) * np.exp(-pose[..., 5])[..., None, None]
    turned[..., :2] += pose[..., None, 3:5]
    return turned


def project(points: np.ndarray, pose: np.ndarray, scale_px: float, origin_px: np.ndarray) -> np.ndarray:
    """Model points (..., N, 3) under poses (..., 6) as pixels x, y and, in the same scale, depth; (..., N, 3)."""
    pixels = pose_points(points, pose) * scale_px
    pixels[..., :2] += origin_px
    return pixels


def unproject(pixels: np.ndarray, pose: np.ndarray, scale_px: float, origin_px: np.ndarray) -> np.ndarray:
    """The inverse of `project`: pixels with depth (..., N, 3) back to model points (..., N, 3)."""
    points = np.array(pixels, np.result_type(pixels, np.float32)) / scale_px
    points[..., :2] -= np.asarray(origin_px) / scale_px + pose[..., None, 3:5]
    return points @ rotation(pose[..., :3]) * np.exp(pose[..., 5])[..., None, None]
