"""DeepLabV3+ with its own ResNet-101, refined by PointRend from res2."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.projects.deeplab.semantic_seg import DeepLabV3PlusHead

from pointrend_seg.modeling.readers import ReadSettings

from .pointrend_deeplabv3 import model, stages

model.backbone.stages = stages([3, 4, 23, 3])
model.backbone.out_features = ["res2", "res5"]
model.sem_seg_head.update(
    coarse_head=L(DeepLabV3PlusHead)(
        input_shape={
            "res2": L(ShapeSpec)(channels=256, stride=4),
            "res5": L(ShapeSpec)(channels=2048, stride=16),
        },
        project_channels=[48],
        aspp_dilations=[6, 12, 18],
        aspp_dropout=0.1,
        decoder_channels=[256, 256],
        common_stride=4,
        norm="${...backbone.stem.norm}",
        train_size=[512, 1024],
        loss_type="hard_pixel_mining",
        ignore_value="${..ignore_value}",
        num_classes="${..num_classes}",
    ),
    reading=L(ReadSettings)(point_strides={"res2": 4}, pooler_strides={}),
    train_num_points=2048,
    train_points_per_height=0.0,
    subdivision_num_points=8192,
)
model.sem_seg_head.point_head.in_channels = 256
