"""Panoptic FPN with PointRend in both branches."""

from detectron2.modeling import PanopticFPN

from .pointrend_rcnn_fpn import model
from .pointrend_semantic_fpn import model as with_labels

model._target_ = PanopticFPN
model.sem_seg_head = with_labels.sem_seg_head
model.sem_seg_head.update(num_classes=54, coarse_loss_weight=0.5, point_loss_weight=0.5)
model.sem_seg_head.coarse_head.loss_weight = 0.5
model.update(
    combine_overlap_thresh=0.5, combine_stuff_area_thresh=4096, combine_instances_score_thresh=0.5
)
