"""Class probabilities of the views of an image, against a direct computation."""

import weakref

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from pointrend_seg.errors import InputError
from pointrend_seg.structures.class_map import ClassMap
from pointrend_seg.test_time.model import AugmentedModel
from pointrend_seg.test_time.semantic import add_probabilities, to_logits
from small_configs import small_semantic_cfg

AUG = ("TEST.AUG.SCALES", (0.5, 1.0, 1.4), "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 256)


def image(height=70, width=93, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height // 7 + 1, width // 7 + 1, 3))
    smooth = Image.fromarray(noise.astype(np.uint8)).resize((width, height), Image.BICUBIC)
    return torch.from_numpy(np.array(smooth).transpose(2, 0, 1).copy())


def build(num_classes=5, *opts):
    torch.manual_seed(0)
    cfg = small_semantic_cfg(num_classes, (*AUG, *opts))
    model = build_model(cfg).eval()
    for layer in (model.sem_seg_head.point_head, model.sem_seg_head.coarse_sem_seg_head):
        for parameter in layer.parameters():  # else all classes are about as likely
            parameter.data *= 3
    return cfg, model


@torch.no_grad()
def direct(model, pixels, sizes, flips=(False, True)):
    """The mean probabilities, (C, H, W), by plain loops."""
    height, width = pixels.shape[1:]
    found = []
    for h, w in sizes:
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((w, h), Image.BILINEAR)
        for flip in flips:
            array = np.array(picture)[:, ::-1] if flip else np.array(picture)
            seen = torch.from_numpy(array.transpose(2, 0, 1).astype(np.float32))
            (output,) = model([{"image": seen, "height": height, "width": width}])
            logits = output["sem_seg"]
            logits = logits.flip(-1) if flip else logits
            found.append(logits.sigmoid() if len(logits) == 1 else logits.softmax(0))
    return torch.stack(found).mean(0)


def record(pixels):
    return {"image": pixels, "height": pixels.shape[1], "width": pixels.shape[2]}


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [5, 1])
def test_probabilities_are_averaged(num_classes):
    cfg, model = build(num_classes)
    (output,) = AugmentedModel(model, cfg)([record(image())])
    logits = output["sem_seg"]
    expected = direct(model, image(), [(32, 43), (64, 85), (90, 119)])
    got = logits.softmax(0) if num_classes > 1 else logits.sigmoid()
    assert logits.shape == (num_classes, 70, 93) and logits.dtype == torch.float32
    assert torch.allclose(got, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05  # there is something to compare
    classes = logits.argmax(0) if num_classes > 1 else logits[0] > 0
    wanted = expected.argmax(0) if num_classes > 1 else expected[0] > 0.5
    assert (classes == wanted).float().mean() > 0.999


@torch.no_grad()
def test_it_differs_from_one_run_and_from_one_without_mirroring():
    cfg, model = build()
    sizes = [(32, 43), (64, 85), (90, 119)]
    flipped, not_flipped = direct(model, image(), sizes), direct(model, image(), sizes, (False,))
    assert (flipped - not_flipped).abs().max() > 0.01
    cfg.TEST.AUG.FLIP = False
    (output,) = AugmentedModel(model, cfg)([record(image())])
    assert torch.allclose(output["sem_seg"].softmax(0), not_flipped, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_view_is_the_model_itself():
    cfg, model = build(5, "TEST.AUG.FLIP", False, "INPUT.MIN_SIZE_TEST", 0)
    cfg.TEST.AUG.SCALES = (1.0,)
    given = record(image())
    expected = model([{**given, "image": given["image"].float()}])[0]["sem_seg"]
    (output,) = AugmentedModel(model, cfg)([given])
    assert torch.allclose(output["sem_seg"].softmax(0), expected.softmax(0), rtol=0, atol=1e-6)


@torch.no_grad()
def test_mirroring_alone_makes_a_mirrored_image_a_mirrored_result():
    cfg, model = build()
    cfg.TEST.AUG.SCALES = (1.0,)
    augmented = AugmentedModel(model, cfg)
    one, other = augmented([record(image(64, 96)), record(image(64, 96).flip(2))])
    assert torch.allclose(one["sem_seg"], other["sem_seg"].flip(2), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 2), (1, 40), (40, 1), (300, 20)])
def test_images_of_any_size(size):
    cfg, model = build()
    (output,) = AugmentedModel(model, cfg)([record(image(*size))])
    assert output["sem_seg"].shape == (5, *size) and output["sem_seg"].isfinite().all()


@torch.no_grad()
def test_several_images_give_what_each_gives_alone():
    cfg, model = build()
    augmented = AugmentedModel(model, cfg)
    images = [record(image(50, 60)), record(image(70, 40, seed=1))]
    for together, each in zip(augmented(images), images, strict=True):
        assert torch.equal(together["sem_seg"], augmented([each])[0]["sem_seg"])


@torch.no_grad()
def test_one_view_is_in_memory_at_a_time():
    cfg, model = build()
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, inputs):
            assert len(inputs) == 1 and all(logits() is None for logits in seen)
            output = model(inputs)
            seen.append(weakref.ref(output[0]["sem_seg"]))
            return output

    AugmentedModel(Watched().eval(), cfg)([record(image())])
    assert len(seen) == 6


def test_probabilities_of_0_and_1_have_finite_logits():
    certain = torch.tensor([[[200.0, -200.0]], [[-200.0, 200.0]]])
    total = torch.zeros(2, 1, 2)
    add_probabilities(total, certain, is_flipped=True)
    assert total.tolist() == [[[0, 1]], [[1, 0]]]
    total_before = total.clone()
    logits = to_logits(total)
    assert logits.isfinite().all() and torch.allclose(logits.softmax(0), total_before)
    binary = torch.zeros(1, 1, 2)
    add_probabilities(binary, certain[:1], is_flipped=False)
    logits = to_logits(binary)
    assert logits.isfinite().all() and logits[0, 0, 0] > 16 and logits[0, 0, 1] < -16


@torch.no_grad()
def test_tiles_see_the_scales_of_the_image():
    """A tile that is as large as the image is the image; smaller ones give about its classes."""
    cfg, model = build(5, "INPUT.MIN_SIZE_TEST", 0, "TEST.TILES.SIZE", 128)
    given = image(120, 100)
    (whole,) = AugmentedModel(model, cfg)([record(given)])
    cfg.TEST.TILES.SIZE, cfg.TEST.TILES.OVERLAP = 96, 48
    (tiled,) = AugmentedModel(model, cfg)([record(given)])
    assert isinstance(tiled["sem_seg"], ClassMap)
    agree = torch.as_tensor(tiled["sem_seg"].classes.astype(int)) == whole["sem_seg"].argmax(0)
    assert agree.float().mean() > 0.9


def test_a_model_of_another_kind_is_refused():
    cfg, model = build()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    with pytest.raises(InputError, match="Test-time augmentation is for models of GeneralizedRCNN"):
        AugmentedModel(model, cfg)
