"""Traced heads and models in ONNX: other image sizes and numbers of boxes, run by onnxruntime.

Both packages are optional: ``pip install onnx onnxruntime``.
"""

import io

import pytest
import torch
from detectron2.export.flatten import TracingAdapter
from detectron2.export.torchscript_patch import patch_builtin_len

from mask_inputs import MASK_HEADS, agreement, mask_head
from traced_models import (
    HEAD_SIZES,
    HeadOfTensors,
    head_inputs,
    images,
    traced_instance_adapter,
    traced_semantic_adapter,
)

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore")
# Reading maps between their cells, GridSample, came with 16; nothing newer is needed.
OPSETS = [16, 17, 20]


def session_of(model, inputs, opset, **names):
    file = io.BytesIO()
    with patch_builtin_len():
        torch.onnx.export(model, inputs, file, opset_version=opset, dynamo=False, **names)
    session = onnxruntime.InferenceSession(file.getvalue())

    def run(*tensors):
        feed = zip((each.name for each in session.get_inputs()), tensors, strict=True)
        outputs = session.run(None, {name: tensor.numpy() for name, tensor in feed})
        return [torch.from_numpy(each) for each in outputs]

    return run


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", MASK_HEADS)
@torch.no_grad()
def test_a_mask_head(kind, opset):
    head = HeadOfTensors(mask_head(MASK_HEADS[kind][0])).eval()
    maps, boxes, classes = head_inputs(6)
    used = {**head.head.reading.pooler_strides, **head.head.reading.point_strides}
    maps = {name: maps[name] for name in used}
    sizes = {name: {2: f"height of {name}", 3: f"width of {name}"} for name in used}
    run = session_of(
        head,
        (maps, boxes, classes),
        opset,
        input_names=[*used, "boxes", "classes"],
        dynamic_axes={**sizes, "boxes": {0: "count"}, "classes": {0: "count"}},
    )
    for count, *size in HEAD_SIZES:
        maps, boxes, classes = head_inputs(count, *size)
        want = head(maps, boxes, classes)
        (got,) = run(*(maps[name] for name in used), boxes, classes)
        assert got.shape == want.shape
        assert count == 0 or agreement(got, want) > 0.9999
        assert count == 0 or (got - want).abs().median() < 1e-5


def session_of_model(adapter: TracingAdapter):
    names = {"input_names": ["image"], "dynamic_axes": {"image": {1: "height", 2: "width"}}}
    return session_of(adapter, tuple(images((128, 160))), 16, **names)


@torch.no_grad()
def test_a_semantic_model():
    adapter = traced_semantic_adapter()
    run = session_of_model(adapter)
    for image in images((128, 160), (96, 200), (224, 225), (64, 64), (33, 65)):
        want, (got,) = adapter(image)[0], run(image)
        assert got.shape == want.shape
        assert (got.argmax(0) == want.argmax(0)).float().mean() > 0.999
        assert (got - want).abs().median() < 1e-4


@pytest.mark.parametrize("kind", MASK_HEADS)
@torch.no_grad()
def test_an_instance_model(kind):
    """In the smallest image nothing is found."""
    adapter = traced_instance_adapter(kind)
    run = session_of_model(adapter)
    counts = []
    for image in images((128, 160), (96, 200), (224, 224), (160, 64), (33, 65)):
        want, got = adapter(image), run(image)
        counts.append(len(want[0]))
        assert [x.shape for x in got] == [x.shape for x in want]
        for x, y in zip(got, want, strict=True):
            assert x.numel() == 0 or (x.float() - y.float()).abs().median() < 1e-4
    assert counts[-1] == 0 and len(set(counts)) > 2
