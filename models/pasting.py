"""Frames of a rectangle, put back into the picture that it was cut from.

A network's frames are a little brighter, darker or more tinted than its picture. What they differ by along an edge is
spread over them as a membrane spreads between its rims, which is what cloning by gradients comes to (Perez et al.,
Poisson Image Editing, 2003, section 2). On a coarse grid: textures stay, and the solve is one small matrix per picture.
"""

import cv2
import numpy as np

FEATHER = 0.05  # of the shorter side, over which frames fade into the picture
CELLS = 24  # of the grid, along the longer side
MOST = 24.0  # levels of 0..255: what differs by more, and surely by twice as much, has moved there; that is no tint
LEAST = 0.5  # levels below which there is nothing to spread


class Pasting:
    """One rectangle of one picture. Where it ends at the picture's border, it has no edge.

    Args:
        picture: uint8, shape (H, W, 3).
        place: left, top, width, height of the rectangle, pixels of the picture.
    """

    def __init__(self, picture: np.ndarray, place: tuple[int, int, int, int]):
        left, top, width, height = place
        self.picture = picture
        self._place = np.s_[top : top + height, left : left + width]
        self._size = width, height
        ends = left == 0, top == 0, left + width == picture.shape[1], top + height == picture.shape[0]
        self._opacity = None if all(ends) else _opacity(self._size, ends)
        cells_per_px = CELLS / max(self._size)
        self._grid = max(3, round(cells_per_px * width)), max(3, round(cells_per_px * height))
        self._rim, self._spread = _membrane(self._grid, ends)
        self._coarse = self._coarsened(picture[self._place])

    def paste(self, frame: np.ndarray) -> np.ndarray:
        """The picture with a frame in it, uint8, shape (H, W, 3).

        Args:
            frame: uint8, of the rectangle's shape or another, which is scaled to it.
        """
        frame = scaled(frame, self._size)
        if self._opacity is None:
            return frame
        pasted = self.picture.copy()
        below = pasted[self._place]
        below[:] = cv2.blendLinear(self._matched(frame), below, self._opacity, 1 - self._opacity)
        return pasted

    def _matched(self, frame: np.ndarray) -> np.ndarray:
        """The frame with the picture's tint where they meet."""
        apart = (self._coarse - self._coarsened(frame))[self._rim]
        apart *= np.clip(2 - np.abs(apart) / MOST, 0, 1)
        if not len(apart) or np.abs(apart).max() < LEAST:
            return frame
        field = (self._spread @ apart).reshape(*self._grid[::-1], 3)
        return cv2.add(frame, cv2.resize(field, self._size, interpolation=cv2.INTER_LINEAR), dtype=cv2.CV_8U)

    def _coarsened(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, self._grid, interpolation=cv2.INTER_AREA).astype(np.float32)


def scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture or matte at another width and height; itself where it has them."""
    if image.shape[1::-1] == size:
        return image
    shrinks = image.shape[0] > size[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _opacity(size: tuple[int, int], ends: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """From 0 at an edge to 1, float32, shape (height, width)."""
    feather = max(1.0, FEATHER * min(size))

    def along(length: int, ends_before: bool, ends_after: bool) -> np.ndarray:
        place = np.arange(length) + 0.5
        distance = np.minimum(np.inf if ends_before else place, np.inf if ends_after else place[::-1])
        return np.clip(np.broadcast_to(distance, length) / feather, 0, 1)

    across, down = along(size[0], ends[0], ends[2]), along(size[1], ends[1], ends[3])
    return np.minimum(across[None], down[:, None]).astype(np.float32)


def _membrane(grid: tuple[int, int], ends: tuple[bool, bool, bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    """Which cells the rim has, bool, shape (rows, columns), and what each of them makes of all cells.

    Every other cell is the mean of its neighbours; at the picture's border, of those that it has.

    Returns:
        The rim of R cells, and float32, shape (rows * columns, R).
    """
    columns, rows = grid
    rim = np.zeros((rows, columns), bool)
    rim[:, 0] |= not ends[0]
    rim[0] |= not ends[1]
    rim[:, -1] |= not ends[2]
    rim[-1] |= not ends[3]
    number = np.arange(rows * columns).reshape(rows, columns)
    pull = np.zeros((rows * columns, rows * columns))
    for one, other in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
        pull[one, other] = pull[other, one] = -1
    np.fill_diagonal(pull, -pull.sum(1))
    fixed = rim.ravel()
    pull[fixed] = np.eye(len(pull))[fixed]
    spread = np.linalg.solve(pull, np.eye(len(pull))[:, fixed]) if fixed.any() else np.zeros((len(pull), 0))
    return rim, spread.astype(np.float32)
