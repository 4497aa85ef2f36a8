"""Detectron2's own transformers, built from config keys: Swin, MViT and ViTDet.

Detectron2 has them for its Python configs only. They import parts of timm.
"""

from functools import partial

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    FPN,
    MViT,
    SimpleFeaturePyramid,
    SwinTransformer,
    ViT,
)
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from ...errors import InputError
from .image_backbone import with_fpn
from .timm_models import import_timm

_LAYER_NORM = partial(nn.LayerNorm, eps=1e-6)  # of published MViT and ViT models


@BACKBONE_REGISTRY.register()
def build_swin_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's Swin transformer, with an FPN over its maps ``p0`` to ``p3``."""
    import_timm()
    node = cfg.MODEL.SWIN
    if len(node.DEPTHS) != len(node.NUM_HEADS):
        raise InputError(
            f"MODEL.SWIN.DEPTHS has {len(node.DEPTHS)} stages and MODEL.SWIN.NUM_HEADS "
            f"{len(node.NUM_HEADS)}. Give one number for each stage in both."
        )
    for stage, heads in enumerate(node.NUM_HEADS):
        _check_heads("SWIN", node.EMBED_DIM * 2**stage, heads)
    frozen = cfg.MODEL.BACKBONE.FREEZE_AT
    net = SwinTransformer(
        in_chans=input_shape.channels,
        embed_dim=node.EMBED_DIM,
        depths=tuple(node.DEPTHS),
        num_heads=tuple(node.NUM_HEADS),
        window_size=node.WINDOW_SIZE,
        drop_path_rate=node.DROP_PATH,
        out_indices=tuple(range(len(node.DEPTHS))),
        frozen_stages=frozen if frozen > 0 else -1,
    )
    return with_fpn(cfg, net)


@BACKBONE_REGISTRY.register()
def build_mvit_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's MViTv2, with an FPN over its maps ``scale2`` to ``scale5``."""
    import_timm()
    _refuse_freezing(cfg)
    node = cfg.MODEL.MVIT
    last = list(node.LAST_BLOCK_INDEXES)
    if last != sorted(set(last)) or len(last) != 4 or last[-1] != node.DEPTH - 1:
        raise InputError(
            f"MODEL.MVIT.LAST_BLOCK_INDEXES is {last}: it must be the numbers of the last blocks "
            f"of four stages, from 0, and end with {node.DEPTH - 1} (MODEL.MVIT.DEPTH - 1)."
        )
    _check_heads("MVIT", node.EMBED_DIM, node.NUM_HEADS)
    net = MViT(
        in_chans=input_shape.channels,
        embed_dim=node.EMBED_DIM,
        depth=node.DEPTH,
        num_heads=node.NUM_HEADS,
        last_block_indexes=tuple(last),
        residual_pooling=True,
        drop_path_rate=node.DROP_PATH,
        norm_layer=_LAYER_NORM,
    )
    return with_fpn(cfg, net)


class AnySizePyramid(SimpleFeaturePyramid):
    """Detectron2's simple feature pyramid for images that are padded to whole cells alone.

    Detectron2's recipes pad to a square, and fail with images that are larger.
    """

    @property
    def size_divisibility(self) -> int:
        """The multiple that images are padded to."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """No square."""
        return {}


@BACKBONE_REGISTRY.register()
def build_vit_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SimpleFeaturePyramid:
    """Build ViTDet: a plain ViT and the simple feature pyramid, with the maps ``p2`` to ``p6``."""
    import_timm()
    _refuse_freezing(cfg)
    node = cfg.MODEL.VIT
    _check_heads("VIT", node.EMBED_DIM, node.NUM_HEADS)
    unknown = [number for number in node.WINDOW_BLOCK_INDEXES if number >= node.DEPTH]
    if unknown:
        raise InputError(
            f"MODEL.VIT.WINDOW_BLOCK_INDEXES names the block {unknown[0]}, but MODEL.VIT.DEPTH is "
            f"{node.DEPTH}: the last one is {node.DEPTH - 1}."
        )
    net = ViT(
        img_size=node.IMG_SIZE,
        patch_size=16,
        in_chans=input_shape.channels,
        embed_dim=node.EMBED_DIM,
        depth=node.DEPTH,
        num_heads=node.NUM_HEADS,
        drop_path_rate=node.DROP_PATH,
        window_size=node.WINDOW_SIZE,
        window_block_indexes=tuple(node.WINDOW_BLOCK_INDEXES),
        use_rel_pos=True,
        norm_layer=_LAYER_NORM,
    )
    return AnySizePyramid(
        net=net,
        in_feature="last_feat",
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        scale_factors=(4.0, 2.0, 1.0, 0.5),
        top_block=LastLevelMaxPool(),
        norm=cfg.MODEL.FPN.NORM,
    )


def _check_heads(node: str, width: int, heads: int) -> None:
    if width % heads:
        raise InputError(
            f"MODEL.{node}.NUM_HEADS: {width} channels (from MODEL.{node}.EMBED_DIM) cannot be "
            f"split among {heads} heads. Choose a number of heads that divides them."
        )


def _refuse_freezing(cfg: CfgNode) -> None:
    if cfg.MODEL.BACKBONE.FREEZE_AT > 0:
        raise InputError(
            f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}, but "
            f"{cfg.MODEL.BACKBONE.NAME} has no stages that can be frozen. Set it to 0."
        )
