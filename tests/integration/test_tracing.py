"""Traced heads and models: other image sizes and other numbers of boxes than in the trace."""

import io

import pytest
import torch
from detectron2.export.torchscript_patch import patch_builtin_len

from mask_inputs import MASK_HEADS, NODE, agreement, mask_head
from traced_models import (
    HEAD_SIZES,
    HeadOfTensors,
    head_inputs,
    images,
    traced_instance_adapter,
    traced_semantic_adapter,
)

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
PATHS = {"fast": True, "plain": False}


def saved_and_loaded(traced):
    memory = io.BytesIO()
    torch.jit.save(traced, memory)
    memory.seek(0)
    return torch.jit.load(memory)


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
    for count, *size in HEAD_SIZES:
        want, got = (each(*head_inputs(count, *size)) for each in (head, traced))
        assert got.shape == want.shape == (count, 1, *want.shape[2:])
        assert count == 0 or agreement(got, want) > 0.9999
        assert count == 0 or (got - want).abs().median() < 1e-5


@pytest.mark.parametrize("path", PATHS)
@torch.no_grad()
def test_a_traced_semantic_model(path):
    """In the smallest image there are fewer cells at first than points to predict."""
    adapter = traced_semantic_adapter(("MODEL.SEM_SEG_POINT_HEAD.FAST_PATH", PATHS[path]))
    traced = saved_and_loaded(torch.jit.trace(adapter, images((128, 160)), check_trace=False))
    for image in images((128, 160), (96, 200), (224, 225), (64, 64), (33, 65)):
        want, got = adapter(image)[0], traced(image)[0]
        assert got.shape == want.shape
        assert (got.argmax(0) == want.argmax(0)).float().mean() > 0.999
        assert (got - want).abs().median() < 1e-5


@pytest.mark.parametrize("kind", MASK_HEADS)
@torch.no_grad()
def test_a_traced_instance_model(kind):
    adapter = traced_instance_adapter(kind)
    traced = saved_and_loaded(torch.jit.trace(adapter, images((128, 160)), check_trace=False))
    counts = set()
    for image in images((128, 160), (96, 200), (224, 224), (160, 64)):
        want, got = adapter(image), traced(image)
        counts.add(len(want[0]))
        assert [x.shape for x in got] == [x.shape for x in want]
        for x, y in zip(got, want, strict=True):
            assert x.numel() == 0 or (x.float() - y.float()).abs().median() < 1e-4
    assert len(counts) > 1
