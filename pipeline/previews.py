"""What a network in training makes of a real clip, beside the clip: pictures to look at while it learns."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from models.interfaces import Motion, Portrait
from pipeline.errors import FaceError
from pipeline.features import CROP, Features
from pipeline.trainables import Preview

SHOWN = 6  # frames side by side


def draw(preview: Preview, features: Features) -> np.ndarray | None:
    """Real frames above, made ones below: sRGB, uint8, shape (2 * 256, 6 * 256, 3) or narrower.

    A motion is rendered by the mesh renderer on the first real frame; only the open space can be.

    Args:
        features: the row, with its crops.
    Returns:
        None if there are no crops, or no face is found in the first one.
    """
    made = preview.made
    if not features.crops or len(made) == 0:
        return None
    chosen = np.unique(np.linspace(0, len(made) - 1, SHOWN).astype(int))
    real = (
        [features.image(preview.start + int(t)) for t in chosen]
        if preview.real is None
        else [_shown(preview.real[t]) for t in chosen]
    )
    if isinstance(made, Motion):
        if made.space != "open":
            return None
        pictures = render(made, features.image(preview.start), chosen)
    else:
        pictures = [_shown(made[t]) for t in chosen]
    if pictures is None:
        return None
    return np.concatenate([np.concatenate(real, 1), np.concatenate(pictures, 1)], 0)


def render(motion: Motion, image: np.ndarray, chosen: Sequence[int] | np.ndarray) -> list[np.ndarray] | None:
    """Some frames of a motion, by the mesh renderer, of a picture that shows its first frame; None without a face."""
    from models.controls import FaceChoice
    from models.mesh.renderer import MeshRenderer
    from pipeline.face import FaceFinder
    from pipeline.person import segment_person

    finder = FaceFinder()
    try:
        face = finder.choose(finder.find(image), FaceChoice())
    except FaceError:
        return None
    pose = motion.pose[chosen].copy()
    pose[:, 3:] -= motion.pose[0, 3:]  # of a clip's camera, where the picture's is wanted
    some = replace(motion, expression=motion.expression[chosen], pose=pose, gaze=motion.gaze[chosen])
    renderer = MeshRenderer()
    portrait = Portrait(image, (0, 0, image.shape[1], image.shape[0]), segment_person(image, face))
    prepared = renderer.prepare(portrait, face.fit)
    return [frame.copy() for batch in renderer.frames(prepared, some, 0, len(some)) for frame in batch]


def _shown(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (CROP, CROP), interpolation=cv2.INTER_AREA)
