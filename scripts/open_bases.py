"""Smooth fields over the face mesh, and the identity and expression bases made of them."""

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from models.facespace import topology as top
from models.interfaces import EXPRESSION, IDENTITY
from scripts.open_shapes import ALL_BUT_MOUTH, JAW_NARROWS, Shape, author_eyes, author_jaw, author_mouth, jaw_weights

RANK_TOLERANCE = 0.05  # an authored shape is dropped if the others explain all but this share of it


class Skin:
    """Smooth fields over the mesh."""

    def __init__(self, triangles: np.ndarray, mean: np.ndarray | None = None):
        """Edges weigh the same, or by the inverse of their length on `mean`."""
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])
        edges = np.unique(np.sort(edges, axis=1), axis=0)
        length = np.ones(len(edges)) if mean is None else np.linalg.norm(mean[edges[:, 0]] - mean[edges[:, 1]], axis=1)
        weights = scipy.sparse.coo_matrix((1 / np.maximum(length, 0.01), edges.T), (top.VERTICES,) * 2)
        weights = (weights + weights.T).tocsr()
        degree = np.asarray(weights.sum(1)).ravel()
        self.laplacian = (scipy.sparse.diags(degree) - weights).tocsc()
        walk = scipy.sparse.diags(1 / degree) @ self.laplacian
        self.bending = (walk.T @ walk).tocsc()

    def spread(self, values: dict[int, np.ndarray], stiff: bool = True) -> np.ndarray:
        """The smoothest field (468, C) through the given values (C,): least bending, or least stretching."""
        fixed = np.array(list(values))
        free = np.setdiff1d(np.arange(top.VERTICES), fixed)
        field = np.zeros((top.VERTICES, len(next(iter(values.values())))))
        field[fixed] = list(values.values())
        energy = self.bending if stiff else self.laplacian
        solution = scipy.sparse.linalg.spsolve(energy[free][:, free].tocsc(), -(energy[free][:, fixed] @ field[fixed]))
        field[free] = solution.reshape(len(free), -1)
        return field


def identity_basis(mean: np.ndarray, skin: Skin) -> tuple[np.ndarray, np.ndarray]:
    """Smooth ways faces differ, low frequencies first: orthonormal (80, 468, 3) and their expected sizes (80,)."""
    values, waves = scipy.linalg.eigh(skin.laplacian.toarray())
    waves *= np.sign(waves[np.abs(waves).argmax(0), np.arange(len(values))])  # eigh leaves the sign open
    centred = mean[: top.VERTICES] - mean[: top.VERTICES].mean(0)
    # Moving, turning and scaling belong to the camera.
    rigid = [np.tile(axis, (top.VERTICES, 1)) for axis in np.eye(3)] + [np.cross(axis, centred) for axis in np.eye(3)]
    taken = np.linalg.qr(np.stack([r.ravel() for r in [*rigid, centred]], 1))[0].T
    first, basis, size = len(taken), list(taken), []
    for k in range(1, top.VERTICES):
        for axis in np.eye(3):
            rest = residual(np.outer(waves[:, k], axis).ravel(), basis)
            if np.linalg.norm(rest) > 0.2:
                basis.append(rest / np.linalg.norm(rest))
                size.append(1 / np.sqrt(1 + 30 * values[k]))
            if len(size) == IDENTITY:
                return np.array(basis[first:]).reshape(IDENTITY, top.VERTICES, 3), np.array(size)
    raise SystemExit("the mesh has too few vertices for the identity basis")


def residual(field: np.ndarray, basis: list[np.ndarray]) -> np.ndarray:
    """What the orthonormal basis does not explain; projected twice against rounding."""
    for _ in range(2):
        for b in basis:
            field = field - b * (b @ field)
    return field


def authored_fields(mean: np.ndarray, skin: Skin, mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Every authored movement as a displacement (468, 3), by name; sided ones end in _R and _L."""
    weights, stay = jaw_weights(mean)
    values = {v: np.array([w]) for v, w in (dict.fromkeys(stay, 0.0) | weights).items()}
    fields = dict(author_jaw(mean[: top.VERTICES], skin.spread(values, stiff=False)))

    def add(shape: Shape) -> None:
        values = {v: np.zeros(3) for v in shape.stay} | {v: np.array(m, float) for v, m in shape.moves.items()}
        field = skin.spread(values)
        if not shape.sided:
            fields[shape.name] = field
            return
        fields[shape.name + "_R"] = field
        fields[shape.name + "_L"] = field[mirror[: top.VERTICES]] * [-1, 1, 1]

    for shape in (*author_mouth(mean), *author_eyes(mean)):
        add(shape)
    fields["jaw_open"] += JAW_NARROWS * fields["mouth_narrow"]
    return fields


def expression_basis(fields: dict[str, np.ndarray], skin: Skin) -> tuple[np.ndarray, list[str]]:
    """Orthonormal basis (64, 468, 3): the span of the authored movements, filled up with smooth waves at the mouth."""
    basis: list[np.ndarray] = []
    names: list[str] = []
    for name, field in fields.items():
        rest = residual(field.ravel(), basis)
        if np.linalg.norm(rest) > RANK_TOLERANCE * np.linalg.norm(field):
            basis.append(rest / np.linalg.norm(rest))
            names.append(name)
    mouth = np.abs(
        skin.spread({v: np.ones(1) for v in top.LIPS} | {v: np.zeros(1) for v in ALL_BUT_MOUTH}, stiff=False)
    )
    _, waves = scipy.linalg.eigh(skin.laplacian.toarray() + np.diag(20 * (1 - mouth[:, 0])))
    for k in range(top.VERTICES):
        for axis, letter in ((1, "y"), (0, "x"), (2, "z")):
            if len(basis) == EXPRESSION:
                return np.array(basis).reshape(EXPRESSION, top.VERTICES, 3), names
            rest = residual(np.outer(waves[:, k], np.eye(3)[axis]).ravel(), basis)
            if np.linalg.norm(rest) > 0.3:
                basis.append(rest / np.linalg.norm(rest))
                names.append(f"wave{k}_{letter}")
    raise SystemExit("the expression basis has no room: fewer authored shapes, please")
