from pointrend_seg.config.detectron2_configs import get_config

from ..common.data.cityscapes_semantic import dataloader
from ..common.models.pointrend_semantic_fpn import model
from ..common.schedules import steps
from ..common.train import train

optimizer = get_config("common/optim.py").SGD
optimizer.lr = 0.01
lr_multiplier = steps(65000, at=[40000, 55000])

model.sem_seg_head.num_classes = 19
model.sem_seg_head.train_num_points = 2048
dataloader.train.total_batch_size = 32
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.max_iter = 65000
