"""DeepLabV3 with its own ResNet-50 at output stride 16, refined by PointRend from res3."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import SemanticSegmentor
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from detectron2.projects.deeplab.resnet import DeepLabStem
from detectron2.projects.deeplab.semantic_seg import DeepLabV3Head

from pointrend_seg.config.detectron2_configs import get_config
from pointrend_seg.modeling.point_heads import PointMLP
from pointrend_seg.modeling.readers import ReadSettings
from pointrend_seg.modeling.samplers import ImportancePointSampler
from pointrend_seg.modeling.semantic_head import PointRendSemanticHead

_pixels = get_config("common/data/constants.py").constants


def stages(blocks, dilation_of_res5=(2, 4, 8)):
    """Return the four stages of a ResNet whose last one is dilated, not strided."""
    found = []
    for number, count in enumerate(blocks):
        last = number == 3
        found.append(
            L(ResNet.make_stage)(
                block_class=BottleneckBlock,
                num_blocks=count,
                stride_per_block=[1 if number in (0, 3) else 2] + [1] * (count - 1),
                in_channels=128 if number == 0 else 128 * 2**number,
                out_channels=256 * 2**number,
                bottleneck_channels=64 * 2**number,
                stride_in_1x1=False,
                norm="${...stem.norm}",
                dilation_per_block=list(dilation_of_res5) if last else [1] * count,
            )
        )
    return found


model = L(SemanticSegmentor)(
    backbone=L(ResNet)(
        stem=L(DeepLabStem)(in_channels=3, out_channels=128, norm="SyncBN"),
        stages=stages([3, 4, 6, 3]),
        out_features=["res3", "res5"],
        freeze_at=0,
    ),
    sem_seg_head=L(PointRendSemanticHead)(
        # In this order: the same seed gives the weights of the YAML config.
        coarse_head=L(DeepLabV3Head)(
            # Detectron2's head takes no keywords but a config: these are the keys that it reads.
            cfg=dict(
                MODEL=dict(
                    SEM_SEG_HEAD=dict(
                        IN_FEATURES=["res5"],
                        NUM_CLASSES="${.....num_classes}",
                        IGNORE_VALUE="${.....ignore_value}",
                        COMMON_STRIDE=16,
                        NORM="${......backbone.stem.norm}",
                        CONVS_DIM=256,
                        ASPP_CHANNELS=256,
                        ASPP_DILATIONS=[6, 12, 18],
                        ASPP_DROPOUT=0.1,
                        USE_DEPTHWISE_SEPARABLE_CONV=False,
                        LOSS_TYPE="hard_pixel_mining",
                        LOSS_WEIGHT=1.0,
                    )
                ),
                # the training crop, over which ASPP pools; images in evaluation have any size
                INPUT=dict(CROP=dict(ENABLED=True, TYPE="absolute", SIZE=[512, 1024])),
            ),
            input_shape={"res5": L(ShapeSpec)(channels=2048, stride=16)},
        ),
        point_head=L(PointMLP)(
            in_channels=512,
            num_classes="${..num_classes}",
            fc_dim=256,
            num_fc=3,
            coarse_pred_each_layer=True,
        ),
        point_sampler=L(ImportancePointSampler)(oversample_ratio=3, importance_sample_ratio=0.75),
        reading=L(ReadSettings)(point_strides={"res3": 8}, pooler_strides={}),
        num_classes=19,
        ignore_value=255,
        train_points_per_height=1 / 16,
        subdivision_num_points=8096,
        coarse_loss_hardest=0.2,  # of a binary model, or one with class weights
    ),
    pixel_mean=_pixels.imagenet_rgb256_mean,
    pixel_std=_pixels.imagenet_rgb256_std,
)
