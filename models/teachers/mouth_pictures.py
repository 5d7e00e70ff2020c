"""Mouths of a morphable model, painted so that gradients flow from the picture into the expression.

What a lip reader is shown in training (SadTalker, supplement B.3, Fig. B4): the mean face looking straight ahead, cut
around its mouth. Skin is shaded by a light from the front; between the lips it is dark.

Legend: N pictures, V vertices, F triangles, R rim, E expression, S pixels of a side, Q = S S pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.facespace.mouth_mesh import MouthMesh
from models.raster import nearest_triangles

SIDE = 88  # pixels; lip readers are trained on squares of about one distance of the outer eye corners
LIGHT = (0.0, -0.35, -1.0)  # towards it: from the viewer, a little above
AMBIENT = 0.35  # share of the light that comes from everywhere
DARK, BEHIND = 0.08, 0.35  # brightness between the lips, and beside the face
SOFTNESS = 0.6  # pixels over which the edge of the gap fades, which is what tells it which way to move


class MouthPictures(nn.Module):
    """Expressions to pictures.

    Args:
        mesh: of the coefficient space.
        side: of the pictures, pixels.
    """

    _mean: Tensor
    _moves: Tensor
    _triangles: Tensor
    _brightness: Tensor
    _rim: Tensor
    _light: Tensor
    _pixels: Tensor

    def __init__(self, mesh: MouthMesh, side: int = SIDE):
        super().__init__()
        self._side, self._scale = side, side / mesh.side
        steps = torch.arange(side, dtype=torch.float32)
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
        for name, value in {
            "_mean": torch.from_numpy(mesh.mean),
            "_moves": torch.from_numpy(mesh.expression),
            "_triangles": torch.from_numpy(mesh.triangles),
            "_brightness": torch.from_numpy(mesh.brightness),
            "_rim": torch.from_numpy(mesh.rim),
            "_light": normalize(torch.tensor(LIGHT), dim=0),
            "_pixels": grid.reshape(-1, 2),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, expression_NE: Tensor) -> Tensor:
        """Brightness 0 .. 1 of expressions (N, 64), shape (N, S, S)."""
        points_NV3 = (self._mean + torch.einsum("ne,evc->nvc", expression_NE, self._moves)) * self._scale
        middle_N12 = points_NV3[:, self._rim, :2].mean(1, keepdim=True)
        xy_NV2 = points_NV3[..., :2] - middle_N12 + (self._side - 1) / 2
        skin_NQ = self._skin(xy_NV2, points_NV3)
        open_NQ = torch.sigmoid(_depth_inside(xy_NV2[:, self._rim], self._pixels) / SOFTNESS)
        return (skin_NQ + open_NQ * (DARK - skin_NQ)).view(-1, self._side, self._side)

    def _skin(self, xy_NV2: Tensor, points_NV3: Tensor) -> Tensor:
        """The mesh with closed lips as it is seen, shape (N, Q)."""
        corners_NF32 = xy_NV2[:, self._triangles]
        depths_NF3 = points_NV3[..., 2][:, self._triangles]
        number_NQ = nearest_triangles(corners_NF32.double(), depths_NF3.double(), self._side, self._side).flatten(1)
        seen_NQ, which = number_NQ >= 0, torch.arange(len(number_NQ), device=number_NQ.device)[:, None]
        number_NQ = number_NQ.clamp(min=0)
        a, b, c = corners_NF32[which, number_NQ].unbind(2)
        area = torch.where(seen_NQ, _cross(b - a, c - a), 1.0)
        second = _cross(self._pixels - a, c - a) / area
        third = _cross(b - a, self._pixels - a) / area
        shades_NF3 = self._shades(points_NV3)[:, self._triangles]
        weights_NQ3 = torch.stack([1 - second - third, second, third], -1)
        shown_NQ = (weights_NQ3 * shades_NF3[which, number_NQ]).sum(-1)
        return torch.where(seen_NQ, shown_NQ, BEHIND)

    def _shades(self, points_NV3: Tensor) -> Tensor:
        """Brightness of every vertex under the light, shape (N, V)."""
        a, b, c = points_NV3[:, self._triangles].unbind(2)
        faces_NF3 = torch.linalg.cross(b - a, c - a)
        faces_NF3 = faces_NF3 * -faces_NF3[..., 2:].sign()  # towards the viewer, however a mesh is wound
        normals_NV3 = torch.zeros_like(points_NV3)
        for corner in self._triangles.T:
            normals_NV3 = normals_NV3.index_add(1, corner, faces_NF3)
        lit_NV = (normalize(normals_NV3, dim=-1) @ self._light).clamp(min=0)
        return self._brightness * (AMBIENT + (1 - AMBIENT) * lit_NV)


def _depth_inside(rim_NR2: Tensor, pixels_Q2: Tensor) -> Tensor:
    """How deep pixels lie inside a polygon that runs clockwise, below 0 outside of it, shape (N, Q).

    Where upper and lower lip have changed places it runs the other way, and nothing is inside.
    """
    start_NR2, end_NR2 = rim_NR2, rim_NR2.roll(-1, 1)
    edge_N1R2, off_NQR2 = (end_NR2 - start_NR2)[:, None], pixels_Q2[:, None] - start_NR2[:, None]
    along_NQR = (off_NQR2 * edge_N1R2).sum(-1) / edge_N1R2.square().sum(-1).clamp(min=1e-9)
    nearest_NQR2 = off_NQR2 - along_NQR.clamp(0, 1)[..., None] * edge_N1R2
    # the square root of nothing has no gradient
    distance_NQ = nearest_NQR2.square().sum(-1).amin(-1).clamp(min=1e-9).sqrt()
    down_NQR = (start_NR2[:, None, :, 1] <= pixels_Q2[:, None, 1]) & (end_NR2[:, None, :, 1] > pixels_Q2[:, None, 1])
    up_NQR = (start_NR2[:, None, :, 1] > pixels_Q2[:, None, 1]) & (end_NR2[:, None, :, 1] <= pixels_Q2[:, None, 1])
    left_NQR = _cross(edge_N1R2, off_NQR2) > 0
    turns_NQ = (down_NQR & left_NQR).sum(-1) - (up_NQR & ~left_NQR).sum(-1)
    return torch.where(turns_NQ > 0, distance_NQ, -distance_NQ)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
