"""Make the cases of training: one step of each head, from the features to all gradients."""

from collections.abc import Callable
from functools import partial

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn import functional as F

from ..structures.shared_masks import SharedMasks
from .measurement import Case
from .setting import Setting, instance_pair, random_boxes, semantic_pair

IMAGE = (800, 1216)
NUM_IMAGES = 2


# The losses by name, and the gradients of the features and of all parameters.
Step = tuple[dict[str, float], tuple[Tensor, ...]]


def training_agreement(ours: Step, builtin: Step) -> dict[str, float]:
    """Compare steps: the largest relative difference of a loss, and of a gradient."""
    losses = [abs(ours[0][name] - loss) / abs(loss) for name, loss in builtin[0].items()]
    pairs = zip(ours[1], builtin[1], strict=True)
    gradients = [((a - b).norm() / b.norm().clamp(min=1e-12)).item() for a, b in pairs]
    return {"loss difference": max(losses), "gradient difference": max(gradients)}


def _step(
    head: nn.Module,
    setting: Setting,
    features: dict[str, Tensor],
    losses: Callable[[], dict[str, Tensor]],
) -> Step:
    """Compute losses and their gradients."""
    torch.manual_seed(setting.seed)  # the same points for both
    inputs = [*(each.requires_grad_() for each in features.values()), *head.parameters()]
    with EventStorage(), setting.autocast():
        found = losses()
    gradients = torch.autograd.grad(torch.stack([*found.values()]).sum(), inputs)
    return {name: loss.item() for name, loss in found.items()}, gradients


def instance_training(
    setting: Setting,
    *,
    num_boxes: int = 128,
    num_objects: int = 10,
    num_classes: int = 80,
    image: tuple[int, int] = IMAGE,
) -> Case:
    """Make the case of the mask head on two images.

    It includes selecting the masks of the proposals from those of the objects, which Detectron2
    does when it samples proposals.

    Args:
        num_boxes: foreground proposals of each image.
        num_objects: labelled objects of each image.
    """
    generator = setting.generator()
    (ours, builtin), strides = instance_pair(setting, num_classes)
    features = setting.features(strides, image, generator, NUM_IMAGES)
    images = []
    for _ in range(NUM_IMAGES):
        smallest = min(image) // 8
        objects = random_boxes(num_objects, image, generator, smallest)
        owner = torch.randint(0, num_objects, (num_boxes,), generator=generator)
        shifts = smallest / 12 * torch.randn(num_boxes, 4, generator=generator)
        boxes = Boxes(objects[owner] + shifts)
        boxes.clip(image)
        proposals = Instances(image, proposal_boxes=boxes, gt_classes=owner * 7 % num_classes)
        images.append((proposals.to(setting.device), _blobs(num_objects, image, generator), owner))

    def step(head: nn.Module, make_masks: Callable[[Tensor], BitMasks]) -> Callable[[], Step]:
        truth = [make_masks(bits.to(setting.device)) for _, bits, _ in images]

        def losses() -> dict[str, Tensor]:
            batch = []
            for (proposals, _, owner), masks in zip(images, truth, strict=True):
                each = Instances(image, **proposals.get_fields())
                each.gt_masks = masks[owner.to(setting.device)]
                batch.append(each)
            return head(features, batch)

        return partial(_step, head, setting, features, losses)

    return Case(step(ours, SharedMasks), step(builtin, BitMasks), training_agreement)


def _blobs(number: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw masks (number, H, W) bool with round outlines."""
    coarse = torch.randn(number, 1, 8, 12, generator=generator)
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)[:, 0] > 0


def semantic_training(
    setting: Setting,
    *,
    image: tuple[int, int] = IMAGE,
    num_classes: int = 19,
    num_points: int = 2048,
) -> Case:
    """Make the case of the semantic head, with its coarse head, on two images."""
    generator = setting.generator()
    (ours, builtin), strides = semantic_pair(setting, num_classes, num_points)
    features = setting.features(strides, image, generator, NUM_IMAGES)
    labels = torch.randint(0, num_classes, (NUM_IMAGES, 8, 12), generator=generator)
    labels = F.interpolate(labels[:, None].float(), size=image)[:, 0].long().to(setting.device)

    def step(head: nn.Module) -> Step:
        return _step(head, setting, features, lambda: head(features, labels)[1])

    return Case(partial(step, ours), partial(step, builtin), training_agreement)
