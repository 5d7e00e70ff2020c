"""Named vertices of the 468-point face mesh (and its 10 iris points), and the 68-landmark view of it.

The numbering is mediapipe's. Right and left are the person's own: the right eye is on the left of the picture.
Polylines of lips and lids run from one corner to the other, so that upper and lower lists pair up by position.
"""

import numpy as np

VERTICES, POINTS = 468, 478  # without and with the iris points

# Lips, from the right corner to the left one; upper and lower lists share both corners.
UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LIPS = tuple(sorted({*UPPER_LIP_OUTER, *LOWER_LIP_OUTER, *UPPER_LIP_INNER, *LOWER_LIP_INNER}))

# Lids, from the outer corner to the inner one.
RIGHT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_EYE_UPPER = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_EYE_LOWER = (263, 249, 390, 373, 374, 380, 381, 382, 362)
RIGHT_EYE = tuple(sorted({*RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER}))
LEFT_EYE = tuple(sorted({*LEFT_EYE_UPPER, *LEFT_EYE_LOWER}))
RIGHT_CREASE = (247, 30, 29, 27, 28, 56, 190)  # fold above the upper lid, outer to inner
LEFT_CREASE = (467, 260, 259, 257, 258, 286, 414)

RIGHT_IRIS = (468, 469, 470, 471, 472)  # centre first
LEFT_IRIS = (473, 474, 475, 476, 477)

# Brows, outer to inner; upper edge, then lower edge.
RIGHT_BROW_UPPER, RIGHT_BROW_LOWER = (70, 63, 105, 66, 107), (46, 53, 52, 65, 55)
LEFT_BROW_UPPER, LEFT_BROW_LOWER = (300, 293, 334, 296, 336), (276, 283, 282, 295, 285)
BROWS = (*RIGHT_BROW_UPPER, *RIGHT_BROW_LOWER, *LEFT_BROW_UPPER, *LEFT_BROW_LOWER)

# The outline of the face, clockwise in the picture from the middle of the forehead.
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
CHIN, FOREHEAD, NOSE_TIP = 152, 10, 4
RIGHT_EAR, LEFT_EAR = 234, 454  # where the oval passes the ears: the axis of the jaw
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263  # one model unit apart on the mean face
RIGHT_EYE_INNER, LEFT_EYE_INNER = 133, 362

# Points that move little with expression: what a rigid first guess of the pose rests on.
STABLE = (
    *(33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 10, 151, 9, 8),
    *(234, 454, 127, 356, 93, 323, 117, 346, 50, 280),
)


def mirror_pairs() -> list[tuple[int, int]]:
    """Some vertices with their mirror images: enough to align a face with its reflection."""
    pairs = [*zip(UPPER_LIP_OUTER, UPPER_LIP_OUTER[::-1]), *zip(RIGHT_EYE_UPPER, LEFT_EYE_UPPER)]
    pairs += [*zip(RIGHT_BROW_UPPER, LEFT_BROW_UPPER), (RIGHT_EAR, LEFT_EAR), (CHIN, CHIN), (FOREHEAD, FOREHEAD)]
    return pairs + [(b, a) for a, b in pairs if a != b]


def strip(upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    """Triangles between two polylines that share their ends, shape (2 * len - 4, 3)."""
    quads = [(upper[k], upper[k + 1], lower[k + 1], lower[k]) for k in range(len(upper) - 1)]
    triangles = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d)) if len(set(t)) == 3]
    return np.array(triangles, np.int32)


def hole_triangles() -> dict[str, np.ndarray]:
    """Triangles that close the mesh's three openings, by name: "mouth", "right_eye", "left_eye"."""
    return {
        "mouth": strip(UPPER_LIP_INNER, LOWER_LIP_INNER),
        "right_eye": strip(RIGHT_EYE_UPPER, RIGHT_EYE_LOWER),
        "left_eye": strip(LEFT_EYE_UPPER, LEFT_EYE_LOWER),
    }
