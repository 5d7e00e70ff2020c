"""Poses as Deep3DFaceRecon gives them and as the project keeps them (`models.interfaces`).

Its camera stands ten units before the face, focal length 1015 pixels, and looks at a world with y up and z towards the
viewer; its rotation is Rz Ry Rx as ours. So a pitch is the same in both, yaw and roll change their signs, its third
translation becomes the logarithm of a relative distance, and the other two shrink with it. Exact but for the depth
within a face, which our weak-perspective camera does not know of.
"""

import numpy as np

DISTANCE = 10.0  # of the camera, model units
SCALE_PX = 1015 / DISTANCE  # pixels of the aligned picture per model unit, where there is no translation
NEAREST = 0.1  # model units from the camera that a face keeps
TURN, SHIFT = np.array([1, -1, -1]), np.array([1, -1])  # signs of pitch, yaw, roll, and of x, y


def from_deep3d(pose: np.ndarray) -> np.ndarray:
    """Poses (..., 6) of the regressor, angles in radians and translations in its units, as `FaceFit.pose`."""
    pose = np.asarray(pose)
    distance = np.maximum(DISTANCE - pose[..., 5:], NEAREST) / DISTANCE
    parts = [pose[..., :3] * TURN, pose[..., 3:5] * SHIFT / distance, np.log(distance)]
    return np.concatenate(parts, axis=-1).astype(pose.dtype)


def to_deep3d(pose: np.ndarray) -> np.ndarray:
    """The inverse of `from_deep3d`."""
    pose = np.asarray(pose)
    distance = np.exp(pose[..., 5:])
    parts = [pose[..., :3] * TURN, pose[..., 3:5] * SHIFT * distance, DISTANCE * (1 - distance)]
    return np.concatenate(parts, axis=-1).astype(pose.dtype)
