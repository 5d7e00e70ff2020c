"""From coefficients to vertices: the photo's head as a mesh (`Head`) and that mesh in one frame (`Posed`).

Everything is relative to the photo. The head's points are the detected ones, lifted to 3-D by the fitted depth, so
a frame with the photo's own coefficients lands on the photo's own pixels and the fit's residual is never seen.

Vertices: 0..467 the face mesh, then the rings of `models.mesh.surround` that carry hair, ears and neck.
Pixels are those of the portrait's image: pixel i covers [i, i + 1), its centre is i + 0.5.

Legend: T frames, V vertices, F triangles, R rays, N ring points beyond the first ring.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.facespace import camera
from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.interfaces import FaceFit, Motion, Portrait
from models.mesh import surround
from models.mesh.surround import Surround, smoothstep

# How far a frame may leave the photo's pose: the limit that a growing change tends to (see `soften`).
LIMITS = np.array([*np.radians([20.0, 28.0, 28.0]), 1.2, 0.9, 0.45], np.float32)  # pitch, yaw, roll; x, y; distance
KNEE = 8  # the higher, the longer a pose is followed exactly before it bends towards the limit

# Depth against picture at the face's border may rise no steeper: this keeps x cos + z sin from folding. On the far
# side of a half profile, where the border hides a part of the face, the relief has to be flatter.
MAX_SLOPE, FAR_SLOPE = 3.0, 0.4
LEVEL_CORE, FAR_CORE = 0.35, 0.1  # units around the middle of the face where the relief stays as it is
HALF_PROFILE = np.radians([12.0, 28.0])  # yaw of a photo where the flatter relief starts, and is complete
BEHIND = 10.0  # units: extra depth of triangles that look away in the photo


@dataclass(frozen=True)
class Posed:
    """The mesh in one frame.

    Args:
        xy: vertices in pixels of the image, float32, shape (V, 2).
        depth: away from the viewer, pixels, float32, shape (V,).
        canonical: face vertices in model units before rotation, with the frame's expression, shape (468, 3).
        rotation: shape (3, 3).
        scale: pixels per model unit.
        shift_px: pixel of the model's origin, shape (2,).
        gaze: yaw, pitch in radians relative to the head, shape (2,).
    """

    xy: np.ndarray
    depth: np.ndarray
    canonical: np.ndarray
    rotation: np.ndarray
    scale: float
    shift_px: np.ndarray
    gaze: np.ndarray

    def plane(self, z: float) -> tuple[np.ndarray, np.ndarray]:
        """Affine map (A, b) of canonical (x, y) at canonical depth z to pixels: p = A @ (x, y) + b."""
        a = self.scale * self.rotation[:2, :2]
        return a, self.scale * self.rotation[:2, 2] * z + self.shift_px


@dataclass(frozen=True)
class Head:
    """A portrait's head, ready to be posed; depends on the picture only.

    Args:
        image: uint8, shape (H, W, 3).
        face: the fit that the head was made from.
        basis: expression directions, model units, float32, shape (64, 468, 3).
        triangles: rings, then the holes of mouth and eyes, then the face; int32, shape (F, 3).
        bias: depth added to each triangle, pixels, float32, shape (F,).
        canonical: face vertices of the photo in model units, float32, shape (468, 3).
        surround: what follows the face around it.
    """

    image: np.ndarray
    face: FaceFit
    basis: np.ndarray
    triangles: np.ndarray
    bias: np.ndarray
    canonical: np.ndarray
    surround: Surround

    @classmethod
    def build(cls, portrait: Portrait, face: FaceFit, space: OpenSpace) -> "Head":
        """Lift the detected points to 3-D and surround them with rings."""
        place = (face.pose, face.scale_px, face.origin_px)
        fitted = space.vertices(face.identity, face.expression)
        scale = float(face.scale_px * np.exp(-face.pose[5]))
        points = np.column_stack([face.landmarks[: topo.VERTICES, :2], camera.project(fitted, *place)[:, 2]])
        away = looking_away(points, fitted, space.triangles)
        points[:, 2] = level_border(points, scale, float(face.pose[1]))
        holes = np.concatenate(list(topo.hole_triangles().values()))
        around = surround.build(points, space.triangles, place, portrait.matte)
        return cls(
            image=portrait.image,
            face=face,
            basis=np.ascontiguousarray(space.expression, np.float32),
            triangles=np.concatenate([surround.triangles(), holes, space.triangles]).astype(np.int32),
            bias=np.concatenate(
                [np.full(len(surround.triangles()) + len(holes), 0.02 * scale), np.where(away, BEHIND * scale, 0)]
            ).astype(np.float32),
            canonical=camera.unproject(points, *place).astype(np.float32),
            surround=around,
        )

    @cached_property
    def source(self) -> Posed:
        """The mesh in the photo itself."""
        return self.pose(self.face.expression, self.face.pose, self.face.gaze)

    @cached_property
    def neutral(self) -> np.ndarray:
        """Canonical face vertices with the photo's expression taken off, shape (468, 3)."""
        return self.canonical - np.tensordot(self.face.expression, self.basis, 1).astype(np.float32)

    @property
    def iris_px(self) -> np.ndarray:
        """The ten iris points of the photo (right eye first, centres first) in pixels, shape (10, 2)."""
        return self.face.landmarks[topo.VERTICES :, :2]

    @property
    def eye_distance_px(self) -> float:
        """Distance of the outer eye corners in the photo, as seen from the front."""
        corners = self.canonical[[topo.RIGHT_EYE_OUTER, topo.LEFT_EYE_OUTER]]
        return float(np.linalg.norm(corners[1] - corners[0])) * self.source.scale

    def pose(self, expression: np.ndarray, pose: np.ndarray, gaze: np.ndarray) -> Posed:
        """The mesh of one frame: expression (64,), pose (6,), gaze (2,), as in `Motion`.

        The pose is taken as it is; `limit` bends motion that leaves the photo too far.
        """
        scale_px, origin_px = self.face.scale_px, self.face.origin_px
        change = np.tensordot(expression - self.face.expression, self.basis, 1)
        canonical = self.canonical + change
        face = camera.project(canonical, pose, scale_px, origin_px)
        rings = self.surround.follow(canonical, change, pose, self.face)
        vertices = np.concatenate([face, rings]).astype(np.float32)
        return Posed(
            xy=np.ascontiguousarray(vertices[:, :2]),
            depth=np.ascontiguousarray(vertices[:, 2]),
            canonical=canonical.astype(np.float32),
            rotation=camera.rotation(pose[:3]),
            scale=float(scale_px * np.exp(-pose[5])),
            shift_px=origin_px + scale_px * np.asarray(pose[3:5]),
            gaze=np.asarray(gaze, np.float32),
        )

    def limit(self, motion: Motion) -> Motion:
        """The same motion with poses that stay near the photo's; small changes pass unchanged."""
        pose = self.face.pose + soften(motion.pose - self.face.pose, LIMITS)
        return Motion(motion.space, motion.expression, pose.astype(np.float32), motion.gaze)


def soften(change: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Bend values smoothly so that they never pass +-limit; slope 1 at 0, exact to 1 % below 0.45 of the limit."""
    return change / (1 + np.abs(change / limit) ** KNEE) ** (1 / KNEE)


def looking_away(points: np.ndarray, fitted: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Which triangles show their back in the photo: the hidden side of a half profile, shape (F,).

    They have no picture of their own; they are only drawn where nothing else is.

    Args:
        points: pixels, shape (468, 3).
        fitted: model units, facing the viewer, shape (468, 3).
        triangles: shape (F, 3).
    """

    def turn(xy: np.ndarray) -> np.ndarray:
        a, b, c = (xy[triangles[:, k]] for k in range(3))
        return np.cross(b[:, :2] - a[:, :2], c[:, :2] - a[:, :2])

    lips = np.isin(triangles, topo.LIPS).any(1)  # pressed lips turn over by the detector's noise
    return (turn(points) * turn(fitted) < 0) & ~lips


def level_border(points: np.ndarray, scale: float, yaw: float) -> np.ndarray:
    """Depth of a face whose border is a shallower relief than the real one.

    A steep border folds over itself, or is stretched to a smear, as soon as the head turns. No vertex may lie
    further behind one that is nearer to the middle of the face than a slope times their distance in the picture.

    Args:
        points: pixels, shape (468, 3).
        scale: pixels per model unit.
        yaw: of the photo, radians.
    Returns:
        Pixels, shape (468,).
    """
    xy, depth = points[:, :2], points[:, 2].copy()
    centre = xy[[topo.RIGHT_EYE_OUTER, topo.LEFT_EYE_OUTER, *topo.LIPS]].mean(0)
    radius = np.linalg.norm(xy - centre, axis=1)
    far_side = smoothstep(-0.1, 0.3, -np.sign(yaw) * (xy[:, 0] - centre[0]) / scale)
    far_side *= smoothstep(HALF_PROFILE[0], HALF_PROFILE[1], np.abs(yaw))
    slope = MAX_SLOPE + (FAR_SLOPE - MAX_SLOPE) * far_side
    core = (LEVEL_CORE + (FAR_CORE - LEVEL_CORE) * far_side) * scale
    order = np.argsort(radius)
    for position, vertex in enumerate(order):
        if radius[vertex] > core[vertex]:
            nearer = order[:position]
            reach = depth[nearer] + slope[vertex] * np.linalg.norm(xy[nearer] - xy[vertex], axis=1)
            depth[vertex] = min(depth[vertex], reach.min())
    return depth
