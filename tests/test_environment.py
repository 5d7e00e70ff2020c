"""The installed packages work together; a resolver's word is not enough."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = [
    "cv2", "face_alignment", "fsspec", "imageio_ffmpeg", "librosa", "mediapipe", "numba", "numpy", "omegaconf", "PIL",
    "pyarrow.parquet", "pydantic", "ray.data", "ray.train.torch", "s3fs", "skimage", "torch",
]  # fmt: skip


@pytest.mark.parametrize("name", PACKAGES)
def test_package_imports(name):
    importlib.import_module(name)


def test_one_opencv():
    import cv2

    assert cv2.__version__ == "4.11.0"
    assert cv2.resize(cv2.UMat(4, 4, cv2.CV_8UC1), (2, 2)).get().shape == (2, 2)


def test_cpu_path_does_not_load_torch_or_ray():
    code = "import sys, pipeline.stages; print(sorted({'torch', 'ray', 'mediapipe', 'librosa'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
