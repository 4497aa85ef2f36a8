"""Mask R-CNN with PointRend as its mask head: coarse masks of 7 x 7, refined to 224 x 224."""

from detectron2.config import LazyCall as L

from pointrend_seg.config.detectron2_configs import get_config
from pointrend_seg.modeling.box_subdivision import BoxSubdivision
from pointrend_seg.modeling.coarse_mask_head import ConvFCHead
from pointrend_seg.modeling.instance_head import PointRendInstanceHead
from pointrend_seg.modeling.point_heads import PointMLP
from pointrend_seg.modeling.readers import ReadSettings
from pointrend_seg.modeling.samplers import ImportancePointSampler

model = get_config("common/models/mask_rcnn_fpn.py").model

model.roi_heads.update(
    train_on_pred_boxes=True,
    mask_pooler=None,  # the head reads the feature maps itself
    # In this order: the same seed gives the weights of the YAML config.
    mask_head=L(PointRendInstanceHead)(
        point_head=L(PointMLP)(
            in_channels="${....backbone.out_channels}",
            num_classes="${...num_classes}",
            fc_dim=256,
            num_fc=3,
            coarse_pred_each_layer=True,
        ),
        coarse_head=L(ConvFCHead)(
            in_channels="${....backbone.out_channels}",
            pooler_size="${..reading.pooler_size}",
            conv_dim=256,
            fc_dims=[1024, 1024],
            output_shape=["${....num_classes}", 7, 7],
        ),
        point_sampler=L(ImportancePointSampler)(oversample_ratio=3, importance_sample_ratio=0.75),
        reading=L(ReadSettings)(point_strides={"p2": 4}, pooler_strides={"p2": 4}, pooler_size=14),
        subdivision=L(BoxSubdivision)(num_steps=5, num_points=28 * 28, mask_resolution=0),
        train_num_points=14 * 14,
    ),
)
