"""The model of configs/quick/pointrend_rcnn_R_18_FPN.yaml: trains in minutes on two CPU cores.

Data: tools/make_synthetic_data.py --layout coco.
"""

from pointrend_seg.config.detectron2_configs import get_config

from ..common.data.coco_instances import dataloader
from ..common.models.pointrend_rcnn_fpn import model
from ..common.models.small import make_small
from ..common.schedules import steps
from ..common.train import train

optimizer = get_config("common/optim.py").SGD
lr_multiplier = steps(350, at=[260, 320], warmup_iters=50)

make_small(model)
model.roi_heads.mask_head.point_head.fc_dim = 128
model.roi_heads.mask_head.coarse_head.update(conv_dim=64, fc_dims=[256, 256])

dataloader.train.dataset.names = "synthetic_instances_train"
dataloader.test.dataset.names = "synthetic_instances_val"
dataloader.train.mapper.augmentations[0].update(short_edge_length=(256,), max_size=384)
dataloader.test.mapper.augmentations[0].update(short_edge_length=256, max_size=384)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.num_workers = 1
train.update(max_iter=350, device="cpu", seed=1, init_checkpoint="", eval_period=0)
train.checkpointer.period = 100
