"""From coefficients to vertices: the photo's head as a mesh (`Head`) and that mesh in one frame (`Posed`).

Everything is relative to the photo. The head's points are the detected ones, lifted to 3-D by the fitted depth, so
a frame with the photo's own coefficients lands on the photo's own pixels and the fit's residual is never seen.

Vertices: 0..467 the face mesh, then `RINGS` rings of `RAYS` points around it that carry hair, ears and neck. Ring 0
lies on the face's outline. A ring point follows the head by its weight (1 = rigidly, 0 = stays in the picture).
Pixels are those of the portrait's image: pixel i covers [i, i + 1), its centre is i + 0.5.

Legend: T frames, V vertices, F triangles, N ring points.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.facespace import topology as topo
from models.facespace.open import OpenSpace
from models.facespace.rotation import rotation_matrices
from models.interfaces import FaceFit, Motion, Portrait

RAYS = 2 * len(topo.OVAL)  # the outline's points and the middles between them
RING_RADII = (1.0, 1.06, 1.14, 1.24, 1.36, 1.52, 1.72, 1.96, 2.26, 2.64, 3.2)  # of the outline's radius
RINGS = len(RING_RADII)

# How far a frame may leave the photo's pose: the limit a growing angle or shift tends to (see `soften`).
LIMITS = np.radians([17.0, 24.0, 24.0]).tolist() + [0.9, 0.7, 0.35]  # pitch, yaw, roll; x, y in units; log distance
KNEE = 4  # the higher, the longer a pose is followed exactly before it bends towards the limit

MAX_SLOPE = 1.7  # of depth against picture at the face's border: keeps x cos + z sin from folding
SKULL_DEPTH = 0.62  # of the head's silhouette (hair, ears) in model units behind the model's origin


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
        triangles: face (852), then the holes of mouth and eyes, then rings, int32, shape (F, 3).
        canonical: face vertices of the photo in model units, float32, shape (468, 3).
        outer: ring points (ring 1 and up) of the photo in model units, float32, shape (N, 3).
        follow: how rigidly a ring point follows the head, shape (N,), 0..1.
        sway: how far a ring point follows the head's shift where it doesn't follow its rotation, shape (N,), 0..1.
        mimic: how far a ring point follows the expression of the outline point on its ray, shape (N,), 0..1.
    """

    image: np.ndarray
    face: FaceFit
    basis: np.ndarray
    triangles: np.ndarray
    canonical: np.ndarray
    outer: np.ndarray
    follow: np.ndarray
    sway: np.ndarray
    mimic: np.ndarray

    @classmethod
    def build(cls, portrait: Portrait, face: FaceFit, space: OpenSpace) -> "Head":
        """Lift the detected points to 3-D and surround them with rings."""
        rotation, scale, shift = camera(face.pose, face)
        fitted = space.vertices(face.identity[None], face.expression[None])[0]
        depth = flatten_border(scale * (fitted @ rotation.T)[:, 2], face.landmarks[:468, :2], scale)
        canonical = lift(face.landmarks[:468, :2], depth, rotation, scale, shift)
        outline = np.asarray(topo.OVAL)
        points, weights = rings(face.landmarks[outline, :2], depth[outline], rotation, scale, shift)
        return cls(
            image=portrait.image,
            face=face,
            basis=np.ascontiguousarray(space.expression_basis, np.float32),
            triangles=np.concatenate([space.triangles, *topo.hole_triangles().values(), ring_triangles()], dtype=np.int32),
            canonical=canonical,
            outer=lift(points[:, :2], points[:, 2], rotation, scale, shift),
            **weights,
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
        face = self.face
        rotation, scale, shift = camera(pose, face)
        rotation_0, scale_0, shift_0 = camera(face.pose, face)
        change = np.tensordot(expression - face.expression, self.basis, 1)
        canonical = self.canonical + change
        inner = scale * canonical @ rotation.T
        edge = _on_rays(canonical[list(topo.OVAL)]) @ rotation.T * scale

        moved = self.outer + self.mimic[:, None] * np.tile(_on_rays(change[list(topo.OVAL)]), (RINGS - 1, 1))
        rigid = scale * moved @ rotation.T
        start = scale_0 * self.outer @ rotation_0.T
        step = rigid[:, :2] + shift - start[:, :2] - shift_0
        drift = self.sway[:, None] * (shift - shift_0)
        outer = start[:, :2] + shift_0 + self.follow[:, None] * step + (1 - self.follow[:, None]) * drift
        xy = np.concatenate([inner[:, :2] + shift, edge[:, :2] + shift, outer])
        depth = np.concatenate([inner[:, 2], edge[:, 2], rigid[:, 2]])
        return Posed(
            xy=xy.astype(np.float32),
            depth=depth.astype(np.float32),
            canonical=canonical.astype(np.float32),
            rotation=rotation,
            scale=scale,
            shift_px=shift,
            gaze=np.asarray(gaze, np.float32),
        )

    def limit(self, motion: Motion) -> Motion:
        """The same motion with poses that stay near the photo's; small changes pass unchanged."""
        pose = self.face.pose + soften(motion.pose - self.face.pose, np.asarray(LIMITS, np.float32))
        return Motion(motion.space, motion.expression, pose.astype(np.float32), motion.gaze)


def soften(change: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Bend values smoothly so that they never pass +-limit; slope 1 at 0, exact to 1 % below 0.4 of the limit."""
    return change / (1 + np.abs(change / limit) ** KNEE) ** (1 / KNEE)


def camera(pose: np.ndarray, face: FaceFit) -> tuple[np.ndarray, float, np.ndarray]:
    """Rotation (3, 3), pixels per unit and the origin's pixel (2,) of one pose (6,) in the picture of `face`."""
    rotation = rotation_matrices(np.asarray(pose[:3], np.float64))
    scale = float(face.scale_px * np.exp(-pose[5]))
    return rotation, scale, face.origin_px + face.scale_px * np.asarray(pose[3:5], np.float64)


def lift(xy: np.ndarray, depth: np.ndarray, rotation: np.ndarray, scale: float, shift: np.ndarray) -> np.ndarray:
    """Pixels (K, 2) with depth (K,) to model units (K, 3): the inverse of the camera."""
    return (np.column_stack([xy - shift, depth]) @ rotation / scale).astype(np.float32)


def flatten_border(depth: np.ndarray, xy: np.ndarray, scale: float) -> np.ndarray:
    """Make the face a shallower relief towards its outline, where it would turn away from the viewer.

    A steep border folds over itself, or is stretched to a smear, as soon as the head turns. Each vertex may lie at
    most `MAX_SLOPE` times its distance in the picture behind the vertices nearer to the middle of the face.

    Args:
        depth: pixels, shape (468,).
        xy: pixels, shape (468, 2).
        scale: pixels per model unit.
    """
    centre = xy[[topo.RIGHT_EYE_OUTER, topo.LEFT_EYE_OUTER, *topo.LIPS]].mean(0)
    radius = np.linalg.norm(xy - centre, axis=1) / scale
    cap = depth.copy()
    for vertex in np.argsort(radius):
        nearer = radius < radius[vertex]
        if radius[vertex] < 0.35 or not nearer.any():
            continue
        reach = cap[nearer] + MAX_SLOPE * np.linalg.norm(xy[nearer] - xy[vertex], axis=1)
        cap[vertex] = min(cap[vertex], reach.min())
    return cap


def rings(
    outline: np.ndarray, depth: np.ndarray, rotation: np.ndarray, scale: float, shift: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Place the ring points of a photo and say how they follow the head.

    Args:
        outline: pixels of the face's outline, shape (36, 2).
        depth: its depth in pixels, shape (36,).
        rotation, scale, shift: the photo's camera.
    Returns:
        Points (N, 3): pixels and depth, ring by ring; weights by name (see `Head`), each of shape (N,).
    """
    edge, edge_depth = _on_rays(outline), _on_rays(depth[:, None])[:, 0]
    centre = (outline.min(0) + outline.max(0)) / 2
    grow = np.asarray(RING_RADII[1:])[:, None]
    points = centre + grow[..., None] * (edge - centre)
    silhouette = scale * float((rotation @ [0.0, -0.2, SKULL_DEPTH])[2])
    blend = smoothstep(0.0, 0.55, grow - 1)
    z = edge_depth + blend * (silhouette - edge_depth)

    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    down = np.array([-np.sin(roll), np.cos(roll)])
    chin = outline[topo.OVAL.index(topo.CHIN)] @ down
    below = (points @ down - chin) / scale  # units below the chin, along the head's own axis
    away = (np.linalg.norm(points - centre, axis=-1) - np.linalg.norm(edge - centre, axis=-1)) / scale
    follow = 1 - smoothstep(-0.75, 0.95, below)
    follow = follow * (1 - smoothstep(1.0, 2.4, away))
    sway = np.full_like(follow, 0.0)
    mimic = np.broadcast_to((1 - smoothstep(0.0, 0.75, away)), follow.shape)
    weights = {"follow": follow, "sway": sway, "mimic": mimic}
    follow[-1] = 0.0
    return (
        np.column_stack([points.reshape(-1, 2), z.reshape(-1)]),
        {name: np.ascontiguousarray(value, np.float32).reshape(-1) for name, value in weights.items()},
    )


def ring_triangles() -> np.ndarray:
    """Triangles between neighbouring rings, shape (2 * RAYS * (RINGS - 1), 3)."""
    here = np.arange(RAYS)
    there = (here + 1) % RAYS
    out = []
    for ring in range(RINGS - 1):
        a = topo.VERTICES + ring * RAYS
        b = a + RAYS
        out += [np.column_stack([a + here, a + there, b + here]), np.column_stack([a + there, b + there, b + here])]
    return np.concatenate(out).astype(np.int32)


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _on_rays(outline: np.ndarray) -> np.ndarray:
    """The outline's values (36, k) with the middles between neighbours put in: (72, k)."""
    between = (outline + np.roll(outline, -1, axis=0)) / 2
    return np.stack([outline, between], 1).reshape(RAYS, -1)
