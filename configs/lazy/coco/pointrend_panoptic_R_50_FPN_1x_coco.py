from ..common.data.coco_panoptic import dataloader
from ..common.models.pointrend_panoptic_fpn import model
from .pointrend_rcnn_R_50_FPN_1x_coco import lr_multiplier, optimizer, train

model.backbone.bottom_up.freeze_at = 2
