"""Make the cases of inference: the mask head, the semantic head, a whole model."""

from functools import partial
from typing import Any

import torch
from detectron2.model_zoo import get_config
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from .measurement import Case
from .setting import (
    Setting,
    instance_cfg,
    instance_pair,
    pair,
    random_boxes,
    semantic_pair,
    smooth_noise,
    wake_up,
)

IMAGE = (800, 1216)
STREET = (1024, 2048)


def mask_agreement(ours: Tensor, builtin: Tensor) -> dict[str, float]:
    """Compare probabilities: share of equal pixels after the threshold, median difference."""
    return {
        "equal": ((ours > 0.5) == (builtin > 0.5)).float().mean().item(),
        "median difference": (ours - builtin).abs().float().median().item(),
    }


def label_agreement(ours: Tensor, builtin: Tensor) -> dict[str, float]:
    """Compare logits (N, C, H, W): share of pixels of equal class, median difference."""
    return {
        "equal": (ours.argmax(1) == builtin.argmax(1)).float().mean().item(),
        "median difference": (ours - builtin).abs().float().median().item(),
    }


def instance_inference(
    setting: Setting,
    *,
    num_boxes: int,
    num_classes: int,
    image: tuple[int, int] = IMAGE,
) -> Case:
    """Make the case of the mask head on the boxes of an image: from features to probabilities."""
    generator = setting.generator()
    (ours, builtin), strides = instance_pair(setting, num_classes)
    features = setting.features(strides, image, generator)
    boxes = random_boxes(num_boxes, image, generator).to(setting.device)
    classes = torch.randint(0, num_classes, (num_boxes,), generator=generator).to(setting.device)

    @torch.no_grad()
    def run(head: nn.Module) -> Tensor:
        found = Instances(image, pred_boxes=Boxes(boxes), pred_classes=classes)
        with setting.autocast():
            return head.eval()(features, [found])[0].pred_masks

    # Logits of all classes at full size, those of the step before, and a copy of both.
    builtin_bytes = int(2.5 * num_boxes * num_classes * 224 * 224 * 4)
    return Case(partial(run, ours), partial(run, builtin), mask_agreement, builtin_bytes)


def semantic_inference(
    setting: Setting,
    *,
    with_coarse: bool,
    image: tuple[int, int] = STREET,
    num_classes: int = 19,
    num_points: int = 8192,
) -> Case:
    """Make the case of the semantic head on one image: two subdivision steps from stride 4.

    Args:
        with_coarse: run the coarse head; False: its logits are given.
    """
    (ours, builtin), strides = semantic_pair(setting, num_classes, num_points)
    logits = smooth_noise(setting, num_classes, image[0] // 4, image[1] // 4)
    features = setting.features(strides, image, setting.generator())
    for head in (ours, builtin):
        coarse_head: Any = head.get_submodule("coarse_sem_seg_head")
        if with_coarse:
            coarse_head.predictor.weight.data *= 100  # fresh weights predict almost 0
        else:
            coarse_head.layers = lambda features: logits

    @torch.no_grad()
    def run(head: nn.Module) -> Tensor:
        with setting.autocast():
            return head.eval()(features, None)[0]

    return Case(partial(run, ours), partial(run, builtin), label_agreement)


def model_inference(
    setting: Setting, *, size: tuple[int, int] = IMAGE, num_detections: int = 100
) -> Case:
    """Make the case of an R50-FPN model on one image, from the image to masks in their boxes."""
    cfg = instance_cfg(setting.device, num_classes=80)
    base = get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml").MODEL
    for node in (
        "BACKBONE",
        "RESNETS",
        "FPN",
        "ANCHOR_GENERATOR",
        "RPN",
        "ROI_HEADS",
        "ROI_BOX_HEAD",
    ):
        cfg.MODEL[node] = base[node]
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = num_detections
    ours, builtin = pair(build_model, cfg, setting)
    image = torch.rand(3, *size, generator=setting.generator()) * 255
    _calibrate(builtin, image)
    ours.load_state_dict(builtin.state_dict())
    for model in (ours, builtin):
        wake_up(model.get_submodule("roi_heads.mask_head"))

    @torch.no_grad()
    def run(model: GeneralizedRCNN) -> Tensor:
        with setting.autocast():
            found = model.eval().inference([{"image": image}], do_postprocess=False)
        return found[0].pred_masks

    return Case(partial(run, ours), partial(run, builtin), mask_agreement)


def _calibrate(model: GeneralizedRCNN, image: Tensor) -> None:
    """Set the statistics of the norms; otherwise features of random weights grow without bound."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        model.backbone(model.preprocess_image([{"image": image}]).tensor)
    model.eval()
