"""Cascade R-CNN with PointRend as its mask head."""

from pointrend_seg.config.detectron2_configs import get_config

from .pointrend_rcnn_fpn import model as with_pointrend

model = get_config("common/models/cascade_rcnn.py").model
model.proposal_generator.post_nms_topk = (2000, 1000)
model.roi_heads.pop("mask_head")  # and to the end: box heads are made first, as by YAML configs
model.roi_heads.update(mask_pooler=None, mask_head=with_pointrend.roi_heads.mask_head)
