"""Sizes of face-vid2vid's networks: arguments of their constructors that differ from the published ones.

`small` learns pictures of 64 px on a CPU, where a step takes it less than a tenth of a second per picture.
"""

from typing import Any

SIDES = (64, 256, 512)  # pixels of the squares that networks see
TRAINED_SIDES = (64, 256)  # that ours learn from crops of 256 pixels

KEYPOINTS = {"paper": 15, "small": 8}

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {"generator": {}, "keypoints": {}, "head_estimator": {}, "critic": {}},
    "small": {
        "generator": {
            "keypoints": KEYPOINTS["small"],
            "width": 8,
            "max_width": 16,
            "channels": 8,
            "depth": 8,  # fewer planes lie too far apart for the Gaussians around keypoints to be seen on any
            "resblocks": 2,
            "motion": {"width": 4, "max_width": 32, "blocks": 3, "compress": 2},
            "decoder": {"outside": 8, "hidden": 8},
        },
        "keypoints": {"keypoints": KEYPOINTS["small"], "width": 8, "max_width": 64, "blocks": 3, "depth": 4},
        "head_estimator": {"keypoints": KEYPOINTS["small"], "width": 16, "max_width": 128},
        "critic": {"width": 16, "max_width": 128},
    },
}
MAPPING_SIZES: dict[str, dict[str, Any]] = {"paper": {}, "small": {"width": 128}}
