"""Models that leave masks in their boxes, for evaluators that encode them from there.

Detectron2 pastes each mask into an image of its own, N x H x W for N of them, of which an
evaluator keeps the run lengths. `encode_region_masks` gets these without the images.
"""

from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances, ROIMasks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .point_heads import is_untouched


class RoiMaskModel(nn.Module):
    """A `GeneralizedRCNN` in evaluation, but with ``pred_masks`` as `ROIMasks` of the boxes."""

    def __init__(self, model: nn.Module):
        """Wrap a model that `suits`."""
        super().__init__()
        self.model: Any = _unwrapped(model)
        self.training = model.training  # which the evaluation loop restores at its end

    @staticmethod
    def suits(model: nn.Module, evaluators: list[DatasetEvaluator]) -> bool:
        """Tell whether nothing else changes: the forward pass, evaluators that want bit masks.

        Evaluators say that they take `ROIMasks` by an attribute ``takes_roi_masks``.
        """
        takers = all(getattr(evaluator, "takes_roi_masks", False) for evaluator in evaluators)
        model = _unwrapped(model)
        return type(model) is GeneralizedRCNN and is_untouched(model) and takers

    def forward(self, inputs: list[dict]) -> list[dict]:
        """Run the model; outputs are those of the model in evaluation but for the masks' type."""
        results = self.model.inference(inputs, do_postprocess=False)
        outputs = []
        for record, instances in zip(inputs, results, strict=True):
            height, width = instances.image_size
            size = record.get("height", height), record.get("width", width)
            outputs.append({"instances": to_output_size(instances, *size)})
        return outputs


def _unwrapped(model: nn.Module) -> nn.Module:
    """Take away the wrapper for several processes, which only hands on in evaluation."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def to_output_size(instances: Instances, height: int, width: int) -> Instances:
    """Scale and clip boxes as Detectron2's `detector_postprocess`, without pasting masks.

    Args:
        instances: of one image, with ``pred_boxes`` in the image that the model saw, and N x 1 x
            M x M ``pred_masks`` if there are any. Changed in place, as by `detector_postprocess`.
        height, width: of the output.

    Returns:
        those whose boxes are not empty, with ``pred_masks`` as `ROIMasks`.
    """
    if not instances.has("pred_masks"):
        return detector_postprocess(instances, height, width)
    masks = instances.pred_masks
    instances.remove("pred_masks")
    # Picking from the masks would copy them all, and mostly every one is kept.
    instances.mask_numbers = torch.arange(len(masks), device=masks.device)
    instances = detector_postprocess(instances, height, width)
    kept = instances.mask_numbers
    instances.remove("mask_numbers")
    masks = masks if len(kept) == len(masks) else masks[kept]
    instances.pred_masks = masks if isinstance(masks, ROIMasks) else ROIMasks(masks[:, 0])
    return instances
