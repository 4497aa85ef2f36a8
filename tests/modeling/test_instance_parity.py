"""The mask heads against Detectron2's: same config, same weights, same seed, whole models."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from mask_inputs import batch
from pointrend_seg import adopt_config
from small_configs import IMPLICIT, STANDARD, builtin_cfg


def models(cfg, fast_path=True):
    """The built-in's model and ours, built from its config with the same seed."""
    torch.manual_seed(0)
    theirs = build_model(cfg)
    adopted = adopt_config(cfg.clone())
    assert adopted.MODEL.POINT_HEAD.FAST_PATH
    adopted.MODEL.POINT_HEAD.FAST_PATH = fast_path
    torch.manual_seed(0)
    ours = build_model(adopted)
    assert type(ours.roi_heads.mask_head).__module__.startswith("pointrend_seg.")
    return theirs, ours


def both(names, opts=(), fast_path=True):
    """The same with equal weights, whose predictions differ from 0, as those of trained models."""
    theirs, ours = models(builtin_cfg(*names, opts), fast_path)
    with torch.no_grad():
        head = theirs.roi_heads.mask_head
        if hasattr(head, "coarse_head"):
            head.coarse_head.prediction.weight.mul_(100)
            head.point_head.predictor.weight.mul_(300)
        else:
            head.parameter_head.prediction.weight.mul_(5)
            head.parameter_head.prediction.bias.normal_(std=0.05)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def train(model, lr, steps=4):
    """Losses, and what was logged, of each step."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    history = []
    for step in range(steps):
        torch.manual_seed(step)
        with EventStorage() as storage:
            losses = model(batch(step))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            logged = {name: value[0] for name, value in storage.latest().items()}
        history.append(({name: loss.item() for name, loss in losses.items()}, logged))
    return history


def rates(logged):
    names = ("accuracy", "false_positive", "false_negative")
    return [logged.get(f"mask_rcnn/{name}", 0) for name in names]


def test_construction_draws_the_same_weights():
    for names in (STANDARD, IMPLICIT):
        theirs, ours = (model.state_dict() for model in models(builtin_cfg(*names)))
        assert list(theirs) == list(ours)
        assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


# Of the published size, as far as a CPU can; normalised, since random weights are.
R50 = ("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256)
R50 += ("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", 256, "MODEL.POINT_HEAD.FC_DIM", 256)


@pytest.mark.parametrize(
    ("names", "lr", "opts"),
    [(STANDARD, 1e-3, ()), (IMPLICIT, 1e-5, ()), (STANDARD, 1e-3, R50)],
    ids=["standard", "implicit", "R50-FPN"],
)
def test_training_step_by_step(names, lr, opts):
    """On the plain path: every loss of every step to the last bit, and every weight after them."""
    theirs, ours = both(names, opts, fast_path=False)
    for (want, want_logged), (got, got_logged) in zip(
        train(theirs, lr), train(ours, lr), strict=True
    ):
        assert got == want
        assert 0.1 < got["loss_mask_point"] < 100
        assert rates(got_logged) == pytest.approx(rates(want_logged), abs=1e-6)
    theirs, ours = theirs.state_dict(), ours.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@pytest.mark.parametrize(
    ("opts", "steps", "apart"), [((), 4, 1e-4), (R50, 2, 1e-2)], ids=["small", "R50-FPN"]
)
def test_training_step_by_step_on_the_fast_path(opts, steps, apart):
    """Sums are taken in another order: equal but for rounding, losses to about 1e-6.

    The larger model makes more of a last digit: its weights are ``apart`` by about a thousandth
    of how far they have moved. After some more steps such a digit decides which proposals are
    kept, and from there on the losses are those of other boxes.
    """
    theirs, ours = both(STANDARD, opts)
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    history = zip(train(theirs, 1e-3, steps), train(ours, 1e-3, steps), strict=True)
    for (want, want_logged), (got, got_logged) in history:
        assert got == pytest.approx(want, rel=1e-5)
        assert rates(got_logged) == pytest.approx(rates(want_logged), abs=1e-6)
    theirs, ours = theirs.state_dict(), ours.state_dict()
    for name, want in theirs.items():
        moved = (want - before[name]).norm()
        assert (ours[name] - want).norm() <= apart * moved + 1e-7 * want.norm(), name


@pytest.fixture(
    params=[(STANDARD, True), (STANDARD, False), (IMPLICIT, True)],
    ids=["standard", "standard-plain", "implicit"],
)
def trained(request):
    theirs, ours = both(request.param[0], fast_path=request.param[1])
    return theirs.eval(), ours.eval()


@torch.no_grad()
def test_inference(trained):
    """All outputs: boxes, scores and classes to the bit, masks after the threshold.

    The fast path sums in another order, so logits differ in their last digits. Where two points
    are equally uncertain but for these, another one is refined; so medians are compared, and where
    masks end.
    """
    theirs, ours = trained
    for model in trained:
        model.roi_heads.box_predictor.test_score_thresh = 0.0
    for want, got in zip(theirs(batch(9)), ours(batch(9)), strict=True):
        want, got = want["instances"], got["instances"]
        assert len(want) > 10
        assert torch.equal(want.pred_boxes.tensor, got.pred_boxes.tensor)
        assert torch.equal(want.scores, got.scores)
        assert torch.equal(want.pred_classes, got.pred_classes)
        assert want.pred_masks.any() and not want.pred_masks.all()
        assert (want.pred_masks == got.pred_masks).float().mean() > 0.9999
    features = ours.backbone(ours.preprocess_image(batch(9)).tensor)
    masks = []
    for model in trained:
        masks.append(model.roi_heads.mask_head(features, some_boxes())[0].pred_masks)
    assert masks[0].shape == masks[1].shape == (30, 1, 224, 224)
    assert 0.05 < (masks[0] > 0.5).float().mean() < 0.95
    assert (masks[0] - masks[1]).abs().median() < 1e-6
    assert ((masks[0] > 0.5) == (masks[1] > 0.5)).float().mean() > 0.9999


def some_boxes():
    """30 detections in the first of two images, none in the second."""
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(30, 2, 2, generator=generator).sort(dim=1).values
    some = Instances((96, 128))
    some.pred_boxes = Boxes((corners * torch.tensor([128.0, 96.0])).flatten(1))
    some.pred_classes = torch.randint(0, 5, (30,), generator=generator)
    none = Instances((80, 110))
    none.pred_boxes = Boxes(torch.zeros(0, 4))
    none.pred_classes = torch.zeros(0, dtype=torch.int64)
    return [some, none]
