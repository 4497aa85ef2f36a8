"""What a GPU asks of the heads, tested without one.

On the device "meta" tensors have shapes and no values, so whatever needs a value on the host
(`.item()`, `nonzero`, indexing by a mask) fails there: on a GPU it would make the host wait. The
heads take the way of a GPU there. Fake tensors say that they are on "cuda" and refuse to be mixed
with those of the CPU. And `torch.compile` with ``fullgraph`` fails at a graph break.
"""

import contextlib

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model, build_sem_seg_head
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch._subclasses.fake_tensor import FakeTensorMode

from mask_inputs import (
    HALVES,
    HEIGHT,
    STRIDES,
    WIDTH,
    detections,
    features,
    mask_head,
    proposals,
)
from pointrend_seg.modeling import implicit_head as implicit_mask_head
from pointrend_seg.modeling import instance_head as standard_mask_head
from pointrend_seg.modeling import scalars
from pointrend_seg.points import coordinates
from pointrend_seg.structures.shared_masks import SharedMasks
from small_configs import IMPLICIT_OPTS, small_semantic_cfg

HEADS = {"fast": (), "plain": ("MODEL.POINT_HEAD.FAST_PATH", False), "implicit": IMPLICIT_OPTS}


@pytest.fixture(params=HEADS)
def head(request):
    return mask_head(HEADS[request.param])


def shared(images, device="cpu"):
    """Two boxes for each object, as `InstanceMapper` and the sampling of proposals leave them."""
    for image in images:
        bits = image.gt_masks.tensor[::2].to(device)
        image.gt_masks = SharedMasks(bits, torch.zeros(len(image), dtype=torch.int64).to(device))
    return images


# --- no value is needed on the host -----------------------------------------------------------


@pytest.fixture
def meta(monkeypatch):
    """The device has no autocast, and nothing to log."""
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.float32)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    for module in (standard_mask_head, implicit_mask_head):
        monkeypatch.setattr(module, "put_scalars", lambda values: None)
    return torch.device("meta")


def test_the_mask_losses_need_no_value(head, meta):
    images = shared([image.to(meta) for image in proposals(4, 3)], meta)
    maps = {name: x.detach().to(meta).requires_grad_() for name, x in features().items()}
    head = head.to(meta).train()
    losses = head(maps, images)
    gradients = torch.autograd.grad(sum(losses.values()), [maps["p2"], *head.parameters()])
    assert gradients[0].shape == maps["p2"].shape


def test_the_masks_need_no_value(head, meta):
    maps = {name: x.detach().to(meta) for name, x in features().items()}
    images = [image.to(meta) for image in detections(4, 3)]
    with torch.no_grad():
        images = head.to(meta).eval()(maps, images)
    assert [image.pred_masks.shape[0] for image in images] == [4, 3]


def test_a_value_that_is_needed_is_noticed(head, meta, monkeypatch):
    """The same with a loss that asks for one."""

    def broken(logits, labels):
        return logits.sum() * logits.sum().item()

    for module in ("instance_head", "readers.plain", "readers.fast.point_loss"):
        monkeypatch.setattr(f"pointrend_seg.modeling.{module}.mask_point_loss", broken)
    images = shared([image.to(meta) for image in proposals(4, 3)], meta)
    maps = {name: x.detach().to(meta) for name, x in features().items()}
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        head.to(meta).train()(maps, images)


def semantic(opts=()):
    """The semantic head of a small model, and features for it."""
    torch.manual_seed(0)
    model = build_model(small_semantic_cfg(opts=opts))
    with torch.no_grad():
        return model.sem_seg_head, model.backbone(torch.randn(2, 3, 64, 96))


@pytest.mark.parametrize("avoid_ignored", [False, True])
def test_the_semantic_head_needs_no_value(meta, avoid_ignored):
    head, maps = semantic(("MODEL.SEM_SEG_POINT_HEAD.AVOID_IGNORED", avoid_ignored))
    maps = {name: x.to(meta).requires_grad_() for name, x in maps.items()}
    labels = torch.zeros(2, 64, 96, dtype=torch.int64, device=meta)
    head = head.to(meta)
    losses = head.train()(maps, labels)[1]
    torch.autograd.grad(sum(losses.values()), list(head.parameters()))
    with torch.no_grad():
        assert head.eval()(maps)[0].shape == (2, 5, 64, 96)


# --- nothing is left on the host --------------------------------------------------------------

AMP = pytest.mark.parametrize("amp", [None, *HALVES], ids=str)


@pytest.fixture
def fake_gpu(monkeypatch):
    """Tensors on "cuda", without memory; they have no backward pass."""
    for module in (standard_mask_head, implicit_mask_head):
        monkeypatch.setattr(module, "put_scalars", lambda values: None)
    with FakeTensorMode():
        yield torch.device("cuda", 0)


@contextlib.contextmanager
def autocast_on(device, dtype):
    """`torch.autocast`, which switches itself off where there is no GPU."""
    torch.set_autocast_enabled(device.type, dtype is not None)
    if dtype is not None:
        torch.set_autocast_dtype(device.type, dtype)
    try:
        square = torch.ones(2, 2, device=device)
        assert (square @ square).dtype == (dtype or torch.float32)
        yield
    finally:
        torch.set_autocast_enabled(device.type, False)


def maps_on(device):
    return {
        name: torch.randn(2, 32, HEIGHT // stride, WIDTH // stride, device=device)
        for name, stride in STRIDES.items()
    }


def images_on(device, boxes, masks=None):
    """Images with 4 and 3 boxes and the labels of training, if there are masks."""
    images = []
    for count in (4, 3):
        image = Instances((HEIGHT, WIDTH))
        image.set(boxes, Boxes(torch.rand(count, 4, device=device)))
        classes = torch.zeros(count, dtype=torch.int64, device=device)
        image.set("pred_classes" if masks is None else "gt_classes", classes)
        if masks is not None:
            image.gt_masks = masks(count)
        images.append(image)
    return images


MASKS = {
    "bits": lambda n: BitMasks(torch.zeros(n, HEIGHT, WIDTH, dtype=torch.bool, device="cuda")),
    "bits on the host": lambda n: BitMasks(torch.zeros(n, HEIGHT, WIDTH, dtype=torch.bool)),
    "polygons": lambda n: PolygonMasks([[[12.0, 9.0, 70.0, 20.0, 40.0, 80.0]]] * n),
}


def head_on(device, opts):
    with device:
        return mask_head(opts)


@AMP
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("opts", HEADS.values(), ids=HEADS)
def test_the_mask_losses_stay_on_the_gpu(fake_gpu, opts, masks, amp):
    """With the gradients that the fast path computes on the way."""
    head = head_on(fake_gpu, opts).train()
    with autocast_on(fake_gpu, amp):
        losses = head(maps_on(fake_gpu), images_on(fake_gpu, "proposal_boxes", masks))
    assert {(x.device, x.dtype) for x in losses.values()} == {(fake_gpu, torch.float32)}


@AMP
@pytest.mark.parametrize("opts", HEADS.values(), ids=HEADS)
def test_the_masks_stay_on_the_gpu(fake_gpu, opts, amp):
    head = head_on(fake_gpu, opts).eval()
    with torch.no_grad(), autocast_on(fake_gpu, amp):
        images = head(maps_on(fake_gpu), images_on(fake_gpu, "pred_boxes"))
    assert [image.pred_masks.shape[0] for image in images] == [4, 3]
    assert all(image.pred_masks.device == fake_gpu for image in images)


@AMP
def test_the_semantic_head_stays_on_the_gpu(fake_gpu, amp):
    shapes = {name: ShapeSpec(channels=32, stride=stride) for name, stride in STRIDES.items()}
    with fake_gpu:
        head = build_sem_seg_head(small_semantic_cfg(), shapes)
    maps = maps_on(fake_gpu)
    labels = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.int64, device=fake_gpu)
    with autocast_on(fake_gpu, amp):
        losses = head.train()(maps, labels)[1]
        with torch.no_grad():
            logits = head.eval()(maps)[0]
    assert {(x.device, x.dtype) for x in losses.values()} == {(fake_gpu, torch.float32)}
    assert logits.device == fake_gpu and logits.shape == (2, 5, HEIGHT, WIDTH)


def test_a_tensor_on_the_host_is_noticed(fake_gpu, monkeypatch):
    grid = coordinates.regular_grid
    monkeypatch.setattr(
        "pointrend_seg.points.subdivision.regular_grid", lambda side, device: grid(side, "cpu")
    )
    with pytest.raises(RuntimeError, match="device"), torch.no_grad():
        head_on(fake_gpu, ()).eval()(maps_on(fake_gpu), images_on(fake_gpu, "pred_boxes"))


# --- no graph break ---------------------------------------------------------------------------


def compiled(function):
    torch.compiler.reset()
    return torch.compile(function, backend="eager", fullgraph=True)


def test_the_mask_losses_compile_whole(head):
    maps, head = {name: x.detach() for name, x in features().items()}, head.train()
    torch.manual_seed(0)
    with EventStorage():
        want = head(maps, shared(proposals(4, 3)))
        torch.manual_seed(0)
        got = compiled(head)(maps, shared(proposals(4, 3)))
    for name, loss in want.items():
        torch.testing.assert_close(got[name], loss, rtol=1e-4, atol=1e-6)


def test_the_masks_compile_whole(head):
    maps, head = {name: x.detach() for name, x in features().items()}, head.eval()
    with torch.no_grad():
        want = torch.cat([image.pred_masks for image in head(maps, detections(4, 3))])
        got = torch.cat([image.pred_masks for image in compiled(head)(maps, detections(4, 3))])
    assert ((want > 0.5) == (got > 0.5)).float().mean() > 0.9995
    assert (want - got).abs().median() < 1e-5


def test_the_semantic_head_compiles_whole():
    head, maps = semantic()
    labels = torch.randint(0, 5, (2, 64, 96))
    torch.manual_seed(0)
    want = head.train()(maps, labels)[1]
    torch.manual_seed(0)
    got = compiled(head)(maps, labels)[1]
    for name, loss in want.items():
        torch.testing.assert_close(got[name], loss, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        want = head.eval()(maps)[0]
        torch.testing.assert_close(compiled(head)(maps)[0], want, rtol=1e-4, atol=1e-4)


def test_a_graph_break_is_noticed(monkeypatch):
    head, maps = semantic()
    monkeypatch.setattr(
        head, "inference", lambda coarse, maps, _: coarse if coarse.max() > 0 else -coarse
    )
    with pytest.raises(torch._dynamo.exc.Unsupported), torch.no_grad():
        compiled(head.eval())(maps)


# --- the training log -------------------------------------------------------------------------


def test_scalars_of_a_cpu_are_logged_at_once():
    with EventStorage() as storage:
        scalars.put_scalars({"a": torch.tensor(2.0), "b": torch.tensor(True)})
        assert {name: value for name, (value, _) in storage.latest().items()} == {"a": 2, "b": 1}


@pytest.mark.gpu
def test_scalars_of_a_gpu_are_logged_one_iteration_late():
    with EventStorage() as storage:
        for step in range(3):
            torch.cuda.set_sync_debug_mode("error")
            scalars.put_scalars({"a": torch.full((), float(step), device="cuda")})
            torch.cuda.set_sync_debug_mode("default")
            if step:
                assert storage.latest()["a"][0] == step - 1
