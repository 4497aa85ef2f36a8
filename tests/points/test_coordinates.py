"""Regular grids have Detectron2's rounding, also in half-precision contexts."""

import pytest
import torch
from detectron2.projects.point_rend.point_features import generate_regular_grid_point_coords

from pointrend_seg.points.coordinates import regular_grid

CPU = torch.device("cpu")


def test_grids_are_detectron2s_to_the_bit():
    for side in (*range(1, 513), 896, 1216, 2048):
        assert torch.equal(
            regular_grid(side, CPU), generate_regular_grid_point_coords(1, side, CPU)
        ), side


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_grids_are_exact_whatever_autocast_says(dtype):
    want = regular_grid(303, CPU)
    with torch.autocast("cpu", dtype):
        assert torch.equal(regular_grid(303, CPU), want)
