"""The model of configs/quick/pointrend_panoptic_R_18_FPN.yaml: trains in minutes on two CPU cores.

Data: tools/make_synthetic_data.py --layout coco.
"""

from ..common.data.coco_panoptic import dataloader
from ..common.models.pointrend_panoptic_fpn import model
from ..common.models.small import make_small
from .pointrend_rcnn_R_18_FPN import lr_multiplier, optimizer, train

make_small(model)
model.combine_stuff_area_thresh = 256  # of images of 256 pixels a side, not 800
model.roi_heads.mask_head.point_head.fc_dim = 128
model.roi_heads.mask_head.coarse_head.update(conv_dim=64, fc_dims=[256, 256])
model.sem_seg_head.update(num_classes=6, subdivision_num_points=2048)
model.sem_seg_head.coarse_head.update(conv_dims=64, norm="BN")
model.sem_seg_head.point_head.fc_dim = 128

dataloader.train.dataset.names = "synthetic_panoptic_train"
dataloader.test.dataset.names = "synthetic_panoptic_val"
dataloader.train.mapper.augmentations[0].update(short_edge_length=(256,), max_size=384)
dataloader.test.mapper.augmentations[0].update(short_edge_length=256, max_size=384)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.num_workers = 1
