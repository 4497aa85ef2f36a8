from pointrend_seg.config.detectron2_configs import get_config

from ..common.data.coco_instances import dataloader
from ..common.models.pointrend_rcnn_fpn import model
from ..common.train import train

optimizer = get_config("common/optim.py").SGD
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_3x

model.backbone.bottom_up.freeze_at = 2
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.max_iter = 270000
