"""The bfm space: the user's files become landmarks, a picture becomes a face under the right camera.

Run: pytest tests/models/facespace/test_bfm.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from models.facespace import camera
from models.facespace.alignment5 import STANDARD_FACE, align
from models.facespace.bfm import BfmSpace
from models.facespace.deep3d import to_deep3d
from models.facespace.face_model import FaceModel, FaceModelError, read_face_model
from models.sadtalker.recon import ReconNet
from tests.models.facespace.face_model_files import write_parts, write_ready
from tests.models.tiny_pack import network

FOCAL_PX, CENTRE_PX, CAMERA = 1015.0, 112.0, 10.0  # of Deep3DFaceRecon's camera


def check(model: FaceModel, arrays: dict[str, np.ndarray]) -> None:
    points = arrays["keypoints"].ravel() - 1
    mean = arrays["meanshape"].reshape(-1, 3)
    assert np.allclose(model.mean, mean[points] - mean.mean(0), rtol=1e-4, atol=1e-9)
    wanted = arrays["exBase"].reshape(-1, 3, 64)[points]
    assert np.allclose(model.expression, wanted.transpose(2, 0, 1), rtol=1e-4, atol=1e-9)
    wanted = arrays["idBase"].reshape(-1, 3, 80)[points]
    assert np.allclose(model.identity, wanted.transpose(2, 0, 1), rtol=1e-4, atol=1e-9)
    check_mouth(model, arrays)


def check_mouth(model: FaceModel, arrays: dict[str, np.ndarray]) -> None:
    """Vertices of the inner lips are where, move as, and are as bright as the landmarks' are."""
    mouth, points = model.mouth, arrays["keypoints"].ravel() - 1
    assert mouth is not None and mouth.triangles.max() < len(mouth.mean) == len(mouth.brightness)
    inner = [60, 61, 62, 63, 64, 65, 66, 67]
    assert np.allclose(mouth.mean[mouth.rim], model.mean[inner] * [1, -1, -1], rtol=1e-4, atol=1e-6)
    assert np.allclose(mouth.expression[:, mouth.rim], model.expression[:, inner] * [1, -1, -1], rtol=1e-4, atol=1e-6)
    red, green, blue = np.asarray(arrays["meantex"]).reshape(-1, 3)[points[inner]].T / 255
    assert np.allclose(mouth.brightness[mouth.rim], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-5)
    assert mouth.side == pytest.approx(np.linalg.norm(model.mean[45] - model.mean[36]), rel=1e-4)


def test_cropped_model(tmp_path: Path):
    model = read_face_model_after(tmp_path, write_ready)
    model.save(tmp_path / "kept.safetensors")
    again = FaceModel.load(tmp_path / "kept.safetensors")
    assert np.array_equal(again.expression, model.expression) and again.source == "BFM_model_front.mat"
    assert again.mouth is not None and model.mouth is not None
    for name, value in vars(model.mouth).items():
        assert np.array_equal(getattr(again.mouth, name), value), name


def test_files_without_a_mesh_are_enough_for_landmarks(tmp_path: Path):
    arrays = write_ready(tmp_path)
    del arrays["tri"]
    savemat(tmp_path / "BFM_model_front.mat", arrays)
    model = read_face_model(tmp_path)
    model.save(tmp_path / "kept.safetensors")
    assert model.mouth is None and FaceModel.load(tmp_path / "kept.safetensors").mouth is None
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(FaceModelError, match=r"other.safetensors is no face model that jobs.weights has imported"):
        FaceModel.load(tmp_path / "other.safetensors")


def test_model_put_together_from_its_makers_files(tmp_path: Path):
    assert read_face_model_after(tmp_path, write_parts).source == "01_MorphableModel.mat"


def read_face_model_after(folder: Path, write) -> FaceModel:
    arrays = write(folder)
    model = read_face_model(folder)
    check(model, arrays)
    return model


def test_what_is_missing_or_damaged_is_named(tmp_path: Path):
    with pytest.raises(FaceModelError, match=r"BFM_model_front.mat .* 01_MorphableModel.mat \(Basel Face Model 2009"):
        read_face_model(tmp_path)
    write_parts(tmp_path)
    data = (tmp_path / "Exp_Pca.bin").read_bytes()
    (tmp_path / "Exp_Pca.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(FaceModelError, match=r"Exp_Pca.bin is damaged"):
        read_face_model(tmp_path)
    (tmp_path / "BFM_model_front.mat").write_bytes(b"nothing")
    with pytest.raises(FaceModelError, match="is no MATLAB file"):
        read_face_model(tmp_path)


# ---- fits


def landmarks(height: int, scale: float, middle: tuple[float, float]) -> np.ndarray:
    """iBUG landmarks whose five points are the standard face, seen from the front."""
    points = np.zeros((68, 2))
    seen = STANDARD_FACE[:, :2] * [scale, -scale] + middle
    for group, place in zip(((36, 39), (42, 45), (30,), (48,), (54,)), seen):
        points[list(group)] = place
    assert points.max() < height * 2
    return points


@pytest.fixture
def model(tmp_path: Path) -> FaceModel:
    write_ready(tmp_path)
    made = read_face_model(tmp_path)
    return replace(made, mean=made.mean / 3, identity=made.identity / 50, expression=made.expression / 50)


@pytest.fixture
def space(model: FaceModel) -> BfmSpace:
    recon = network("recon")
    assert isinstance(recon, ReconNet)
    with torch.no_grad():
        for head, level in zip(recon.final_layers, (0.5, 0.5, 0, 0.1, 0, 0.2, 0.3)):
            torch.nn.init.normal_(head.weight, std=1e-3)  # type: ignore[arg-type]
            torch.nn.init.constant_(head.bias, level)  # type: ignore[arg-type]
    return BfmSpace(recon, model)


def test_the_camera_is_the_regressor_s(space: BfmSpace, model: FaceModel):
    """The exact projection into the aligned picture, and ours into the whole picture, meet near the face's middle."""
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    points = landmarks(300, 120, (180, 140))
    face = space.fit(points, image, np.array([0.1, 0.2]))
    assert face.space == "bfm" and face.landmarks.shape == (68, 3) and np.isfinite(face.residual)
    assert np.allclose(face.gaze, [0.1, 0.2]) and face.identity.shape == (80,) and face.expression.shape == (64,)

    given = to_deep3d(face.pose)
    turn = camera.rotation(given[:3])
    probe = np.array([[0.0, 0.0, 0.0], [0.5, 0.2, 0.0], [-0.4, -0.6, 0.0]])  # y up, z to the viewer
    seen = probe @ turn.T + given[3:]
    depth = CAMERA - seen[:, 2]
    exact = np.stack([CENTRE_PX + FOCAL_PX * seen[:, 0] / depth, CENTRE_PX + FOCAL_PX * seen[:, 1] / depth], 1)
    ours = camera.project(probe * [1, -1, -1], face.pose, face.scale_px, face.origin_px)[:, :2]
    placed = align((400, 300), points - 0.5).move(ours - 0.5)
    assert np.abs(placed[0] - exact[0]).max() < 0.05
    assert np.abs(placed - exact).max() < 3  # depth within a face is what the weak-perspective camera leaves out


def test_a_face_moves_and_grows_with_its_picture(space: BfmSpace):
    image = np.random.default_rng(1).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    points = landmarks(300, 120, (180, 140))
    whole = space.fit(points, image)
    cut = space.fit(points - [40, 20], np.ascontiguousarray(image[20:, 40:]))
    assert np.abs(cut.pose - whole.pose).max() < 0.02
    assert np.allclose(cut.origin_px + np.array([40, 20]), whole.origin_px, atol=0.1)
    assert cut.scale_px == pytest.approx(whole.scale_px)


def test_videos_are_read_like_pictures(space: BfmSpace):
    generator = np.random.default_rng(2)
    frames = [generator.integers(0, 255, (200, 200, 3), dtype=np.uint8) for _ in range(18)]
    points = landmarks(200, 80, (100, 100))
    expression, pose = space.read_frames((frame, points) for frame in frames)
    assert expression.shape == (18, 64) and pose.shape == (18, 6)
    alone = space.fit(points, frames[17])
    assert np.allclose(expression[17], alone.expression, atol=1e-4) and np.allclose(pose[17], alone.pose, atol=1e-4)
    none = space.read_frames(iter(()))
    assert none[0].shape == (0, 64) and none[1].shape == (0, 6)


def test_landmarks_need_the_face_model(space: BfmSpace, model: FaceModel):
    identity, expression = np.zeros(80, np.float32), np.zeros((2, 64), np.float32)
    pose = np.zeros((2, 6), np.float32)
    pose[1, 3:] = 0.5, 0.25, 0.0
    points = space.landmarks68(identity, expression, pose)
    assert points.shape == (2, 68, 3)
    assert np.allclose(points[0], model.mean * [1, -1, -1], atol=1e-6)
    assert np.allclose(points[1] - points[0], [0.5, 0.25, 0], atol=1e-6)
    recon = network("recon")
    assert isinstance(recon, ReconNet)
    bare = BfmSpace(recon)
    with pytest.raises(FaceModelError, match=r"BFM_model_front.mat.*faces.dmi.unibas.ch"):
        bare.landmarks68(identity, expression, pose)
    face = bare.fit(landmarks(200, 80, (100, 100)), np.zeros((200, 200, 3), np.uint8))
    assert np.isnan(face.residual)
