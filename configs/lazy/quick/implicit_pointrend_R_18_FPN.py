"""The model of configs/quick/implicit_pointrend_R_18_FPN.yaml: trains in minutes on two CPU cores.

Data: tools/make_synthetic_data.py --layout coco.
"""

from ..common.models.implicit_pointrend_fpn import model
from ..common.models.small import make_small
from .pointrend_rcnn_R_18_FPN import dataloader, lr_multiplier, optimizer, train

make_small(model)
model.roi_heads.mask_head.point_head.update(fc_dim=32, num_fc=2)
model.roi_heads.mask_head.parameter_head.update(conv_dim=64, fc_dims=[256, 256])
