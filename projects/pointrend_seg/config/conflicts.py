"""Values of a config that do not fit each other, in keys of Detectron2 for the most part."""

from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode

from .detectron2_keys import CHANNELS, CROPS
from .heads import may_train_from_points
from .tree import all_keys

_RESNETS = (
    *("build_resnet_backbone", "build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone"),
    "build_resnet_deeplab_backbone",
)


def find_conflicts(cfg: CfgNode) -> Iterator[str]:
    """Yield a sentence for each value that does not fit another key's, and would stop the run."""
    model, crop, solver = cfg.MODEL, cfg.INPUT.CROP, cfg.SOLVER
    channels = CHANNELS[cfg.INPUT.FORMAT]
    means, deviations = len(model.PIXEL_MEAN), len(model.PIXEL_STD)
    if means != deviations or channels not in (1, means):  # grey images fit any number
        yield (
            f"MODEL.PIXEL_MEAN has {means} number(s) and MODEL.PIXEL_STD {deviations}, but "
            f"INPUT.FORMAT {cfg.INPUT.FORMAT} has {channels} channel(s). Give one number for each."
        )
    for node in ("RPN", "ROI_HEADS", "RETINANET"):
        thresholds, labels = model[node].IOU_THRESHOLDS, model[node].IOU_LABELS
        if len(labels) != len(thresholds) + 1:
            yield (
                f"MODEL.{node}.IOU_LABELS has {len(labels)} labels, but {len(thresholds)} "
                f"threshold(s) in MODEL.{node}.IOU_THRESHOLDS make {len(thresholds) + 1} "
                "intervals. Give a label for each."
            )
    if model.BACKBONE.NAME in _RESNETS:
        yield from _resnet_conflicts(cfg)
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and (
        len(sizes) != 2 or sizes[0] > sizes[1] or any(size % 1 for size in sizes)
    ):
        yield (
            f"INPUT.MIN_SIZE_TRAIN is {sizes}, but INPUT.MIN_SIZE_TRAIN_SAMPLING 'range' takes "
            "two sizes, the smaller one first."
        )
    if crop.ENABLED:
        yield from crop_conflicts(crop)
    yield from _point_conflicts(cfg)
    tiles = cfg.TEST.get("TILES", {})
    if 0 < tiles.get("SIZE", 0) < 2 * tiles.get("OVERLAP", 0):
        yield (
            f"TEST.TILES.OVERLAP is {tiles.OVERLAP}, more than half of TEST.TILES.SIZE, "
            f"{tiles.SIZE}. Lower it, or take larger tiles."
        )
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.BASE_LR_END > solver.BASE_LR:
        yield (
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}, more than SOLVER.BASE_LR, "
            f"{solver.BASE_LR}. Lower it."
        )
    if solver.NESTEROV and not solver.MOMENTUM:
        yield "SOLVER.NESTEROV is True, which needs a SOLVER.MOMENTUM above 0."
    if solver.REFERENCE_WORLD_SIZE and solver.IMS_PER_BATCH % solver.REFERENCE_WORLD_SIZE:
        yield (
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, no multiple of SOLVER."
            f"REFERENCE_WORLD_SIZE, {solver.REFERENCE_WORLD_SIZE}. Change one of them."
        )
    if model.LOAD_PROPOSALS:
        for name in ("TRAIN", "TEST"):
            files, sets = cfg.DATASETS[f"PROPOSAL_FILES_{name}"], cfg.DATASETS[name]
            if len(files) != len(sets):
                yield (
                    f"MODEL.LOAD_PROPOSALS is True, and DATASETS.PROPOSAL_FILES_{name} has "
                    f"{len(files)} file(s) for {len(sets)} data set(s). Give one for each."
                )
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    needed = {
        "RandomSubsetTrainingSampler": "DATALOADER.RANDOM_SUBSET_RATIO",
        "WeightedTrainingSampler": "DATASETS.TRAIN_REPEAT_FACTOR",
        "WeightedCategoryTrainingSampler": "DATASETS.TRAIN_REPEAT_FACTOR",
    }.get(sampler)
    if needed and needed not in set(all_keys(cfg)):
        yield (
            f"DATALOADER.SAMPLER_TRAIN is {sampler}, which needs the key {needed}. This Detectron2 "
            "has no such key: add it, or choose 'TrainingSampler'."
        )


def _point_conflicts(cfg: CfgNode) -> Iterator[str]:
    """Yield a sentence where the keys of point supervision would have no effect or cannot be."""
    architecture = cfg.MODEL.META_ARCHITECTURE
    if cfg.INPUT.get("POINT_SUP") and architecture in ("SemanticSegmentor", "PanopticFPN"):
        yield (
            "INPUT.POINT_SUP is True, which trains the masks of objects, but "
            f"MODEL.META_ARCHITECTURE is {architecture}. Set it to False, or take an instance "
            "config."
        )
    if cfg.INPUT.get("POINT_SUP") and cfg.MODEL.MASK_ON and not may_train_from_points(cfg):
        yield (
            "INPUT.POINT_SUP is True, but MODEL.ROI_MASK_HEAD.NAME is "
            f"{cfg.MODEL.ROI_MASK_HEAD.NAME}, which needs full masks. Set it to "
            "PointSupMaskRCNNHead, or take a config of PointRendInstanceHead or "
            "ImplicitPointRendInstanceHead."
        )
    if cfg.INPUT.get("SAMPLE_POINTS") and not cfg.INPUT.get("POINT_SUP"):
        yield (
            f"INPUT.SAMPLE_POINTS is {cfg.INPUT.SAMPLE_POINTS}, but INPUT.POINT_SUP is False, so "
            "that no points are read. Set INPUT.POINT_SUP True, or INPUT.SAMPLE_POINTS 0."
        )


def crop_conflicts(crop: CfgNode) -> Iterator[str]:
    """Yield a sentence where the values in ``INPUT.CROP`` do not describe a random crop."""
    if crop.TYPE not in CROPS:
        yield (
            f"INPUT.CROP.TYPE is {crop.TYPE!r}; known are {', '.join(map(repr, CROPS[:-1]))} and "
            f"{CROPS[-1]!r}."
        )
    size, relative = tuple(crop.SIZE), crop.TYPE.startswith("relative")
    if relative:
        good, wanted = all(0 < side <= 1 for side in size), "fractions above 0 and up to 1"
    else:
        good = all(side >= 1 and side % 1 == 0 for side in size)
        wanted = "whole numbers of pixels"
    if crop.TYPE == "absolute_range":
        good, wanted = good and list(size) == sorted(size), f"{wanted}, the smaller one first"
    if len(size) != 2 or not good:
        yield f"INPUT.CROP.SIZE is {size}, but INPUT.CROP.TYPE {crop.TYPE!r} takes two {wanted}."


def _resnet_conflicts(cfg: CfgNode) -> Iterator[str]:
    """Yield what Detectron2's ResNets, and no other backbone, refuse."""
    nets = cfg.MODEL.RESNETS
    deeplab = "deeplab" in cfg.MODEL.BACKBONE.NAME
    choices: list[tuple[str, Any, tuple]] = [
        ("RESNETS.DEPTH", nets.DEPTH, (18, 34, 50, 101, 152)),
        ("RESNETS.RES5_DILATION", nets.RES5_DILATION, (1, 2, 4) if deeplab else (1, 2)),
        ("BACKBONE.FREEZE_AT", cfg.MODEL.BACKBONE.FREEZE_AT, (-1, 0, 1, 2, 3, 4, 5)),
    ]
    if deeplab:
        choices += [
            ("RESNETS.RES4_DILATION", nets.get("RES4_DILATION", 1), (1, 2)),
            ("RESNETS.STEM_TYPE", nets.get("STEM_TYPE", "basic"), ("basic", "deeplab")),
        ]
    for key, value, allowed in choices:
        if value not in allowed:
            shown = ", ".join(map(repr, allowed[:-1]))
            yield f"MODEL.{key} is {value!r}; it must be {shown} or {allowed[-1]!r}."
    outputs = ("stem", "res2", "res3", "res4", "res5")
    for key, names, known in (
        ("RESNETS.OUT_FEATURES", nets.OUT_FEATURES, outputs),
        ("FPN.IN_FEATURES", cfg.MODEL.FPN.IN_FEATURES, nets.OUT_FEATURES),
    ):
        is_used = key.startswith("RESNETS") or "fpn" in cfg.MODEL.BACKBONE.NAME
        if is_used and (not names or any(name not in known for name in names)):
            source = "" if known is outputs else " (MODEL.RESNETS.OUT_FEATURES)"
            yield (
                f"MODEL.{key} is {list(names)}; it must be one or more of {', '.join(known)}"
                f"{source}."
            )
