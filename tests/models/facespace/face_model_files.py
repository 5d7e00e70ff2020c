"""Files in the form of the Basel face model and of what Deep3DFaceRecon makes of it, with made-up numbers."""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from models.facespace.face_model import EXPRESSION_VERTICES

CROP = 200  # vertices of the cropped face


def write_ready(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """BFM_model_front.mat; its arrays."""
    generator = np.random.default_rng(seed)
    arrays = {
        "meanshape": generator.normal(size=(1, 3 * CROP)),
        "idBase": generator.normal(size=(3 * CROP, 80)),
        "exBase": generator.normal(size=(3 * CROP, 64)),
        "keypoints": generator.permutation(CROP)[None, :68] + 1,
        "tri": _triangles(generator),
        "meantex": generator.uniform(0, 255, (1, 3 * CROP)),
    }
    savemat(folder / "BFM_model_front.mat", arrays)
    return arrays


def write_parts(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """The six files that the cropped model is made from; what must come of them, as `write_ready` gives it."""
    generator = np.random.default_rng(seed)
    basel = EXPRESSION_VERTICES + 30  # a head of its own, with more vertices
    crop = generator.permutation(EXPRESSION_VERTICES)[:CROP]
    trimmed = generator.permutation(basel)[:EXPRESSION_VERTICES]
    mean = generator.normal(size=(3 * basel, 1)).astype(np.float32)
    people, sizes = generator.normal(size=(3 * basel, 81)).astype(np.float32), generator.uniform(1, 9, (81, 1))
    modes = generator.normal(size=(66, 3 * EXPRESSION_VERTICES)).astype(np.float32)
    strengths = generator.uniform(1, 9, 66)
    points, triangles = generator.permutation(CROP)[None, :68] + 1, _triangles(generator)
    colours = generator.uniform(0, 255, (3 * basel, 1))
    shapes = {"shapeMU": mean, "shapePC": people, "shapeEV": sizes, "texMU": colours}
    savemat(folder / "01_MorphableModel.mat", shapes)
    savemat(folder / "BFM_front_idx.mat", {"idx": crop[:, None] + 1})
    savemat(folder / "BFM_exp_idx.mat", {"trimIndex": trimmed[:, None] + 1})
    savemat(folder / "facemodel_info.mat", {"keypoints": points, "tri": triangles})
    np.savetxt(folder / "std_exp.txt", strengths[None])
    header = np.array([66], "<i4").tobytes() + np.zeros(3 * EXPRESSION_VERTICES, "<f4").tobytes()
    (folder / "Exp_Pca.bin").write_bytes(header + modes.astype("<f4").tobytes())
    rows = 3 * trimmed[crop][:, None] + np.arange(3)
    own = 3 * crop[:, None] + np.arange(3)
    return {
        "meanshape": mean[rows.ravel(), 0] / 1e5,
        "idBase": people[rows.ravel(), :80] * sizes[:80, 0] / 1e5,
        "exBase": (modes[:64, own.ravel()] * strengths[:64, None]).T / 1e5,
        "keypoints": points,
        "tri": triangles,
        "meantex": colours[rows.ravel(), 0],
    }


def _triangles(generator: np.random.Generator) -> np.ndarray:
    """As MATLAB counts vertices, from 1."""
    return generator.integers(1, CROP + 1, (300, 3))
