from pointrend_seg.config.detectron2_configs import get_config

from ..common.data.cityscapes_semantic import dataloader
from ..common.models.pointrend_deeplabv3 import model
from ..common.schedules import poly
from ..common.train import train

optimizer = get_config("common/optim.py").SGD
optimizer.lr = 0.01
lr_multiplier = poly(90000)

dataloader.train.mapper.image_format = "RGB"
del dataloader.train.mapper.augmentations[2]  # no colour jitter
dataloader.train.mapper.augmentations[1].single_category_max_area = 1.0
train.init_checkpoint = "detectron2://DeepLab/R-52.pkl"
train.max_iter = 90000
