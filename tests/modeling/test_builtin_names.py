"""Subclasses that override what only Detectron2's heads call."""

import inspect

import pytest
from detectron2.projects.point_rend import mask_head as builtin

from pointrend_seg import ImplicitPointRendInstanceHead, InputError, PointRendInstanceHead
from pointrend_seg.compat.mask_head import PointRendMaskHead

HEADS = (PointRendInstanceHead, ImplicitPointRendInstanceHead, PointRendMaskHead)
BUILTIN = (builtin.PointRendMaskHead, builtin.ImplicitPointRendMaskHead)
CALLED_HERE = {"__init__", "forward"}
METHODS = {
    name for head in BUILTIN for name, each in vars(head).items() if inspect.isfunction(each)
} - CALLED_HERE


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_that_would_never_be_called_is_refused(name, head):
    with pytest.raises(InputError, match=rf"^Own overrides {name}, .* Override .* instead\.$"):
        type("Own", (head,), {name: lambda self, *args: None})


def test_what_is_called_may_be_overridden():
    for name in ("targets", "inference", "losses", "from_config", "forward", "own"):
        type("Own", (PointRendInstanceHead,), {name: lambda self, *args: None})


def test_a_forward_of_its_own_may_call_them():
    class Own(PointRendMaskHead):
        def forward(self, features, instances):
            return self._sample_train_points(features, instances)

        def _sample_train_points(self, coarse_mask, instances):
            return "own points"

    class OwnOfOwn(Own):
        def _sample_train_points(self, coarse_mask, instances):
            return "other points"

    assert OwnOfOwn.forward(OwnOfOwn.__new__(OwnOfOwn), {}, []) == "other points"
