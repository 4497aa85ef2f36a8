"""Mask R-CNN with Implicit PointRend as its mask head: one MLP per box, masks of 224 x 224."""

from detectron2.config import LazyCall as L

from pointrend_seg.config.detectron2_configs import get_config
from pointrend_seg.modeling.box_subdivision import BoxSubdivision
from pointrend_seg.modeling.coarse_mask_head import ConvFCHead
from pointrend_seg.modeling.implicit_head import ImplicitPointRendInstanceHead
from pointrend_seg.modeling.implicit_point_head import ImplicitPointMLP, parameter_shape
from pointrend_seg.modeling.readers import ReadSettings

model = get_config("common/models/mask_rcnn_fpn.py").model

model.roi_heads.update(
    mask_pooler=None,  # the head reads the feature maps itself
    # In this order: the same seed gives the weights of the YAML config.
    mask_head=L(ImplicitPointRendInstanceHead)(
        point_head=L(ImplicitPointMLP)(
            in_channels="${....backbone.out_channels}",
            num_classes="${...num_classes}",
            fc_dim=256,
            num_fc=3,
            image_feature_enabled=True,
            positional_encoding_enabled=True,
        ),
        parameter_head=L(ConvFCHead)(
            in_channels="${....backbone.out_channels}",
            pooler_size="${..reading.pooler_size}",
            conv_dim=256,
            fc_dims=[1024, 1024],
            output_shape=L(parameter_shape)(  # what the point head above needs of each box
                in_channels="${...point_head.in_channels}",
                num_classes="${...point_head.num_classes}",
                fc_dim="${...point_head.fc_dim}",
                num_fc="${...point_head.num_fc}",
                image_feature_enabled="${...point_head.image_feature_enabled}",
                positional_encoding_enabled="${...point_head.positional_encoding_enabled}",
            ),
        ),
        reading=L(ReadSettings)(point_strides={"p2": 4}, pooler_strides={"p2": 4}, pooler_size=14),
        subdivision=L(BoxSubdivision)(num_steps=3, num_points=28 * 28, mask_resolution=0),
        train_num_points=14 * 14,
    ),
)
