"""Which triangle of a mesh is seen where: batched, in torch, on any device.

Legend: N pictures, F triangles, H W samples, C candidates (pairs of a triangle and a sample inside its box).
"""

import torch
from torch import Tensor

BARELY_INSIDE = -1e-5  # barycentric weight that still counts: neighbours share their edges
THINNEST = 1e-6  # area of a triangle that is drawn, samples
DEPTH_STEPS = 1024  # per unit of depth


@torch.no_grad()
def nearest_triangles(corners_NF32: Tensor, depths_NF3: Tensor, height: int, width: int) -> Tensor:
    """Number of the triangle that is nearest to the viewer at every sample, the first of equals; -1 where none is.

    Args:
        corners_NF32: x, y in samples, whose centres are at whole numbers, shape (N, F, 3, 2); float64 for edges that
            are exact.
        depths_NF3: away from the viewer, in samples or so, shape (N, F, 3).
        height, width: of the pictures in samples.
    Returns:
        int64, shape (N, H, W).
    """
    device = corners_NF32.device
    pictures, count = corners_NF32.shape[:2]
    corners, depths = corners_NF32.flatten(0, 1), depths_NF3.flatten(0, 1)
    low = corners.amin(1).ceil().clamp(min=0).long()
    limit = torch.tensor([width - 1, height - 1], device=device)
    high = torch.minimum(corners.amax(1).floor().long(), limit)
    a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    extent = (high - low + 1).clamp(min=0)
    candidates = torch.where(area.abs() > THINNEST, extent[:, 0] * extent[:, 1], 0)

    which = torch.repeat_interleave(torch.arange(len(candidates), device=device), candidates)  # (C,)
    place = torch.arange(len(which), device=device) - (candidates.cumsum(0) - candidates)[which]
    x = low[which, 0] + place % extent[which, 0]
    y = low[which, 1] + place // extent[which, 0]
    dx, dy = x - a[which, 0], y - a[which, 1]
    second = (dx * v[which, 1] - dy * v[which, 0]) / area[which]
    third = (u[which, 0] * dy - u[which, 1] * dx) / area[which]
    inside = (second >= BARELY_INSIDE) & (third >= BARELY_INSIDE) & (second + third <= 1 - BARELY_INSIDE)
    which, x, y, second, third = which[inside], x[inside], y[inside], second[inside], third[inside]

    # depth and number packed into one integer, so that the smallest is the nearest
    z = torch.stack([1 - second - third, second, third], 1).mul(depths[which]).sum(1)
    rank = (z * DEPTH_STEPS).round().long() * count + which % count
    nobody = torch.iinfo(torch.int64).max
    nearest = torch.full((pictures * height * width,), nobody, dtype=torch.int64, device=device)
    nearest.scatter_reduce_(0, (which // count * height + y) * width + x, rank, "amin")
    winner = torch.where(nearest == nobody, -1, torch.remainder(nearest, count))
    return winner.view(pictures, height, width)
