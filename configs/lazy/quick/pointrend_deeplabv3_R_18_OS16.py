"""The model of configs/quick/pointrend_deeplabv3_R_18_OS16.yaml: minutes on two CPU cores.

Data: tools/make_synthetic_data.py --layout cityscapes.
"""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.resnet import BasicStem, ResNet

from pointrend_seg.config.detectron2_configs import get_config

from ..common.data.cityscapes_semantic import dataloader
from ..common.models.pointrend_deeplabv3 import model
from ..common.schedules import poly
from ..common.train import train

optimizer = get_config("common/optim.py").SGD
lr_multiplier = poly(450, warmup_iters=50)

_pixels = get_config("common/data/constants.py").constants
model.pixel_mean = _pixels.imagenet_bgr256_mean
model.pixel_std = [57.375, 57.120, 58.395]
model.backbone = L(ResNet)(
    stem=L(BasicStem)(in_channels=3, out_channels=64, norm="BN"),
    stages=L(ResNet.make_default_stages)(depth=18, norm="BN"),
    out_features=["res3", "res4"],
    freeze_at=0,
)
_head = model.sem_seg_head
_head.coarse_head.input_shape = {"res4": {"channels": 256, "stride": 16}}
_head.coarse_head.cfg.INPUT.CROP.SIZE = [256, 256]
_head.coarse_head.cfg.MODEL.SEM_SEG_HEAD.update(
    IN_FEATURES=["res4"],
    CONVS_DIM=128,
    ASPP_CHANNELS=128,
    ASPP_DILATIONS=[2, 4, 6],
    ASPP_DROPOUT=0.0,
    LOSS_TYPE="cross_entropy",
)
_head.point_head.in_channels = 128
_head.update(train_points_per_height=4.0, subdivision_num_points=2048, coarse_loss_hardest=1.0)

_resize, _crop, _colors, _flip, _pad = dataloader.train.mapper.augmentations
_resize.update(short_edge_length=(256,), max_size=512)
_crop.update(crop_size=(256, 256), single_category_max_area=1.0)
_pad.size = (256, 256)
dataloader.test.mapper.augmentations[0].update(short_edge_length=256, max_size=512)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.num_workers = 1
optimizer.lr = 0.02
train.update(max_iter=450, device="cpu", seed=1, init_checkpoint="", eval_period=0)
train.checkpointer.period = 150
