"""Find objects in all views of an image, and average their masks, as Detectron2 does.

Every view is seen twice: for boxes, of which those of all views compete by score, and for the masks
of the boxes that are left.

Shapes:
    N: detections of all views, R: of them those that are kept, M: side of a mask
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..modeling.roi_mask_model import to_output_size
from .views import View, views

_LEAST_SCORE = 1e-8  # the model's own threshold has sorted detections out


class InstanceViews(nn.Module):
    """A `GeneralizedRCNN` whose detections are those of all views of an image.

    ``pred_masks`` are `ROIMasks`: the mean probabilities in the frames of the boxes.
    """

    def __init__(self, model: GeneralizedRCNN, cfg: CfgNode, *, flip: bool):
        """
        Args:
            model: in evaluation mode.
            cfg: of the model.
            flip: whether each size is also shown mirrored.
        """
        super().__init__()
        self.model = model
        self.flip = flip
        self.num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        self.nms_threshold = cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST
        # by this name, `raised_limits` finds it
        self.max_detections_per_image = cfg.TEST.DETECTIONS_PER_IMAGE
        self.training = model.training

    def forward(self, records: list[dict]) -> list[dict]:
        """Run the model on all views of each image, one at a time.

        Args:
            records: as `views` takes them.
        """
        return [{"instances": self._detect(record)} for record in records]

    def _detect(self, record: dict) -> Instances:
        height, width = record["height"], record["width"]
        found = self._merge(self._boxes(record), height, width)
        if getattr(self.model.roi_heads, "mask_on", False):
            found.pred_masks = self._masks(record, found)
        return to_output_size(found, height, width)

    def _boxes(self, record: dict) -> list[Instances]:
        """Return the detections in each view, with boxes in pixels of the image."""
        parts = []
        with _no_masks(self.model.roi_heads):
            for view in views(record, flip=self.flip):
                (part,) = self.model.inference([view.inputs], do_postprocess=False)
                boxes = part.pred_boxes.tensor.float()
                parts.append(
                    Instances(
                        (record["height"], record["width"]),
                        pred_boxes=Boxes(_to_image(boxes, view)),
                        scores=part.scores,
                        pred_classes=part.pred_classes,
                    )
                )
        return parts

    def _merge(self, parts: list[Instances], height: int, width: int) -> Instances:
        """Keep the detections of all views that non-maximum suppression leaves."""
        found = Instances.cat(parts)
        scores = found.scores.new_zeros(len(found), self.num_classes + 1)  # background is last
        scores[torch.arange(len(found), device=scores.device), found.pred_classes] = found.scores
        merged, _ = fast_rcnn_inference_single_image(
            found.pred_boxes.tensor,
            scores,
            (height, width),
            _LEAST_SCORE,
            self.nms_threshold,
            self.max_detections_per_image,
        )
        return merged

    def _masks(self, record: dict, found: Instances) -> Any:
        """Return the mean masks of R boxes: (R, 1, M, M), or `BoxMasks`."""
        total: Any = None
        count = 0
        # The largest come first, so that masks which are as fine as the box get no finer.
        for view in views(record, flip=self.flip, largest_first=True):
            given = Instances(
                tuple(view.inputs["image"].shape[1:]),
                pred_boxes=Boxes(_to_view(found.pred_boxes.tensor, view)),
                pred_classes=found.pred_classes,
                scores=found.scores,
            )
            (output,) = self.model.inference([view.inputs], [given], do_postprocess=False)
            masks = output.pred_masks.flip([3]) if view.is_flipped else output.pred_masks
            total = masks if total is None else total + masks
            count += 1
            if not len(found):  # one run tells what the masks of no box look like
                break
        return total / count


@contextlib.contextmanager
def _no_masks(roi_heads: Any) -> Iterator[None]:
    """Turn the mask head off for a while."""
    was_on = getattr(roi_heads, "mask_on", None)
    if was_on is not None:
        roi_heads.mask_on = False
    try:
        yield
    finally:
        if was_on is not None:
            roi_heads.mask_on = was_on


def _scales(view: View, boxes: Tensor) -> Tensor:
    """Return by what boxes in the image are multiplied to be in the view."""
    height, width = view.inputs["image"].shape[1:]
    scales = width / view.inputs["width"], height / view.inputs["height"]
    return boxes.new_tensor(scales * 2)


def _to_view(boxes: Tensor, view: View) -> Tensor:
    boxes = boxes * _scales(view, boxes)
    return _mirrored(boxes, view) if view.is_flipped else boxes


def _to_image(boxes: Tensor, view: View) -> Tensor:
    boxes = _mirrored(boxes, view) if view.is_flipped else boxes
    return boxes / _scales(view, boxes)


def _mirrored(boxes: Tensor, view: View) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(1)
    width = view.inputs["image"].shape[2]
    return torch.stack([width - x1, y0, width - x0, y1], 1)
