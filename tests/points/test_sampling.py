"""Samplers: where the points are, and that the draws are those of Detectron2's PointRend."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
)
from detectron2.projects.point_rend.semantic_seg import calculate_uncertainty

from pointrend_seg.errors import InputError
from pointrend_seg.modeling.samplers import (
    POINT_SAMPLER_REGISTRY,
    ImportancePointSampler,
    UniformPointSampler,
    build_point_sampler,
)
from pointrend_seg.points.interpolation import sample_points
from pointrend_seg.points.sampling import uniform_points
from pointrend_seg.points.uncertainty import class_uncertainty


@pytest.mark.parametrize("shape", [(2, 2, 5), (2, 7, 4, 6), (1, 19, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_running_maxima_are_topk_to_the_bit(shape, dtype):
    logits = torch.randn(shape).to(dtype)
    logits[:, 1] = logits[:, 0]  # ties
    want = calculate_uncertainty(logits.to(torch.promote_types(dtype, torch.float32)))[:, 0]
    assert torch.equal(class_uncertainty(logits), want)


def test_uncertainty_of_a_binary_model_is_the_distance_to_its_threshold():
    assert class_uncertainty(torch.tensor([[[-3.0, 0.0, 0.5]]])).tolist() == [[-3.0, 0.0, -0.5]]


@pytest.mark.parametrize("ratio", [0.0, 0.75, 1.0])
def test_same_seed_same_points_as_detectron2(ratio):
    logits = torch.randn(3, 6, 8, 10)
    torch.manual_seed(3)
    theirs = get_uncertain_point_coords_with_randomness(logits, calculate_uncertainty, 50, 3, ratio)
    torch.manual_seed(3)
    sampler = ImportancePointSampler(oversample_ratio=3, importance_sample_ratio=ratio)
    ours = sampler(logits, 50, class_uncertainty)
    assert torch.equal(ours, theirs)


def test_uncertainty_is_that_of_the_logit_at_the_point():
    """Between two sure neighbours of different signs the prediction is unsure."""
    logits = torch.ones(1, 1, 8, 8)
    logits[..., :4] = -1
    torch.manual_seed(0)
    sampler = ImportancePointSampler(oversample_ratio=50, importance_sample_ratio=1.0)
    x = sampler(logits, 4, class_uncertainty)[0, :, 0]
    assert x.min() > 0.47 and x.max() < 0.53


def test_importance_prefers_uncertain_points():
    logits = torch.randn(1, 3, 16, 16)
    torch.manual_seed(0)
    scores = {}
    for name, sampler in (("no", UniformPointSampler()), ("yes", ImportancePointSampler())):
        coords = sampler(logits, 500, class_uncertainty)
        scores[name] = class_uncertainty(sample_points(logits, coords)).mean()
    assert scores["yes"] > scores["no"]


@pytest.mark.parametrize("sampler", [UniformPointSampler(), ImportancePointSampler()])
def test_no_point_outside_of_what_is_valid(sampler):
    valid = torch.zeros(2, 20, 30, dtype=torch.bool)
    valid[0, 3:5, 10:12] = True
    valid[1, 19, 29] = True
    coords = sampler(torch.randn(2, 4, 5, 8), 200, class_uncertainty, valid)
    assert coords.shape == (2, 200, 2)
    column, row = (coords[..., 0] * 30).long(), (coords[..., 1] * 20).long()
    assert valid[torch.arange(2)[:, None], row, column].all()


def test_valid_points_are_uniform():
    """Every valid pixel gets its share, and the places within it too."""
    torch.manual_seed(0)
    valid = torch.zeros(1, 4, 5, dtype=torch.bool)
    valid[0, [0, 1, 3], [0, 4, 2]] = True
    coords = uniform_points(1, 30000, torch.device("cpu"), valid)[0]
    cells = (coords * torch.tensor([5.0, 4.0])).floor()
    counts = torch.unique(cells, dim=0, return_counts=True)[1]
    assert len(counts) == 3 and counts.min() > 9600 and counts.max() < 10400
    within = coords * torch.tensor([5.0, 4.0]) - cells
    assert within.mean(dim=0).sub(0.5).abs().max() < 0.01


def test_nothing_valid_still_gives_points():
    coords = uniform_points(2, 5, torch.device("cpu"), torch.zeros(2, 3, 3, dtype=torch.bool))
    assert coords.shape == (2, 5, 2) and (coords >= 0).all() and (coords <= 1).all()


def test_no_region():
    coords = ImportancePointSampler()(torch.zeros(0, 3, 4, 4), 10, class_uncertainty)
    assert coords.shape == (0, 10, 2)


def test_settings_that_have_no_meaning():
    with pytest.raises(InputError, match="OVERSAMPLE_RATIO must be 1 or more, not 0.5"):
        ImportancePointSampler(oversample_ratio=0.5)
    with pytest.raises(InputError, match=r"IMPORTANCE_SAMPLE_RATIO must lie in \[0, 1\], not 1.5"):
        ImportancePointSampler(importance_sample_ratio=1.5)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="ImportancePointSampler.*, UniformPointSampler"):
        build_point_sampler(CfgNode({"SAMPLER": "Nobody"}))


def test_a_sampler_from_outside():
    """The example of docs/samplers.md, in short: registered by its name, built from the node."""

    @POINT_SAMPLER_REGISTRY.register()
    class CornerSampler:
        def __init__(self, cfg):
            self.side = cfg.TRAIN_NUM_POINTS

        def __call__(self, logits, num_points, uncertainty, valid=None):
            return torch.zeros(logits.shape[0], num_points, 2, device=logits.device)

    try:
        sampler = build_point_sampler(CfgNode({"SAMPLER": "CornerSampler", "TRAIN_NUM_POINTS": 9}))
        assert sampler.side == 9
        assert sampler(torch.zeros(2, 3, 4, 4), 5, class_uncertainty).eq(0).all()
    finally:
        POINT_SAMPLER_REGISTRY._obj_map.pop("CornerSampler")
