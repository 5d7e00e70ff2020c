"""What moves with a face: rings of points around it that carry hair, ears, neck and shoulders.

Ring 0 lies on the outline of the face as the photo shows it (in a half profile that is the far cheek, not the ear).
The rings beyond follow the head rigidly above the chin. Along the neck they pass over to the torso, which knows of the
head only where the neck carries it: a turn about the neck leaves shoulders alone, a sway of the body takes them along.
Far away nothing moves, so that whatever is pasted back into a larger picture meets it without a seam.

The constants of neck, shoulders and torso were fitted to the 59 real talking videos of `benchmarks.mesh`: first to the
optical flow between their frames, with every second video held out, then to the error of the rendered frames.

Legend: R rays, N points of ring 1 and up, V face vertices.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from models.facespace import camera
from models.facespace import topology as topo
from models.interfaces import FaceFit

Place = tuple[np.ndarray, float, np.ndarray]  # pose, scale_px, origin_px: the photo's camera

RAYS = 72  # directions around the face
RING_DISTANCES = (0.0, 0.05, 0.12, 0.21, 0.33, 0.48, 0.67, 0.92, 1.24, 1.65, 2.1, 2.6)  # from the outline, units
TUCK = 0.015  # how far ring 0 lies under the face, of the way to its middle: no gap shows where the outline is hollow
RING_SLOPE = 1.5  # of depth against picture where the outline runs into hair and neck
SKULL = (0.0, -0.2, 1.0)  # model units: the head's silhouette (hair, ears) lies as deep as this point
NECK = (-0.75, -0.15)  # units below the chin where the neck starts to leave the head, and where it is all torso
# Beside the neck, shoulders come higher than in front: this far from the outline they count as lower by the rise.
SHOULDER, SHOULDER_RISE = (0.15, 0.65), 1.0
SKULL_BASE = np.array([0.0, 0.5, 1.0])  # model units: where the head sits on the neck; it moves as the torso sways
SUPPLE = 0.15  # units across that a neck gives way before the torso follows: of a sway s it follows s / |(s, SUPPLE)|
LIFT = 0.25  # share of a rise or fall that the torso takes part in: necks stretch and nod, bodies keep their height
JAW = 0.4  # units from the outline within which the neck loosens: skin folds under a lowered chin, it doesn't tear
FADE = (1.0, 2.4)  # units from the outline over which all motion fades out
MIMIC = 0.75  # units from the outline over which expression fades out
GUARD = 0.5  # units from the picture's edge within which a person that it cuts off isn't pulled inwards
CUT_SPREAD = 0.25  # units along the edge over which a cut-off person is felt


@dataclass(frozen=True)
class Surround:
    """The rings of one photo.

    Args:
        edge: ring 0 as a mixture of face vertices, float32, shape (R, 468).
        outer: ring 1 and up in model units, float32, shape (N, 3).
        start: their pixels in the photo, shape (N, 2).
        rigid: how far a point follows the head, 0..1, shape (N,).
        torso: how far it follows the torso, 0..1, shape (N,); what is left of 1 stays where it is.
        base_px: pixel of the skull's base in the photo, shape (2,).
        mimic: how far it follows the expression of the outline on its ray, 0..1, shape (N,).
        guard: share of a pull to the right, left, down, up that a point near the picture's edge takes part in,
            shape (N, 4).
    """

    edge: np.ndarray
    outer: np.ndarray
    start: np.ndarray
    rigid: np.ndarray
    torso: np.ndarray
    base_px: np.ndarray
    mimic: np.ndarray
    guard: np.ndarray

    def follow(self, canonical: np.ndarray, change: np.ndarray, pose: np.ndarray, face: FaceFit) -> np.ndarray:
        """All ring points of one frame.

        Args:
            canonical: face vertices in model units, shape (468, 3).
            change: of the expression, model units, shape (468, 3).
            pose: shape (6,).
            face: the photo's fit.
        Returns:
            Pixels and depth in pixels, shape (R + N, 3).
        """
        inner = camera.project(self.edge @ canonical, pose, face.scale_px, face.origin_px)
        mimic = self.mimic[:, None] * np.tile(self.edge @ change, (len(RING_DISTANCES) - 1, 1))
        outer = camera.project(self.outer + mimic, pose, face.scale_px, face.origin_px)
        step = self.rigid[:, None] * (outer[:, :2] - self.start)
        base_px = camera.project(SKULL_BASE[None], pose, face.scale_px, face.origin_px)[0, :2]
        step += self.torso[:, None] * follow_sway(base_px - self.base_px, face.scale_px * np.exp(-face.pose[5]))
        step *= np.where(step > 0, self.guard[:, 0::2], self.guard[:, 1::2])
        outer[:, :2] = self.start + step
        return np.concatenate([inner, outer])


def follow_sway(sway: np.ndarray, unit: float) -> np.ndarray:
    """How far the torso moves when the skull's base does.

    Args:
        sway: of the skull's base since the photo, pixels, shape (2,).
        unit: pixels per model unit in the photo.
    Returns:
        Pixels, shape (2,).
    """
    across, down = sway
    return np.array([across * np.abs(across) / np.hypot(across, SUPPLE * unit), LIFT * down])


def build(points: np.ndarray, face_triangles: np.ndarray, place: Place, matte: np.ndarray) -> Surround:
    """The rings of a photo.

    Args:
        points: face vertices, pixels and depth in pixels, shape (468, 3).
        face_triangles: shape (F, 3).
        place: the photo's camera.
        matte: of the picture, shape (H, W).
    """
    pose, scale_px, _ = place
    scale = float(scale_px * np.exp(-pose[5]))
    rotation = camera.rotation(pose[:3])
    edge = find_outline(points[:, :2], face_triangles)
    ring0 = edge @ points
    centre = (ring0[:, :2].min(0) + ring0[:, :2].max(0)) / 2
    outwards = ring0[:, :2] - centre
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)

    away = np.asarray(RING_DISTANCES[1:])[:, None] + np.zeros(RAYS)
    xy = ring0[:, :2] + scale * away[..., None] * outwards
    behind = scale * float((rotation @ SKULL)[2]) - ring0[:, 2]
    depth = ring0[:, 2] + behind * np.tanh(RING_SLOPE * scale * away / np.maximum(np.abs(behind), 1e-3))

    down = np.array([-np.sin(pose[2]), np.cos(pose[2])])
    below = (xy @ down - points[topo.CHIN, :2] @ down) / scale
    below = below + SHOULDER_RISE * smoothstep(*SHOULDER, away)
    fade = 1 - smoothstep(*FADE, away)
    torso = smoothstep(*NECK, below) * smoothstep(0.0, JAW, away)
    mimic = 1 - smoothstep(0.0, MIMIC, away)
    start = xy.reshape(-1, 2)
    lifted = camera.unproject(np.column_stack([start, depth.reshape(-1)]), *place)
    return Surround(
        edge=edge.astype(np.float32),
        outer=lifted.astype(np.float32),
        start=start.astype(np.float32),
        rigid=((1 - torso) * fade).reshape(-1).astype(np.float32),
        torso=(torso * fade).reshape(-1).astype(np.float32),
        base_px=camera.project(SKULL_BASE[None], *place)[0, :2],
        mimic=mimic.reshape(-1).astype(np.float32),
        guard=guard_edges(xy, ring0[:, :2], matte, scale).reshape(-1, 4).astype(np.float32),
    )


def find_outline(xy: np.ndarray, face_triangles: np.ndarray) -> np.ndarray:
    """The outermost point of the face in each direction, as weights on its vertices, shape (RAYS, 468).

    Args:
        xy: pixels, shape (468, 2).
        face_triangles: shape (F, 3).
    """
    edges = np.unique(np.sort(face_triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    hull = cv2.convexHull(xy.astype(np.float32))[:, 0]
    centre = (hull.min(0) + hull.max(0)) / 2
    angle = 2 * np.pi * np.arange(RAYS) / RAYS - np.pi / 2
    ray = np.column_stack([np.cos(angle), np.sin(angle)])[:, None]  # (R, 1, 2)
    a, step = xy[edges[:, 0]] - centre, xy[edges[:, 1]] - xy[edges[:, 0]]
    cross = ray[..., 0] * step[:, 1] - ray[..., 1] * step[:, 0]
    cross = np.where(np.abs(cross) < 1e-9, 1e-9, cross)
    along = (a[:, 0] * step[:, 1] - a[:, 1] * step[:, 0]) / cross  # distance on the ray
    share = (a[:, 0] * ray[..., 1] - a[:, 1] * ray[..., 0]) / cross  # position on the edge
    along = np.where((share >= 0) & (share <= 1), along, -np.inf)
    best = along.argmax(1)
    rows = np.arange(RAYS)
    weights = np.zeros((RAYS, len(xy)))
    weights[rows, edges[best, 0]] = (1 - share[rows, best]) * (1 - TUCK)
    weights[rows, edges[best, 1]] = share[rows, best] * (1 - TUCK)
    return weights + TUCK / len(xy)


def guard_edges(xy: np.ndarray, ring0: np.ndarray, matte: np.ndarray, scale: float) -> np.ndarray:
    """How far points near the picture's edge may be pulled into it, shape (..., RAYS, 4): right, left, down, up.

    Where the edge cuts off the person there is nothing behind it to pull in; what is near is stretched instead.

    Args:
        xy: ring points, pixels, shape (..., RAYS, 2).
        ring0: pixels, shape (RAYS, 2).
        matte: shape (H, W).
        scale: pixels per model unit.
    """
    height, width = matte.shape
    spread = 2 * round(CUT_SPREAD * scale) + 1
    column = np.clip(xy[..., 0].astype(int), 0, width - 1)
    row = np.clip(xy[..., 1].astype(int), 0, height - 1)

    def cut(edge: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether the person is cut off near these places of an edge, 0..1."""
        near = cv2.dilate(edge.reshape(1, -1), np.ones((1, spread)))
        return cv2.blur(near, (spread, 1))[0][at]

    def room(points: np.ndarray) -> np.ndarray:
        return np.concatenate([points, (width, height) - points], -1)[..., [0, 2, 1, 3]] / scale

    edges = ((matte[:, 0], row), (matte[:, -1], row), (matte[0], column), (matte[-1], column))
    stopped = np.stack([cut(edge, at) for edge, at in edges], -1)
    inner = room(ring0)
    free = smoothstep(0.0, 1.0, room(xy) / np.clip(inner, 0.05, GUARD))
    # a face that is cut off itself has to move with whatever lies beyond the edge
    return 1 - stopped * (1 - free) * smoothstep(0.05, 0.3, inner)


def triangles() -> np.ndarray:
    """Triangles between neighbouring rings, shape (2 * RAYS * (rings - 1), 3)."""
    here = np.arange(RAYS)
    there = (here + 1) % RAYS
    out = []
    for ring in range(len(RING_DISTANCES) - 1):
        a = topo.VERTICES + ring * RAYS
        b = a + RAYS
        out += [np.column_stack([a + here, a + there, b + here]), np.column_stack([a + there, b + there, b + here])]
    return np.concatenate(out).astype(np.int32)


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)
