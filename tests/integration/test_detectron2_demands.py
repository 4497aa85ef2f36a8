"""What Detectron2 demands of every instance model in its own tests, and its tools of any model."""

import copy
import io
import pickle

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from detectron2.utils.analysis import find_unused_parameters, flop_count_operators, parameter_count
from detectron2.utils.events import EventStorage

from mask_inputs import MASK_HEADS, batch, train_once
from small_configs import builtin_cfg, small_instance_cfg, small_semantic_cfg

kinds = pytest.mark.parametrize("kind", MASK_HEADS)


def instance_model(kind):
    torch.manual_seed(0)
    return build_model(small_instance_cfg(opts=MASK_HEADS[kind][0]))


def records(*sizes):
    return [{"image": torch.rand(3, *size) * 255} for size in sizes]


def nothing(height, width):
    """An image's ground truth without an object, as Detectron2's mappers make it."""
    masks, boxes = BitMasks(torch.zeros(0, height, width)), Boxes(torch.zeros(0, 4))
    classes = torch.zeros(0, dtype=torch.int64)
    return Instances((height, width), gt_boxes=boxes, gt_classes=classes, gt_masks=masks)


@kinds
def test_images_without_objects(kind):
    model, sizes = instance_model(kind).eval(), [(100, 125), (100, 124)]
    for output, size in zip(model(records(*sizes)), sizes, strict=True):
        assert output["instances"].pred_masks.shape[1:] == size
    inputs = [{**each, "instances": nothing(*each["image"].shape[1:])} for each in records(*sizes)]
    losses = train_once(model, inputs)
    assert losses["loss_mask_point"] == 0


@kinds
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_features_that_are_no_numbers(kind, value):
    heads = instance_model(kind).roi_heads.eval()
    maps = {f"p{k}": torch.full((1, 32, 2 ** (9 - k), 2 ** (9 - k)), value) for k in range(2, 7)}
    proposals = Instances((510, 510), proposal_boxes=Boxes([[10, 10, 20, 20]]))
    proposals.objectness_logits = torch.ones(1, 1)
    images = ImageList(torch.full((1, 3, 512, 512), value), [(510, 510)])
    assert len(heads(images, maps, [proposals])[0][0]) == 0


@kinds
def test_analysis(kind):
    model = instance_model(kind)
    theirs = build_model(builtin_cfg(*MASK_HEADS[kind][1], opts=MASK_HEADS[kind][0]))
    assert parameter_count(model) == parameter_count(theirs)
    flops = [
        flop_count_operators(each.eval(), records((128, 160)))["conv"] for each in (model, theirs)
    ]
    assert 0 < flops[0] <= flops[1]
    with EventStorage():
        unused = find_unused_parameters(model.train(), batch(0))
    assert not [name for name in unused if "mask_head" in name]


MODELS = {
    **{kind: lambda kind=kind: instance_model(kind) for kind in MASK_HEADS},
    "semantic": lambda: build_model(small_semantic_cfg()),
}


@torch.no_grad()
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_copies_pickles_and_files_of_models_predict_the_same(build):
    model, inputs, file = build().eval(), records((96, 128)), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    want = output_of(model, inputs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert torch.equal(output_of(other, inputs), want)


def output_of(model, inputs):
    (output,) = model(inputs)
    return output["sem_seg"] if "sem_seg" in output else output["instances"].pred_masks


@kinds
def test_a_model_is_copied_amid_training(kind):
    """As an average of weights does."""
    model = instance_model(kind)
    train_once(model, batch(0))
    train_once(copy.deepcopy(model), batch(1))
