"""Half precision at the sizes of real images: in autocast, and of whole models.

The maps of these sizes have more columns than half precision can count.
"""

import contextlib
import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from mask_inputs import (
    HALVES,
    MASK_HEADS,
    NODE,
    STRIDES,
    agreement,
    assert_finite_with_gradients,
    builtin_head,
    mask_head,
    masks_of,
    random_boxes,
    seeded,
)
from pointrend_seg.points import interpolation
from small_configs import small_semantic_cfg

SIZES = {1216: 800, 2048: 1024, 4096: 2048}
STEPS = {"standard": 5, "implicit": 3}
PATHS = {"fast": True, "plain": False}
# Of the thresholded pixels, those that are as in float32.
LEAST = {torch.float16: 0.9990, torch.bfloat16: 0.9970}
# Of a loss, how much of it rounding may change.
MOST_OF_LOSS = {torch.float16: 0.005, torch.bfloat16: 0.03}


def slow(width):
    return pytest.param(width, marks=pytest.mark.slow)


sizes = pytest.mark.parametrize("width", [1216, slow(2048), 4096])
halves = pytest.mark.parametrize("dtype", HALVES, ids=str)
kinds = pytest.mark.parametrize("kind", MASK_HEADS)
paths = pytest.mark.parametrize("path", PATHS)
ways = pytest.mark.parametrize("whole", [False, True], ids=["autocast", "model in half"])


def smooth_maps(width, channels=32):
    """Feature maps of one image that change over 50 pixels, so that masks have long edges."""
    generator, height = seeded(1), SIZES[width]
    cells = (height // 48, width // 48)
    return {
        name: F.interpolate(
            torch.randn(1, channels, *cells, generator=generator),
            size=(height // stride, width // stride),
            mode="bicubic",
        )
        for name, stride in STRIDES.items()
    }


def boxes_in(width, number=16):
    """Boxes of an image, the first in its far corner, the second all of it, the third thin."""
    height = SIZES[width]
    boxes = random_boxes(number, seeded(2), height, width)
    boxes[0] = torch.tensor([width - 60.0, height - 40.0, width, height])
    boxes[1] = torch.tensor([0.0, 0.0, width, height])
    boxes[2] = torch.tensor([width - 3.0, 0.0, width, height])
    return boxes


def detected(width):
    instances = Instances((SIZES[width], width))
    instances.pred_boxes = Boxes(boxes_in(width))
    instances.pred_classes = torch.arange(len(instances)) % 5
    return [instances]


def proposed(width):
    """Proposals, of which every third has the same object."""
    instances = Instances((SIZES[width], width))
    instances.proposal_boxes = Boxes(boxes_in(width))
    instances.gt_classes = torch.arange(len(instances)) % 5
    coarse = torch.randn(1, 3, 20, 30, generator=seeded(3))
    bits = F.interpolate(coarse, size=instances.image_size, mode="bilinear")[0] > 0
    instances.gt_masks = BitMasks(bits[torch.arange(len(instances)) % 3])
    return [instances]


def lively_head(kind, path="fast"):
    """A mask head whose masks have edges within the boxes."""
    opts = (f"{NODE}.FAST_PATH", PATHS[path], f"{NODE}.SUBDIVISION_STEPS", STEPS[kind])
    head = mask_head((*MASK_HEADS[kind][0], *opts))
    if kind == "implicit":
        with torch.no_grad():
            head.parameter_head.prediction.bias.normal_(std=0.3)
    return head


def in_half(head, maps, dtype, whole):
    """The head, its maps and its autocast: all in half precision where ``whole``."""
    if not whole:
        return head, maps, torch.autocast("cpu", dtype=dtype)
    half = copy.deepcopy(head).to(dtype), {name: x.to(dtype) for name, x in maps.items()}
    return *half, contextlib.nullcontext()


def masks_in_half(head, width, dtype, whole=False):
    head, maps, autocast = in_half(head, smooth_maps(width), dtype, whole)
    with autocast:
        return masks_of(head, maps, detected(width))


@sizes
@halves
@kinds
@paths
@ways
def test_masks_are_those_of_float32(kind, path, width, dtype, whole):
    head = lively_head(kind, path)
    want = masks_of(head, smooth_maps(width), detected(width))
    edges = ((want > 0.5)[..., 1:] != (want > 0.5)[..., :-1]).float().mean()
    assert edges > 0.01
    got = masks_in_half(head, width, dtype, whole)
    assert got.dtype == torch.float32 and got.shape == want.shape
    assert agreement(got, want) >= LEAST[dtype]
    assert agreement(got[:3], want[:3]) >= LEAST[dtype] - 0.002


@sizes
@halves
@kinds
@paths
@ways
def test_losses_are_those_of_float32(kind, path, width, dtype, whole):
    head = lively_head(kind, path).train()
    losses = []
    for trained, maps, autocast in (
        (head, smooth_maps(width), contextlib.nullcontext()),
        in_half(head, smooth_maps(width), dtype, whole),
    ):
        torch.manual_seed(0)
        with EventStorage(), autocast:
            losses.append(trained(maps, proposed(width)))
        sum(losses[-1].values()).backward()
        assert_finite_with_gradients(losses[-1], trained)
    for name, want in losses[0].items():
        assert losses[1][name].dtype == torch.float32
        assert abs(losses[1][name] / want - 1) < MOST_OF_LOSS[dtype], name


def semantic_head():
    torch.manual_seed(0)
    head = build_model(small_semantic_cfg()).sem_seg_head
    with torch.no_grad():
        head.coarse_sem_seg_head.predictor.weight.mul_(30)
        head.point_head.predictor.weight.mul_(100)
    return head


@pytest.mark.parametrize("width", [1216, *map(slow, (2048, 4096))])
@halves
@ways
def test_semantic_classes_and_losses_are_those_of_float32(width, dtype, whole):
    head, maps = semantic_head(), smooth_maps(width)
    half, half_maps, autocast = in_half(head, maps, dtype, whole)
    with torch.no_grad():
        want = head.eval()(maps)[0].argmax(1)
        with autocast:
            got = half.eval()(half_maps)[0].argmax(1)
    assert (got == want).float().mean() > {torch.float16: 0.999, torch.bfloat16: 0.996}[dtype]
    assert want.unique().numel() == 5
    labels = torch.randint(0, 6, (1, 20, 30), generator=seeded(4)).repeat_interleave(300, 1)
    labels = labels.repeat_interleave(300, 2)[:, : SIZES[width], :width]
    labels, losses = labels.where(labels < 5, 255), []
    for trained, given, context in (
        (head, maps, contextlib.nullcontext()),
        (half, half_maps, autocast),
    ):
        torch.manual_seed(0)
        with torch.no_grad(), context:
            losses.append(trained.train()(given, labels)[1])
    for name, loss in losses[0].items():
        assert losses[1][name].dtype == torch.float32
        assert abs(losses[1][name] / loss - 1) < MOST_OF_LOSS[dtype], name


# --- the rule behind it ---------------------------------------------------------------------

# Functions whose operands and results are coordinates, maps read at them, weights of neighbours,
# uncertainties, or what a loss sees.
FLOAT32_FUNCTIONS = {
    "grid_sample",
    "embedding_bag",
    "floor",
    "topk",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
}


class Float32Guard(TorchFunctionMode):
    """Fails where something is in half precision that must not be, or is read beside a map.

    (At the level of functions: a mode of the dispatcher keeps autocast out of what they call.)

    Attributes:
        seen: names of the functions that were called.
    """

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in FLOAT32_FUNCTIONS:
            self.seen.add(name)
            for each in tree_flatten((args, kwargs, results))[0]:
                if isinstance(each, torch.Tensor) and each.is_floating_point():
                    assert each.dtype == torch.float32, name
        if name == "embedding_bag":
            cells, table = args
            assert cells.min() >= 0 and cells.max() < len(table), "beside the map"
        return results


def guarded(head, dtype, whole, *, width=1216):
    """Inference and training of a mask head; the operations that were looked at."""
    head, maps, autocast = in_half(head, smooth_maps(width), dtype, whole)
    last = {name: x.to(memory_format=torch.channels_last) for name, x in maps.items()}
    with Float32Guard() as guard, EventStorage(), autocast:
        for each in (maps, last):  # these are read in different ways
            masks_of(head, each, detected(width))
            sum(head.train()(each, proposed(width)).values())
    return guard.seen


@halves
@kinds
@paths
@ways
def test_what_must_be_float32_is(kind, path, dtype, whole):
    seen = guarded(lively_head(kind, path), dtype, whole)
    called = {"grid_sample", "topk", "binary_cross_entropy_with_logits"}
    assert called <= seen
    assert path == "plain" or "embedding_bag" in seen


def test_reading_in_half_precision_is_noticed(monkeypatch):
    monkeypatch.setattr(interpolation, "at_least_float32", lambda tensor: tensor)
    with pytest.raises(AssertionError, match="grid_sample"):
        guarded(lively_head("standard", "plain"), torch.bfloat16, whole=True)


def test_the_frequencies_of_the_implicit_head_stay_exact():
    head = lively_head("implicit").point_head
    matrix = head.positional_encoding_gaussian_matrix.clone()
    for converted in (head.half(), head.bfloat16(), head.float()):
        assert torch.equal(converted.positional_encoding_gaussian_matrix, matrix)
    assert head.double().positional_encoding_gaussian_matrix.dtype == torch.float64


# --- beside Detectron2's --------------------------------------------------------------------


@pytest.mark.slow
def test_detectron2_loses_more(capsys):
    """Prints the table of docs/results.md."""
    rows = []
    for kind, (opts, names) in MASK_HEADS.items():
        head = lively_head(kind)
        shared = [x for x in zip(opts[::2], opts[1::2], strict=True) if x[0] == f"{NODE}.FC_DIM"]
        steps = (f"{NODE}.SUBDIVISION_STEPS", STEPS[kind])
        builtin = builtin_head((*(x for pair in shared for x in pair), *steps), names)
        builtin.load_state_dict(head.state_dict())
        for width in SIZES:
            want = masks_of(builtin, smooth_maps(width), detected(width))
            for dtype in HALVES:
                shares = [agreement(masks_in_half(x, width, dtype), want) for x in (head, builtin)]
                assert shares[0] > shares[1]
                rows.append((kind, width, str(dtype)[6:], *(f"{100 * x:.2f} %" for x in shares)))
    with capsys.disabled():
        print("\nhead, image width, autocast: ours, Detectron2's")
        for row in rows:
            print("| " + " | ".join(map(str, row)) + " |")
