"""Which triangle is seen where. Run: pytest tests/models/test_raster.py"""

import torch

from models.raster import nearest_triangles


def test_the_nearest_triangle_is_seen():
    whole = torch.tensor([[[-1.0, -1.0], [20.0, -1.0], [-1.0, 20.0]]] * 2, dtype=torch.float64)
    far, near = torch.full((1, 3), 5.0, dtype=torch.float64), torch.full((1, 3), 2.0, dtype=torch.float64)
    seen = nearest_triangles(
        whole[None].repeat(2, 1, 1, 1), torch.stack([torch.cat([far, near]), torch.cat([near, far])]), 8, 8
    )
    assert (seen[0] == 1).all() and (seen[1] == 0).all(), "pictures don't mix"


def test_neighbours_leave_no_gap_and_nothing_lies_outside():
    square = torch.tensor([[2.3, 1.7], [6.1, 1.7], [6.1, 5.2], [2.3, 5.2]], dtype=torch.float64)
    halves = square[torch.tensor([[0, 1, 2], [0, 2, 3]])]
    seen = nearest_triangles(halves[None], torch.zeros(1, 2, 3, dtype=torch.float64), 8, 9)[0]
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[2:6, 3:7] = True
    assert torch.equal(seen >= 0, expected) and set(seen[expected].tolist()) == {0, 1}


def test_triangles_without_area_or_out_of_the_picture_are_left_out():
    line = [[1.0, 1.0], [4.0, 4.0], [7.0, 7.0]]
    beside = [[-9.0, 0.0], [-2.0, 0.0], [-5.0, 6.0]]
    seen = nearest_triangles(torch.tensor([[line, beside]]), torch.zeros(1, 2, 3), 8, 8)
    assert (seen == -1).all()
