"""Traced heads and models: other image sizes and other numbers of boxes than in the trace."""

import io

import pytest
import torch
from detectron2.export.flatten import TracingAdapter
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import nn

from mask_inputs import (
    HEIGHT,
    MASK_HEADS,
    NODE,
    STRIDES,
    WIDTH,
    agreement,
    mask_head,
    random_boxes,
    seeded,
)
from small_configs import small_instance_cfg, small_semantic_cfg

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
PATHS = {"fast": True, "plain": False}


def saved_and_loaded(traced):
    memory = io.BytesIO()
    torch.jit.save(traced, memory)
    memory.seek(0)
    return torch.jit.load(memory)


class HeadOfTensors(nn.Module):
    """A mask head that takes and gives tensors."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, maps, boxes, classes):
        image = Instances((HEIGHT, WIDTH))
        image.pred_boxes, image.pred_classes = Boxes(boxes), classes
        return self.head(maps, [image])[0].pred_masks


def head_inputs(count, height=HEIGHT, width=WIDTH):
    generator = seeded(count)
    maps = {
        name: torch.randn(1, 32, -(-height // s), -(-width // s), generator=generator)
        for name, s in STRIDES.items()
    }
    boxes = random_boxes(count, generator, height, width)
    return maps, boxes, torch.randint(0, 5, (count,), generator=generator)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", MASK_HEADS)
@torch.no_grad()
def test_a_traced_mask_head(kind, path):
    head = mask_head((*MASK_HEADS[kind][0], f"{NODE}.FAST_PATH", PATHS[path])).eval()
    if kind == "implicit":
        head.parameter_head.prediction.bias.normal_(std=0.3)
    head = HeadOfTensors(head)
    with patch_builtin_len():  # as Detectron2 traces
        traced = torch.jit.trace(head, head_inputs(6), check_trace=False)
    traced = saved_and_loaded(traced)
    for count, *size in ((6, 96, 128), (0, 96, 128), (1, 64, 64), (13, 200, 97), (100, 96, 128)):
        want, got = (each(*head_inputs(count, *size)) for each in (head, traced))
        assert got.shape == want.shape == (count, 1, *want.shape[2:])
        assert count == 0 or agreement(got, want) > 0.9999
        assert count == 0 or (got - want).abs().median() < 1e-5


def images(*sizes):
    return [torch.rand(3, *size, generator=seeded(size[0])) * 255 for size in sizes]


@pytest.mark.parametrize("path", PATHS)
@torch.no_grad()
def test_a_traced_semantic_model(path):
    """In the smallest image there are fewer cells at first than points to predict."""
    torch.manual_seed(0)
    model = build_model(
        small_semantic_cfg(opts=("MODEL.SEM_SEG_POINT_HEAD.FAST_PATH", PATHS[path]))
    )
    adapter = TracingAdapter(model.eval(), [{"image": images((128, 160))[0]}])
    traced = saved_and_loaded(torch.jit.trace(adapter, images((128, 160)), check_trace=False))
    for image in images((128, 160), (96, 200), (224, 225), (64, 64), (33, 65)):
        want, got = adapter(image)[0], traced(image)[0]
        assert got.shape == want.shape
        assert (got.argmax(0) == want.argmax(0)).float().mean() > 0.999
        assert (got - want).abs().median() < 1e-5


@pytest.mark.parametrize("kind", MASK_HEADS)
@torch.no_grad()
def test_a_traced_instance_model(kind):
    torch.manual_seed(0)
    model = build_model(small_instance_cfg(opts=MASK_HEADS[kind][0])).eval()
    model.roi_heads.box_predictor.test_score_thresh = 0.22  # some boxes reach it

    def inference(model, inputs):
        return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]

    adapter = TracingAdapter(model, [{"image": images((128, 160))[0]}], inference)
    traced = saved_and_loaded(torch.jit.trace(adapter, images((128, 160)), check_trace=False))
    counts = set()
    for image in images((128, 160), (96, 200), (224, 224), (160, 64)):
        want, got = adapter(image), traced(image)
        counts.add(len(want[0]))
        assert [x.shape for x in got] == [x.shape for x in want]
        for x, y in zip(got, want, strict=True):
            assert x.numel() == 0 or (x.float() - y.float()).abs().median() < 1e-4
    assert len(counts) > 1
