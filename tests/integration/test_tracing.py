"""Traced heads and models: other image sizes and other numbers of boxes than in the trace."""

import io

import pytest
import torch
from detectron2.export.flatten import TracingAdapter
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.utils.testing import assert_instances_allclose

from mask_inputs import MASK_HEADS, NODE, mask_head
from pointrend_seg import InputError
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


def as_close_as_detectron2_asks(got, want):
    """Its own tests of traces compare so. A point that is chosen by rounding would be too far."""
    assert [x.shape for x in got] == [x.shape for x in want]
    for x, y in zip(got, want, strict=True):
        assert torch.allclose(x, y)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", MASK_HEADS)
@torch.no_grad()
def test_a_traced_mask_head(kind, path):
    head = mask_head((*MASK_HEADS[kind][0], f"{NODE}.FAST_PATH", PATHS[path])).eval()
    if kind == "implicit":
        head.parameter_head.prediction.bias.normal_(std=0.3)
    head = HeadOfTensors(head)
    with patch_builtin_len():  # as Detectron2 traces
        traced = torch.jit.trace(head, head_inputs(6))
    traced = saved_and_loaded(traced)
    for count, *size in HEAD_SIZES:
        want, got = (each(*head_inputs(count, *size)) for each in (head, traced))
        assert want.shape[:2] == (count, 1)
        as_close_as_detectron2_asks([got], [want])


@torch.no_grad()
def test_masks_of_different_sizes_are_not_traced():
    head = HeadOfTensors(mask_head((f"{NODE}.MASK_RESOLUTION", -1)).eval())
    with patch_builtin_len(), pytest.raises(InputError, match=r"MASK_RESOLUTION is -1 .* Choose"):
        torch.jit.trace(head, head_inputs(6))


def test_a_trace_with_gradients_predicts_as_without():
    """Detectron2's tool that exports models traces without `torch.no_grad`."""
    head = HeadOfTensors(mask_head().eval())
    with patch_builtin_len():
        traced = torch.jit.trace(head, head_inputs(6), check_trace=False)
    with torch.no_grad():
        as_close_as_detectron2_asks([traced(*head_inputs(30))], [head(*head_inputs(30))])


@pytest.mark.parametrize("path", PATHS)
@torch.no_grad()
def test_a_traced_semantic_model(path):
    """In the smallest image there are fewer cells at first than points to predict."""
    adapter = traced_semantic_adapter(("MODEL.SEM_SEG_POINT_HEAD.FAST_PATH", PATHS[path]))
    traced = saved_and_loaded(torch.jit.trace(adapter, images((128, 160))))
    for image in images((128, 160), (96, 200), (224, 225), (64, 64), (33, 65)):
        as_close_as_detectron2_asks(traced(image), adapter(image))


BATCHES = {
    "one": ([(128, 160)], [(96, 200)], [(224, 224)], [(160, 64)], [(33, 65)]),
    "two": ([(128, 160), (96, 128)], [(96, 200), (64, 64)], [(33, 65), (224, 224)]),
}


@pytest.mark.parametrize(
    ("kind", "batch"), [("standard", "one"), ("standard", "two"), ("implicit", "one")]
)
@torch.no_grad()
def test_a_traced_instance_model(kind, batch):
    """In the smallest image nothing is found."""
    first, *others = BATCHES[batch]
    adapter = traced_instance_adapter(kind, sizes=first)
    traced = saved_and_loaded(torch.jit.trace(adapter, images(*first)))
    counts = set()
    for sizes in (first, *others):
        want, got = adapter(*images(*sizes)), traced(*images(*sizes))
        counts.add(len(want[0]))
        schema = adapter.outputs_schema
        for x, y in zip(schema(got), schema(want), strict=True):
            x, y = x["instances"], y["instances"]
            assert len(x) == len(y)
            if len(x):
                assert_instances_allclose(x, y, size_as_tensor=True)
    assert len(counts) > 2 and 0 in counts


@torch.no_grad()
def test_a_traced_model_that_pastes_its_masks():
    def inference(model, image):
        inputs = [{"image": image, "height": image.shape[1], "width": image.shape[2]}]
        return model.inference(inputs, do_postprocess=True)[0]["instances"]

    model = traced_instance_adapter("standard").model
    adapter = TracingAdapter(model, tuple(images((128, 160))), inference).eval()
    traced = torch.jit.trace(adapter, images((128, 160)))
    for image in images((96, 200), (224, 224)):
        x, y = (adapter.outputs_schema(each(image)) for each in (traced, adapter))
        assert_instances_allclose(x, y, size_as_tensor=True)
