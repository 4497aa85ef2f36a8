from ..common.models.pointrend_deeplabv3plus import model
from .pointrend_deeplabv3_R_50_OS16_cityscapes import dataloader, lr_multiplier, optimizer, train

train.init_checkpoint = "detectron2://DeepLab/R-103.pkl"
