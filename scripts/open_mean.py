"""The mean face of the open space, from one calm frontal frame per speaker of a folder of talking videos."""

import csv
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from models.facespace import topology as top

FRAMES_PER_VIDEO = 24  # candidates, spread over its first ten seconds


def calm_frames(folder: Path) -> list[tuple[dict[str, str], np.ndarray]]:
    """The calmest frontal frame of every speaker: (row of the index, points (478, 3))."""
    import mediapipe

    with (folder / "index.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["kind"] == "talking" and r["use"] == "train"]
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
    best: dict[str, tuple[float, dict[str, str], np.ndarray]] = {}
    for row in rows:
        video = cv2.VideoCapture(str(folder / row["file"]))
        length = min(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 250)
        for number in np.linspace(0, length - 1, FRAMES_PER_VIDEO).astype(int):
            video.set(cv2.CAP_PROP_POS_FRAMES, int(number))
            found, image = video.read()
            points = detect(mesh, image) if found else None
            if points is not None and (unrest(points) < best.get(row["speaker"], (np.inf,))[0]):
                best[row["speaker"]] = unrest(points), row, points
    return [(row, points) for _, row, points in sorted(best.values(), key=lambda b: b[1]["speaker"])]


def astronaut() -> np.ndarray:
    """Points (478, 3) of scikit-image's portrait of Eileen Collins, a public-domain photograph by NASA."""
    import mediapipe
    import skimage.data

    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
    points = detect(mesh, cv2.cvtColor(skimage.data.astronaut()[:260, 110:340], cv2.COLOR_RGB2BGR))
    if points is None:
        raise SystemExit("no face in scikit-image's astronaut: is mediapipe complete?")
    return points


def detect(mesh, image_bgr: np.ndarray) -> np.ndarray | None:
    """Points (478, 3) in pixels; None without a face."""
    height, width = image_bgr.shape[:2]
    image = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
    faces = mesh.process(image).multi_face_landmarks
    return np.array([[p.x * width, p.y * height, p.z * width] for p in faces[0].landmark]) if faces else None


def unrest(points: np.ndarray) -> float:
    """How far a face is from frontal, mouth shut, eyes open; model units."""
    unit = np.linalg.norm(points[263] - points[33])
    turned = abs(points[263, 2] - points[33, 2]) + abs(points[454, 2] - points[234, 2]) / 2
    nodded = abs((points[10, 2] + points[152, 2]) / 2 - points[4, 2] - 0.55 * unit) * 0.3
    gap = max(0.0, points[14, 1] - points[13, 1])
    lids = (points[145, 1] - points[159, 1] + points[374, 1] - points[386, 1]) / 2
    return float((turned + nodded + gap + max(0.0, 0.09 * unit - lids)) / unit)


def align(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Least-squares similarity (scale, rotation, translation) from points (N, 3) onto points (N, 3)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    scale = float((s * np.diag(flip)).sum() / (a**2).sum())
    return scale, rotation, target.mean(0) - scale * rotation @ source.mean(0)


def moved(points: np.ndarray, similarity: tuple[float, np.ndarray, np.ndarray]) -> np.ndarray:
    scale, rotation, translation = similarity
    return scale * points @ rotation.T + translation


def average(faces: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric mean face, mouth shut, and its mirror permutation: points (478, 3) in model units, indices (478,)."""
    mean = faces[0] / np.linalg.norm(faces[0][263] - faces[0][33])
    mirror = None
    here, there = np.array(top.mirror_pairs()).T
    for _ in range(10):
        mean = np.median([moved(f, align(f[: top.VERTICES], mean[: top.VERTICES])) for f in faces], 0)
        reflected = mean * [-1, 1, 1]
        reflected = moved(reflected, align(reflected[here], mean[there]))
        if mirror is None:
            mirror = mirror_permutation(reflected, mean)
        mean = upright((mean + reflected[mirror]) / 2)
    assert mirror is not None
    mean = (mean + mean[mirror] * [-1, 1, 1]) / 2
    # The detector leaves a sliver of a gap in a shut mouth.
    upper, lower = list(top.UPPER_LIP_INNER), list(top.LOWER_LIP_INNER)
    mean[upper] = mean[lower] = (mean[upper] + mean[lower]) / 2
    return mean, mirror


def mirror_permutation(reflected: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """For every point the index of its mirror image, by the best one-to-one match of a face with its reflection."""
    there, here = linear_sum_assignment(cdist(reflected[: top.VERTICES], mean[: top.VERTICES]))
    mirror = np.empty(top.POINTS, np.int64)
    mirror[here] = there
    # Iris rings are centre, then the points towards the picture's right, top, left and bottom.
    mirror[list(top.RIGHT_IRIS)] = [473, 476, 475, 474, 477]
    mirror[list(top.LEFT_IRIS)] = [468, 471, 470, 469, 472]
    if not (mirror[mirror] == np.arange(top.POINTS)).all():
        raise SystemExit("the mirror permutation is not its own inverse: too few faces for a clean mean?")
    return mirror


def upright(mean: np.ndarray) -> np.ndarray:
    """Eyes level, forehead above chin, one unit between the outer eye corners, the origin in the vertices' middle."""
    x = mean[top.LEFT_EYE_OUTER] - mean[top.RIGHT_EYE_OUTER]
    x /= np.linalg.norm(x)
    y = mean[top.CHIN] - mean[top.FOREHEAD]
    y -= x * (y @ x)
    y /= np.linalg.norm(y)
    mean = (mean - mean[: top.VERTICES].mean(0)) @ np.stack([x, y, np.cross(x, y)]).T
    return mean / np.linalg.norm(mean[top.LEFT_EYE_OUTER] - mean[top.RIGHT_EYE_OUTER])


def face_triangles(mean: np.ndarray) -> np.ndarray:
    """Triangles of the library's edge set, facing the viewer, shape (852, 3)."""
    import mediapipe

    near: dict[int, set[int]] = {}
    for a, b in mediapipe.solutions.face_mesh_connections.FACEMESH_TESSELATION:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    cliques = sorted({tuple(sorted((a, b, c))) for a in near for b in near[a] for c in near[a] & near[b]})
    uses: dict[tuple[int, int], int] = {}
    for a, b, c in cliques:
        for edge in ((a, b), (b, c), (a, c)):
            uses[edge] = uses.get(edge, 0) + 1
    # Three edges that close a loop around a vertex look like a triangle; each of them has two others already.
    triangles = [t for t in cliques if min(uses[t[0], t[1]], uses[t[1], t[2]], uses[t[0], t[2]]) <= 2]
    corners = mean[np.array(triangles)]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    return np.array([t if a > 0 else (t[0], t[2], t[1]) for t, a in zip(triangles, area)], np.int32)
