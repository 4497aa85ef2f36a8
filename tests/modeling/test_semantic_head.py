"""The semantic head where Detectron2's fails, and at its edges."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_model
from torch import nn
from torch.nn import functional as F

from pointrend_seg.errors import InputError
from pointrend_seg.modeling.readers import ReadSettings
from pointrend_seg.modeling.samplers import ImportancePointSampler, UniformPointSampler
from pointrend_seg.modeling.semantic_head import PointRendSemanticHead
from pointrend_seg.points.coordinates import grid_point_coords
from pointrend_seg.points.interpolation import sample_points
from small_configs import small_semantic_cfg

POINT_HEAD = "MODEL.SEM_SEG_POINT_HEAD"
HEAD = "MODEL.SEM_SEG_HEAD"


def small_model(opts=(), num_classes=5):
    return build_model(small_semantic_cfg(num_classes, opts))


def labelled(height=64, width=96, classes=5, count=2):
    labels = torch.randint(0, classes, (height, width))
    return [{"image": torch.rand(3, height, width) * 255, "sem_seg": labels}] * count


def losses_of(model, inputs):
    losses = model.train()(inputs)
    sum(losses.values()).backward()
    return losses


class CoarseStub(nn.Module):
    """A coarse head that predicts what it is told."""

    def __init__(self, logits, stride):
        super().__init__()
        self.logits, self.common_stride = logits, stride

    def layers(self, features):
        return self.logits


def head_of(logits, stride, strides, point_head, classes=2, **settings):
    reading = {key: settings.pop(key) for key in ("padding_mode", "fast_path") if key in settings}
    return PointRendSemanticHead(
        coarse_head=CoarseStub(logits, stride),
        point_head=point_head,
        point_sampler=ImportancePointSampler(),
        reading=ReadSettings(strides, {}, **reading),
        num_classes=classes,
        **settings,
    )


# --- what is returned -----------------------------------------------------------------------


class ReadFirstFeature(nn.Module):
    """Predicts the fine feature itself as the first class, whatever the coarse logits say."""

    def forward(self, fine, coarse):
        return torch.cat((fine[:, :1], torch.zeros_like(fine[:, :1])), dim=1)


@pytest.mark.parametrize("height", [64, 65, 79, 80])
@pytest.mark.parametrize("width", [33, 48, 95])
def test_the_region_is_the_image_at_every_size(height, width):
    """The fine feature holds x in pixels, so the output tells from where each pixel was read.

    Maps at strides 16 and 4 cover different extents of an image that 16 does not divide; reading
    both in one [0, 1] frame, as Detectron2's head does, is off by up to 15 pixels.
    """
    fine_cells, coarse_cells = -(-width // 4), -(-width // 16)
    rows = -(-height // 4)
    ramp = ((torch.arange(fine_cells) + 0.5) * 4).view(1, 1, 1, -1).expand(1, 1, rows, -1)
    coarse = torch.zeros(1, 2, -(-height // 16), coarse_cells)
    head = head_of(coarse, 16, {"res2": 4}, ReadFirstFeature(), subdivision_num_points=10**6)
    logits, losses = head.eval()({"res2": ramp})
    assert losses == {}
    assert logits.shape[2] >= height and logits.shape[3] >= width
    x = torch.arange(width) + 0.5
    inner = slice(2, width - 2)  # the outermost cells are mixed with the zeros outside
    got = logits[0, 0, 4 : height - 4, :width][:, inner]
    torch.testing.assert_close(got, x[inner].expand_as(got), atol=0.02, rtol=0)


def test_border_padding_reads_the_edge_as_it_is():
    """A constant map reads 0.51 of itself at its corner with zeros, all of it with border."""

    class ReadBoth(nn.Module):
        def forward(self, fine, coarse):
            return torch.cat((fine * coarse[:, :1], torch.zeros_like(fine)), dim=1)

    features = {"p2": torch.ones(1, 1, 8, 8)}
    outputs = {}
    for mode in ("zeros", "border"):
        settings = {"padding_mode": mode, "subdivision_num_points": 10**6}
        head = head_of(torch.ones(1, 2, 8, 8), 4, {"p2": 4}, ReadBoth(), **settings)
        outputs[mode] = head.eval()(features)[0][0, 0]
    assert outputs["border"].eq(1).all()
    assert outputs["zeros"][0, 0] < 0.5 and outputs["zeros"][4, 4] == 1


def test_points_are_spent_on_what_is_shown():
    """An image of 65 x 65: the frame is 80 x 80, the fine map says that 72 are the most."""
    head = head_of(
        torch.zeros(1, 2, 5, 5), 16, {"res3": 8}, ReadFirstFeature(), subdivision_num_points=20
    ).eval()
    seen = []
    features = {"res3": torch.zeros(1, 1, 9, 9)}
    coarse = head.coarse_sem_seg_head.layers(None)
    observer = SimpleNamespace(
        on_coarse=lambda logits: None, on_step=lambda logits, coords: seen.append(coords * 80)
    )
    head.inference(coarse, features, observer)
    assert len(seen) == 4
    assert all(coords.max() <= 72 for coords in seen)


def test_every_pixel_refined_is_the_point_head_everywhere():
    """With as many points as pixels the output is the MLP at every pixel's centre."""
    model = small_model((f"{POINT_HEAD}.SUBDIVISION_NUM_POINTS", 10**6))
    head = model.eval().sem_seg_head
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        features = model.backbone(image)
        got = head(features)[0]
        coords = grid_point_coords(torch.arange(64 * 96).unsqueeze(0), 64, 96)
        coarse = head.coarse_sem_seg_head.layers(features)
        want = head.point_head(
            sample_points(features["p2"], coords), sample_points(coarse, coords)
        ).view(1, 5, 64, 96)
    torch.testing.assert_close(got, want)


def test_batched_inference_is_single_inference():
    model = small_model().eval()
    inputs = [{"image": torch.rand(3, 64, 96) * 255} for _ in range(3)]
    with torch.no_grad():
        together = model(inputs)
        for single, image in zip(together, inputs, strict=True):
            alone = model([image])[0]["sem_seg"]
            agree = alone.argmax(0) == single["sem_seg"].argmax(0)
            assert agree.float().mean() > 0.999  # other batch sizes round otherwise
            assert (alone - single["sem_seg"]).abs().median() < 1e-5


def test_images_of_all_sizes_through_the_model():
    model = small_model((f"{HEAD}.NORM", "")).eval()
    with torch.no_grad():
        for size in ((1, 1), (31, 70), (64, 64)):
            output = model([{"image": torch.rand(3, *size) * 255, "height": 50, "width": 40}])
            assert output[0]["sem_seg"].shape == (5, 50, 40)
            assert output[0]["sem_seg"].isfinite().all()


# --- features, classes, losses --------------------------------------------------------------


def test_several_fine_features():
    """Detectron2's head trains with them and crashes in inference."""
    model = small_model((f"{POINT_HEAD}.IN_FEATURES", ["p2", "p3", "p4"]))
    assert model.sem_seg_head.point_head.fc1.in_channels == 3 * 32 + 5
    losses_of(model, labelled())
    with torch.no_grad():
        assert model.eval()(labelled())[0]["sem_seg"].shape == (5, 64, 96)


def test_a_binary_model():
    """Detectron2's head asks for the two best of one class and crashes."""
    model = small_model(num_classes=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    image = torch.rand(3, 64, 96) * 30
    labels = torch.zeros(64, 96, dtype=torch.int64)
    labels[16:48, 20:60] = 1
    image[:, 16:48, 20:60] += 200
    labels[:, 90:] = 255
    inputs = [{"image": image, "sem_seg": labels}] * 2
    for _ in range(25):
        optimizer.zero_grad()
        losses = losses_of(model, inputs)
        optimizer.step()
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_point"}
    with torch.no_grad():
        logits = model.eval()(inputs)[0]["sem_seg"]
    assert logits.shape == (1, 64, 96)
    known = labels != 255
    assert ((logits[0] > 0) == labels.bool())[known].float().mean() > 0.9


@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("avoid", [False, True])
def test_everything_ignored(classes, avoid):
    """Detectron2's head gives NaN for such a batch."""
    model = small_model((f"{POINT_HEAD}.AVOID_IGNORED", avoid), classes)
    image = torch.rand(3, 64, 64)
    inputs = [{"image": image, "sem_seg": torch.full((64, 64), 255)}] * 2
    losses = losses_of(model, inputs)
    assert all(loss.item() == 0 for loss in losses.values())
    assert all(p.grad.eq(0).all() for p in model.sem_seg_head.parameters())


def test_every_parameter_of_the_head_gets_a_gradient():
    model = small_model()
    losses_of(model, labelled())
    assert all(p.grad is not None and p.grad.any() for p in model.sem_seg_head.parameters())


@pytest.mark.parametrize("classes", [1, 5])  # the coarse head's own loss knows no binary model
def test_loss_weights(classes):
    torch.manual_seed(0)
    model = small_model(num_classes=classes)
    opts = (f"{HEAD}.LOSS_WEIGHT", 0.5, f"{POINT_HEAD}.LOSS_WEIGHT", 3.0)
    weighted = small_model(opts, classes)
    weighted.load_state_dict(model.state_dict())
    results = []
    inputs = labelled(classes=max(2, classes))
    for each in (model, weighted):
        torch.manual_seed(1)
        results.append(losses_of(each, inputs))
    plain, scaled = results
    for name, factor in (("loss_sem_seg", 0.5), ("loss_sem_seg_point", 3)):
        torch.testing.assert_close(scaled[name], factor * plain[name])


def test_class_weights_are_in_both_losses():
    """Weights of zero for the only two classes there are leave no loss; equal ones change none."""
    inputs = labelled(classes=2)
    torch.manual_seed(0)
    base = small_model()
    values = {}
    for name, weights in {"none": (), "equal": (2.0,) * 5, "zero": (0, 0, 1, 1, 1)}.items():
        model = small_model((f"{HEAD}.CLASS_WEIGHTS", weights))
        model.load_state_dict(base.state_dict(), strict=True)
        torch.manual_seed(1)
        values[name] = {key: loss.item() for key, loss in losses_of(model, inputs).items()}
    assert values["equal"] == pytest.approx(values["none"], rel=1e-5)
    assert all(value == 0 for value in values["zero"].values())


def points_drawn_by(head):
    """A list that grows with each call of the head's sampler by what it returned."""
    sampler, drawn = head.point_sampler, []
    head.point_sampler = lambda *args: drawn.append(sampler(*args)) or drawn[-1]
    return drawn


def test_no_point_is_spent_on_ignored_pixels_when_asked():
    model = small_model((f"{POINT_HEAD}.AVOID_IGNORED", True))
    drawn = points_drawn_by(model.sem_seg_head)
    inputs = labelled(40, 50)  # padded to 64 x 64
    for image in inputs:
        image["sem_seg"] = torch.full((40, 50), 255)
        image["sem_seg"][10:20, 30:35] = 1
    losses_of(model, inputs)
    x, y = (drawn[0] * 64).unbind(-1)
    assert x.min() >= 30 and x.max() <= 35 and y.min() >= 10 and y.max() <= 20


def test_training_points_as_a_part_of_the_height():
    model = small_model((f"{POINT_HEAD}.TRAIN_POINTS_PER_HEIGHT", 1 / 16))
    drawn = points_drawn_by(model.sem_seg_head)
    losses_of(model, labelled(64, 96))
    losses_of(model, labelled(128, 64))
    assert [coords.shape[1] for coords in drawn] == [4, 8]


def test_labels_of_a_size_that_the_stride_does_not_divide():
    """DeepLab's backbone pads nothing: its coarse loss must not see 80 against 65 pixels."""
    logits = torch.zeros(2, 3, 5, 5, requires_grad=True)
    head = head_of(logits, 16, {"res3": 8}, ReadTwo(), classes=3)
    losses = head({"res3": torch.rand(2, 2, 9, 9)}, torch.randint(0, 3, (2, 65, 65)))[1]
    assert all(loss.isfinite() for loss in losses.values())


class ReadTwo(nn.Module):
    def forward(self, fine, coarse):
        return torch.cat((fine, fine[:, :1]), dim=1)


# --- half precision -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_and_predicts(dtype):
    model = small_model()
    with torch.autocast("cpu", dtype=dtype):
        losses = model(labelled())
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        assert model.eval()(labelled())[0]["sem_seg"].isfinite().all()


def test_a_model_in_bfloat16():
    model = small_model().eval()
    head = model.sem_seg_head.bfloat16()
    with torch.no_grad():
        features = {k: v.bfloat16() for k, v in model.backbone(torch.rand(1, 3, 64, 64)).items()}
        logits = head(features)[0]
    assert logits.dtype == torch.bfloat16 and logits.shape == (1, 5, 64, 64)


# --- what does not fit fails at build -------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 5])
def test_more_steps_than_lead_to_full_size(steps):
    """Detectron2's head returns the wrong region in silence."""
    message = rf"SUBDIVISION_STEPS is {steps}, but 2 steps .* stride 4 .* Set it to 2 or less"
    with pytest.raises(InputError, match=message):
        small_model((f"{POINT_HEAD}.SUBDIVISION_STEPS", steps))


@pytest.mark.parametrize("steps", [0, 1])
def test_fewer_steps_are_upsampled_to_the_same_region(steps, caplog):
    """Detectron2's head returns a smaller map, of which the wrong part is cut out."""
    model = small_model((f"{POINT_HEAD}.SUBDIVISION_STEPS", steps)).eval()
    assert f"SUBDIVISION_STEPS is {steps} of 2 steps from stride 4" in caplog.text
    seen = []
    observer = SimpleNamespace(on_coarse=seen.append, on_step=lambda logits, _: seen.append(logits))
    with torch.no_grad():
        features = model.backbone(torch.rand(1, 3, 64, 96))
        logits = model.sem_seg_head(features, observer=observer)[0]
    assert seen[-1].shape == (1, 5, 16 << steps, 24 << steps)
    whole = F.interpolate(seen[-1], (64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, whole)


def test_the_right_number_of_steps_or_none():
    for steps in (2, -1):
        model = small_model((f"{POINT_HEAD}.SUBDIVISION_STEPS", steps))
        assert model.sem_seg_head.subdivision_steps == 2


def test_a_stride_that_doubling_does_not_reach():
    with pytest.raises(InputError, match="stride is 12; .* a power of two"):
        head_of(torch.zeros(1, 2, 2, 2), 12, {"p2": 4}, ReadFirstFeature())


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ((f"{POINT_HEAD}.IN_FEATURES", ["res9"]), r"IN_FEATURES is \['res9'\].*p2, p3, p4, p5"),
        ((f"{POINT_HEAD}.IN_FEATURES", []), r"IN_FEATURES is \[\], but the backbone gives"),
        ((f"{HEAD}.IN_FEATURES", ["p2", "p7"]), r"SEM_SEG_HEAD.IN_FEATURES is .*'p7'"),
        ((f"{HEAD}.NUM_CLASSES", 0), "NUM_CLASSES is 0; it must be 1 or more"),
        ((f"{HEAD}.CLASS_WEIGHTS", (1.0, 2.0)), r"has 2 numbers; 5 class\(es\) need 5"),
        ((f"{POINT_HEAD}.CLS_AGNOSTIC_MASK", True), "CLS_AGNOSTIC_MASK is True"),
        (
            (f"{POINT_HEAD}.PADDING_MODE", "mirror"),
            "PADDING_MODE is 'mirror'; it must be 'zeros' or",
        ),
        ((f"{POINT_HEAD}.SAMPLER", "Nobody"), "SAMPLER is 'Nobody', which is not registered"),
        ((f"{POINT_HEAD}.NAME", "Nobody"), "NAME is 'Nobody', which is not registered"),
        (
            (f"{POINT_HEAD}.COARSE_SEM_SEG_HEAD_NAME", "Nobody"),
            "COARSE_SEM_SEG_HEAD_NAME is 'Nobody'.*DeepLabV3Head.*SemSegFPNHead",
        ),
    ],
)
def test_what_does_not_fit_is_named_at_build(opts, message):
    with pytest.raises(InputError, match=message):
        small_model(opts)


def test_a_coarse_head_without_the_interface():
    @SEM_SEG_HEADS_REGISTRY.register()
    class UpsampledOnlyHead(nn.Module):
        def __init__(self, cfg, input_shape: dict[str, ShapeSpec]):
            super().__init__()

    try:
        opts = (f"{POINT_HEAD}.COARSE_SEM_SEG_HEAD_NAME", "UpsampledOnlyHead")
        with pytest.raises(InputError, match="UpsampledOnlyHead', which has no `layers` and no `c"):
            small_model(opts)
    finally:
        SEM_SEG_HEADS_REGISTRY._obj_map.pop("UpsampledOnlyHead")


def test_training_without_labels():
    model = small_model()
    with pytest.raises(InputError, match="Training needs labels: 'sem_seg'"):
        model([{"image": torch.rand(3, 64, 64)}])


def test_a_sampler_by_its_name():
    model = small_model((f"{POINT_HEAD}.SAMPLER", "UniformPointSampler"))
    assert type(model.sem_seg_head.point_sampler) is UniformPointSampler
    losses_of(model, labelled())


def test_what_was_done_to_a_layer_is_respected_in_the_fast_order():
    torch.manual_seed(0)
    model = small_model().eval()
    inputs = labelled()
    with torch.no_grad():
        model.sem_seg_head.point_head.predictor.weight.mul_(300)
        before = model(inputs)[0]["sem_seg"]
        handle = model.sem_seg_head.point_head.fc2.register_forward_hook(lambda *args: args[-1] * 2)
        after = model(inputs)[0]["sem_seg"]
        assert not torch.allclose(before, after)
        handle.remove()
        assert torch.equal(model(inputs)[0]["sem_seg"], before)
