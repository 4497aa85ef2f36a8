from ..common.models.cascade_pointrend_rcnn_fpn import model
from .pointrend_rcnn_R_50_FPN_3x_coco import dataloader, lr_multiplier, optimizer, train

model.backbone.bottom_up.freeze_at = 2
