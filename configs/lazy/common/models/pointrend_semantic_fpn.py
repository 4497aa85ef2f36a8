"""Semantic FPN (stride 4), refined by PointRend from p2."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import SemanticSegmentor
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from pointrend_seg.config.detectron2_configs import get_config
from pointrend_seg.modeling.point_heads import PointMLP
from pointrend_seg.modeling.readers import ReadSettings
from pointrend_seg.modeling.samplers import ImportancePointSampler
from pointrend_seg.modeling.semantic_head import PointRendSemanticHead

_rcnn = get_config("common/models/mask_rcnn_fpn.py").model

model = L(SemanticSegmentor)(
    backbone=_rcnn.backbone,
    sem_seg_head=L(PointRendSemanticHead)(
        # In this order: the same seed gives the weights of the YAML config.
        coarse_head=L(SemSegFPNHead)(
            input_shape={
                name: L(ShapeSpec)(stride=stride, channels="${.....backbone.out_channels}")
                for name, stride in {"p2": 4, "p3": 8, "p4": 16, "p5": 32}.items()
            },
            num_classes="${..num_classes}",
            conv_dims=128,
            common_stride=4,
            norm="GN",
            ignore_value="${..ignore_value}",
        ),
        point_head=L(PointMLP)(
            in_channels="${...backbone.out_channels}",
            num_classes="${..num_classes}",
            fc_dim=256,
            num_fc=3,
            coarse_pred_each_layer=False,
        ),
        point_sampler=L(ImportancePointSampler)(oversample_ratio=3, importance_sample_ratio=0.75),
        reading=L(ReadSettings)(point_strides={"p2": 4}, pooler_strides={}),
        num_classes=54,
        ignore_value=255,
        train_num_points=1024,
        subdivision_num_points=8192,
    ),
    pixel_mean=_rcnn.pixel_mean,
    pixel_std=_rcnn.pixel_std,
)
