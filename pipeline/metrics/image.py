"""How pictures look: against the real ones, and by themselves. Pictures are uint8, RGB (H, W, 3) or grey (H, W)."""

from typing import Any

import cv2
import numpy as np
from scipy.ndimage import convolve
from skimage.feature import canny
from skimage.metrics import structural_similarity

PSNR_CAP_DB = 100.0  # of equal pictures, whose PSNR is infinite
# CPBD (Narvekar and Karam 2011)
BLOCK = 64  # pixels
EDGE_SHARE = 0.002  # of a block's pixels on a Canny edge, above which the block counts
BETA = 3.6
NOTICEABLE = (5.0, 3.0)  # just noticeable widths in pixels, of blocks with contrasts up to 50, and above
LOW_CONTRAST = 50
LONGEST_RUN = 100  # pixels to either side of an edge
BLURRED_FROM = 63.5  # percent of blur probability: the histogram bins 0..63 count as sharp
SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 8
# Forward-backward check of optical flow: |f + b|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5
FLOW_RELATIVE, FLOW_ABSOLUTE = 0.01, 0.5


def psnr(image: np.ndarray, real: np.ndarray) -> float:
    """Peak signal to noise ratio of one picture: 10 log10(255^2 / MSE), dB, higher is better, at most 100."""
    error = np.mean(np.square(image.astype(np.float64) - real))
    return float(min(PSNR_CAP_DB, 10 * np.log10(255**2 / error))) if error > 0 else PSNR_CAP_DB


def ssim(image: np.ndarray, real: np.ndarray) -> float:
    """Structural similarity of one picture (Wang 2004), -1..1, higher is better; the mean over colours.

    Gaussian window of 11 x 11, sigma 1.5, K1 0.01, K2 0.03, population covariance.
    """
    likeness: Any = structural_similarity(  # its types allow for results that we don't ask for
        image,
        real,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if image.ndim == 3 else None,
    )
    return float(likeness)


def cpbd(image: np.ndarray) -> float:
    """Cumulative probability of blur detection (Narvekar and Karam 2011): 0 blurred .. 1 sharp.

    The share of vertical edges whose blur is noticed with a probability P < 0.64, where P = 1 - exp(-|w / w_JNB|^3.6),
    w is the distance of the row's local extremes on both sides of the edge, and w_JNB is 5 px in blocks of 64 x 64
    with a contrast up to 50, else 3. Depends on size and compression: compare at one size.

    Returns:
        NaN for a picture without edges or smaller than a block.
    """
    grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image).astype(np.float64)
    widths = edge_widths(grey)
    on_edge = canny(grey)
    blurred: list[np.ndarray] = []
    for top in range(0, grey.shape[0] - BLOCK + 1, BLOCK):
        for left in range(0, grey.shape[1] - BLOCK + 1, BLOCK):
            block = np.s_[top : top + BLOCK, left : left + BLOCK]
            if np.count_nonzero(on_edge[block]) <= BLOCK * BLOCK * EDGE_SHARE:
                continue
            found = widths[block][widths[block] > 0]
            noticeable = NOTICEABLE[int(np.ptp(grey[block])) > LOW_CONTRAST]
            blurred.append(1 - np.exp(-((found / noticeable) ** BETA)))
    probabilities = np.concatenate([*blurred, np.zeros(0)])
    return float(np.mean(np.round(probabilities * 100) < BLURRED_FROM)) if len(probabilities) else float("nan")


def edge_widths(grey: np.ndarray) -> np.ndarray:
    """Widths in pixels of the vertical edges of a grey float picture (Marziliano), 0 where there is no edge."""
    width = grey.shape[1]
    slope_y, slope_x = np.gradient(grey)
    angle = np.where(slope_x != 0, np.degrees(np.arctan2(slope_y, slope_x)), 0.0)
    sector = np.abs(45 * np.round(angle / 45))
    edges = _vertical_edges(grey)
    edges[[0, -1]] = edges[:, [0, -1]] = False
    widths = np.zeros(grey.shape)
    step = np.diff(grey, axis=1)
    for here, along in (((sector == 0) & edges, step > 0), ((sector == 180) & edges, step < 0)):
        rows, columns = np.nonzero(here)
        before, after = _runs(along), _runs(along[:, ::-1])[:, ::-1]
        # Steps go from pixel j to j + 1; out of the picture there is none.
        left = np.where(columns >= 2, before[rows, np.maximum(columns - 2, 0)], 0)
        right = np.where(columns + 1 < width - 1, after[rows, np.minimum(columns + 1, width - 2)], 0)
        widths[rows, columns] = 2 + np.minimum(left, LONGEST_RUN) + np.minimum(right, LONGEST_RUN)
    return widths


def _vertical_edges(grey: np.ndarray) -> np.ndarray:
    strength = np.square(convolve(grey, SOBEL))
    strength[strength <= 2 * np.sqrt(np.mean(strength))] = 0
    padded = np.pad(strength, 1)
    left, right, above, below = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    return ((strength > left) & (strength > right)) | ((strength > above) & (strength > below))


def _runs(flags: np.ndarray) -> np.ndarray:
    """How many flags in a row are set up to and with each place, along the last axis."""
    count = np.cumsum(flags, axis=1)
    return count - np.maximum.accumulate(np.where(flags, 0, count), axis=1)


def flicker(image: np.ndarray, following: np.ndarray, where: np.ndarray) -> float:
    """Flicker between two frames: mean |I_{t+1} - I_t| over pixels and colours of a mask, in levels of 0..255.

    Args:
        where: bool, shape (H, W), usually the background. NaN if it is empty.
    """
    if not where.any():
        return float("nan")
    return float(np.abs(following[where].astype(np.float64) - image[where]).mean())


def warp_error(image: np.ndarray, following: np.ndarray, where: np.ndarray) -> float:
    """E_warp between two frames: mean |I_{t+1} - warp(I_t)| of grey levels over a mask, lower is better.

    The flow is OpenCV's DIS in its medium preset; pixels that fail the forward-backward check
    |f + b|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5 are left out.

    Args:
        where: bool, shape (H, W), of the following frame, usually the face. NaN if nothing is left of it.
    """
    grey, next_grey = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) if i.ndim == 3 else i for i in (image, following))
    flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # its types refuse None
    # From the following frame back to this one, so that this one can be pulled onto it.
    back, forth = flow.calc(next_grey, grey, None), flow.calc(grey, next_grey, None)
    height, width = grey.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    source_x, source_y = x + back[..., 0], y + back[..., 1]
    pulled = cv2.remap(grey.astype(np.float32), source_x, source_y, cv2.INTER_LINEAR)
    returned = cv2.remap(forth, source_x, source_y, cv2.INTER_LINEAR)
    miss = np.square(back + returned).sum(-1)
    agree = miss <= FLOW_RELATIVE * (np.square(back) + np.square(returned)).sum(-1) + FLOW_ABSOLUTE
    inside = (source_x >= 0) & (source_x <= width - 1) & (source_y >= 0) & (source_y <= height - 1)
    where = where & agree & inside
    return float(np.abs(next_grey.astype(np.float32) - pulled)[where].mean()) if where.any() else float("nan")
