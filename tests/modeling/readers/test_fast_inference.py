"""Inference on the fast path against that on the plain path, and what it costs."""

from types import SimpleNamespace

import pytest
import torch

from mask_inputs import NODE, Allocated, detections, features, mask_head, masks_of, reader_of
from pointrend_seg.modeling.readers import CoarsePrediction
from pointrend_seg.modeling.readers.fast import FusedBoxReader, fused, parts
from pointrend_seg.modeling.readers.plain import PlainBoxReader
from reader_inputs import CHANNELS, Case, points_in_double

NEVER, ALWAYS = float("inf"), -1.0


@pytest.fixture(params=[NEVER, ALWAYS], ids=["points first", "map first"])
def order(request, monkeypatch):
    monkeypatch.setattr(fused, "_POINTS_WORTH_MAP", request.param)


# --- predictions at points ------------------------------------------------------------------


@torch.no_grad()
def predicted(case, kind):
    """Coarse logits, and logits at the points, of all parts together."""
    reader = case.reader(kind)
    coarse, stop, logits = reader.pool(case.coarse_head), 0, []
    inputs = CoarsePrediction(coarse, case.box_classes)
    for part, predict in reader.predictors(inputs, num_points=case.num_points, num_reads=1):
        logits.append(predict(case.coords[part]))
        # Asked twice for the same, it says the same: nothing is used up.
        assert torch.equal(predict(case.coords[part]), logits[-1])
        assert part.start == stop
        stop = part.stop
    assert stop == len(case.coords)
    return coarse, torch.cat(logits)


def assert_same_predictions(case, want=None, *, atol=2e-5, rtol=1e-5):
    """Compare the fast path with ``want``, by default the plain path's; return ``want``."""
    want = want or predicted(case, PlainBoxReader)
    for got, other in zip(predicted(case, FusedBoxReader), want, strict=True):
        torch.testing.assert_close(got, other, atol=atol, rtol=rtol)
    return want


CASES = {
    "one map": {},
    "first image empty": {"counts": (0, 2)},
    "several fine maps": {"points": ("p3", "p2", "p4")},
    "different maps": {"points": ("p2",), "pooler": ("p3", "p2")},
    "border": {"padding_mode": "border", "points": ("p2", "p3")},
    "class-agnostic": {"agnostic": True},
    "many classes": {"classes": 300},
    "coarse logits once": {"each_layer": False},
    "one layer": {"num_fc": 1},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_predictions(monkeypatch, order, settings):
    points_in_double(monkeypatch)
    for values in assert_same_predictions(Case(**settings).build(), atol=1e-10, rtol=1e-10):
        assert values.std() > 0.1


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_predictions_in_single_precision(order, settings):
    assert_same_predictions(Case(**settings, dtype=torch.float32).build())


@pytest.mark.parametrize("rows", [1, 15, 2**20])
def test_parts_of_any_size(monkeypatch, order, rows):
    monkeypatch.setattr(parts, "_ROWS_AT_ONCE", {"cpu": rows})
    assert_same_predictions(Case(points=("p2", "p3"), dtype=torch.float32).build())


def test_the_first_layer_goes_over_maps_with_fewer_cells_than_points(monkeypatch):
    """Of each image: what pays for many boxes does not for few."""
    tables = []
    original = fused.RowTable.__init__
    monkeypatch.setattr(
        fused.RowTable,
        "__init__",
        lambda self, *args: (tables.append(args[1]), original(self, *args))[1],
    )
    case = Case(counts=(1, 30), points=("p2", "p4"), dtype=torch.float32).build()
    predicted(case, FusedBoxReader)
    # p4 has 3 x 4 cells, p2 has 12 x 16: 7 points are enough for one, 210 for both.
    assert [tuple(size) for size in tables] == [(3, 4), (12, 16), (3, 4)]


@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
def test_memory_layouts(order, layout):
    case = Case(pooler=("p2", "p3"), points=("p3", "p2"), dtype=torch.float32).build()
    want = predicted(case, FusedBoxReader)
    for name in CHANNELS:
        x = case.features[name]
        if layout == "channels_last":
            x = x.to(memory_format=torch.channels_last)
        else:
            x = x.transpose(2, 3).contiguous().transpose(2, 3)
        case.features[name] = x
    assert_same_predictions(case, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_precisions(order, dtype):
    """Weights and features in half precision, or autocast: both err as the plain path does."""
    case = Case(counts=(9, 9), points=("p2", "p3"), dtype=torch.float32).build()
    exact = predicted(case, PlainBoxReader)[1]

    def errors():
        logits = [predicted(case, kind)[1] for kind in (PlainBoxReader, FusedBoxReader)]
        return [(each.float() - exact).std() for each in logits], {each.dtype for each in logits}

    with torch.autocast("cpu", dtype=dtype):
        (plain, fast), _ = errors()
    assert fast < 1.5 * plain < 0.1
    for module in (case.coarse_head, case.point_head):
        module.to(dtype)
    case.features = {name: x.to(dtype) for name, x in case.features.items()}
    (plain, fast), dtypes = errors()
    assert fast < 1.5 * plain < 0.1 and dtypes == {dtype}


# --- masks ----------------------------------------------------------------------------------


def both_masks(images, opts=(), **settings):
    """Probabilities of the plain path and of the fast one."""
    maps = features(len(images), channels=settings.get("channels", 32))
    heads = [mask_head((*opts, f"{NODE}.FAST_PATH", fast), **settings) for fast in (False, True)]
    return [masks_of(head, maps, images) for head in heads]


def assert_same_masks(want, got):
    assert got.shape == want.shape
    assert ((got > 0.5) == (want > 0.5)).float().mean() > 0.9999
    assert (got - want).abs().median() < 1e-6
    assert 0.05 < (want > 0.5).float().mean() < 0.95


@pytest.mark.parametrize("rows", [1, 1000, 2**13, 2**20])
def test_masks(monkeypatch, order, rows):
    monkeypatch.setattr(parts, "_ROWS_AT_ONCE", {"cpu": rows})
    assert_same_masks(*both_masks(detections(4, 0, 3), (f"{NODE}.IN_FEATURES", ("p2", "p3"))))


@pytest.mark.parametrize("num_classes", [1, 300])
def test_masks_of_any_number_of_classes(num_classes):
    images = detections(4, 3, classes=num_classes)
    assert_same_masks(*both_masks(images, num_classes=num_classes))


def test_masks_of_no_class():
    assert_same_masks(*both_masks(detections(4, 3), (f"{NODE}.CLS_AGNOSTIC_MASK", True)))


def test_the_points_of_each_step_are_seen_part_by_part(monkeypatch):
    monkeypatch.setattr(parts, "_ROWS_AT_ONCE", {"cpu": 2 * 784})
    head, maps, images = mask_head().eval(), features(2), detections(3, 1)
    boxes, seen = [each.pred_boxes.tensor for each in images], []
    observer = SimpleNamespace(
        on_coarse=lambda logits: seen.append(tuple(logits.shape)),
        on_step=lambda logits, coords: seen.append((tuple(logits.shape), tuple(coords.shape))),
    )
    with torch.no_grad():
        reader = reader_of(head, maps, boxes)
        masks = head.inference(reader, reader.pool(head.coarse_head), images, observer)
    steps = [(56, 784), (112, 784), (224, 784)]
    want = [((b, 1, side, side), (b, p, 2)) for b in (2, 1, 1) for side, p in steps]
    assert seen == [(4, 1, 7, 7), *want] and masks.shape == (4, 1, 224, 224)


# --- cost -----------------------------------------------------------------------------------


def inference_cost(num_boxes, num_classes):
    """The largest tensor, the masks' bytes and the coarse logits' bytes; parts are of 1 box."""
    opts = (f"{NODE}.SUBDIVISION_STEPS", 3, f"{NODE}.SUBDIVISION_NUM_POINTS", 100)
    head, maps = mask_head(opts, num_classes, channels=8).eval(), features(1, 8)
    images = detections(num_boxes, classes=num_classes)
    boxes = [images[0].pred_boxes.tensor]
    with torch.no_grad(), Allocated() as allocated:
        reader = reader_of(head, maps, boxes)
        masks = head.inference(reader, reader.pool(head.coarse_head), images)
    assert type(reader) is FusedBoxReader
    return allocated.largest, masks.nbytes, num_boxes * num_classes * 49 * 4


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "_ROWS_AT_ONCE", {"cpu": 200})


def test_nothing_but_the_masks_grows_with_the_boxes(small_parts):
    few, *_ = inference_cost(2, 1)
    many, masks, _ = inference_cost(60, 1)
    assert masks > 5 * few  # so that what else grew would show
    assert many <= masks


def test_nothing_but_the_coarse_logits_grows_with_the_classes(small_parts):
    """1203 classes of LVIS; the built-in's masks of all would be 1203 times as large."""
    few, masks, _ = inference_cost(20, 2)
    many, _, coarse = inference_cost(20, 1203)
    assert coarse > 5 * max(few, masks)
    assert many <= coarse
