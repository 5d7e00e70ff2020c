"""Poses as Deep3DFaceRecon gives them and as the project keeps them (`models.interfaces`).

Its camera stands ten units before the face, focal length 1015 pixels, and looks at a world with y up and z towards the
viewer; its rotation is Rz Ry Rx as ours. So a pitch is the same in both, yaw and roll change their signs, and its third
translation becomes the logarithm of a relative distance. Legend: P = pitch, yaw, roll, three translations.
"""

import numpy as np

DISTANCE = 10.0  # of the camera, model units
FOCAL_PX = 1015.0  # in the aligned picture; pixels per model unit at the origin = 101.5
SIGNS = np.array([1, -1, -1, 1, -1])
NEAREST = 0.1  # model units from the camera that a face keeps


def from_deep3d(pose: np.ndarray) -> np.ndarray:
    """Poses (..., 6) of the regressor as `FaceFit.pose`, same shape."""
    pose = np.asarray(pose)
    distance = np.maximum(DISTANCE - pose[..., 5:], NEAREST)
    return np.concatenate([pose[..., :5] * SIGNS, np.log(distance / DISTANCE)], axis=-1).astype(pose.dtype)


def to_deep3d(pose: np.ndarray) -> np.ndarray:
    """The inverse of `from_deep3d`."""
    pose = np.asarray(pose)
    return np.concatenate([pose[..., :5] * SIGNS, DISTANCE * (1 - np.exp(pose[..., 5:]))], axis=-1).astype(pose.dtype)
