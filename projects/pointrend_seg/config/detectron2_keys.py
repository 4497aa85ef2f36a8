"""The values that Detectron2's own config keys may have, in the same kind of table as ours.

Detectron2 checks few of them, and late. What it accepts and works with is allowed. Keys without a
rule have the type of their default.
"""

import math
from functools import cache
from typing import Any

from detectron2.config import CfgNode, get_cfg

from .keys import DEEPEST, LARGEST_SIDE, WIDEST, Key
from .tree import all_keys, value_of

_SOME = (1, math.inf)  # a length
_COUNT = {"least": 1}
_AMOUNT = {"least": 0}
_SHARE = {"least": 0, "most": 1}
_WIDTH = {"least": 1, "most": WIDEST}
_DEPTH = {"least": 0, "most": DEEPEST}
_SIDE = {"least": 1, "most": LARGEST_SIDE}
_POOLER = {"least": 1, "most": 1024}
_SAMPLING = {"least": 0, "most": 64}
_NAME = {"lengths": _SOME}
_FEATURES = {"kind": str, "lengths": _SOME}
_NORM = {
    "choices": (
        *("", "BN", "SyncBN", "FrozenBN", "GN", "LN"),
        *("nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"),
    )
}
_POOLER_TYPES = ("ROIAlign", "ROIAlignV2", "ROIPool", "ROIAlignRotated")
_BOX_LOSS = {"choices": ("smooth_l1", "giou", "diou", "ciou")}
_BOX_WEIGHTS = {"above": 0, "lengths": (4, 5)}  # 5 of rotated boxes
_DATASETS = {"kind": str, "test": all, "words": "a list of names of data sets"}
CROPS = ("relative", "relative_range", "absolute", "absolute_range")
# Channels of an image by INPUT.FORMAT: what Pillow converts to, and what Detectron2 adds.
CHANNELS = {
    **dict.fromkeys(("BGR", "RGB", "YUV-BT.601", "HSV", "LAB", "YCbCr"), 3),
    **dict.fromkeys(("L", "F", "I"), 1),
    **dict.fromkeys(("RGBA", "CMYK"), 4),
}


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _rows_of(value: Any, is_good: Any = _is_number) -> bool:
    """Tell whether a value is a list of good numbers, or of such lists; none is empty."""
    rows = [row if isinstance(row, list | tuple) else [row] for row in value]
    return bool(rows) and all(row and all(map(is_good, row)) for row in rows)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_ascending(values: Any) -> bool:
    return list(values) == sorted(values)


def _thresholds(**more: Any) -> dict:
    words = "a list of one or more numbers above 0 and up to 1, in ascending order"
    return {"above": 0, "most": 1, "lengths": _SOME, "test": _is_ascending, "words": words, **more}


_LABELS = {"choices": (-1, 0, 1), "lengths": (2, math.inf)}
_ROWS_OF_POSITIVE = {
    "test": lambda value: _rows_of(value, _is_positive),
    "words": "a list of numbers above 0, or of such lists, one for each feature map",
}


def _are_results(value: Any) -> bool:
    """Tell whether a value is what `verify_results` of Detectron2 compares with."""
    return all(
        isinstance(row, list | tuple)
        and len(row) == 4
        and all(isinstance(name, str) for name in row[:2])
        and all(map(_is_number, row[2:]))
        for row in value
    )


_RULES: dict[str, dict[str, Any]] = {
    "MODEL.META_ARCHITECTURE": _NAME,
    "MODEL.DEVICE": _NAME,
    "MODEL.PIXEL_MEAN": {"lengths": (1, 4)},
    "MODEL.PIXEL_STD": {"above": 0, "lengths": (1, 4)},
    "MODEL.BACKBONE.NAME": _NAME,
    "MODEL.FPN.IN_FEATURES": {"kind": str},
    "MODEL.FPN.OUT_CHANNELS": _WIDTH,
    "MODEL.FPN.NORM": _NORM,
    "MODEL.FPN.FUSE_TYPE": {"choices": ("sum", "avg")},
    "MODEL.PROPOSAL_GENERATOR.NAME": _NAME,
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": _AMOUNT,
    "MODEL.ANCHOR_GENERATOR.NAME": _NAME,
    "MODEL.ANCHOR_GENERATOR.SIZES": _ROWS_OF_POSITIVE,
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": _ROWS_OF_POSITIVE,
    "MODEL.ANCHOR_GENERATOR.ANGLES": {
        "test": _rows_of,
        "words": "a list of numbers, or of such lists, one for each feature map",
    },
    "MODEL.ANCHOR_GENERATOR.OFFSET": {"least": 0, "below": 1},
    "MODEL.RPN.HEAD_NAME": _NAME,
    "MODEL.RPN.IN_FEATURES": _FEATURES,
    "MODEL.RPN.IOU_THRESHOLDS": _thresholds(),
    "MODEL.RPN.IOU_LABELS": _LABELS,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.RPN.POSITIVE_FRACTION": _SHARE,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": _AMOUNT,
    "MODEL.RPN.BBOX_REG_WEIGHTS": _BOX_WEIGHTS,
    "MODEL.RPN.SMOOTH_L1_BETA": _AMOUNT,
    "MODEL.RPN.LOSS_WEIGHT": _AMOUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _COUNT,
    "MODEL.RPN.NMS_THRESH": _SHARE,
    "MODEL.RPN.CONV_DIMS": {"least": 1, "also": (-1,), "most": WIDEST, "lengths": _SOME},
    "MODEL.ROI_HEADS.NAME": _NAME,
    "MODEL.ROI_HEADS.NUM_CLASSES": _WIDTH,
    "MODEL.ROI_HEADS.IN_FEATURES": _FEATURES,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": _thresholds(),
    "MODEL.ROI_HEADS.IOU_LABELS": _LABELS,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _COUNT,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": {},  # below 0 keeps all, above 1 none
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _SHARE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": _AMOUNT,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": _BOX_WEIGHTS,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": _AMOUNT,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": _POOLER,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": _SAMPLING,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": {"choices": _POOLER_TYPES},
    "MODEL.ROI_BOX_HEAD.NUM_FC": _DEPTH,
    "MODEL.ROI_BOX_HEAD.FC_DIM": _WIDTH,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": _DEPTH,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": _WIDTH,
    "MODEL.ROI_BOX_HEAD.NORM": _NORM,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": _AMOUNT,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": _COUNT,
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": {
        "test": lambda value: (
            _rows_of(value, _is_positive)
            and all(isinstance(row, list | tuple) and len(row) in (4, 5) for row in value)
        ),
        "words": "a list of lists of 4 numbers above 0, one for each stage",
    },
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": {"above": 0, "most": 1, "lengths": _SOME},
    "MODEL.ROI_MASK_HEAD.NAME": _NAME,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": _POOLER,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": _SAMPLING,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": _DEPTH,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": _WIDTH,
    "MODEL.ROI_MASK_HEAD.NORM": _NORM,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": {"choices": ("", *_POOLER_TYPES)},
    "MODEL.ROI_KEYPOINT_HEAD.NAME": _NAME,
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION": _POOLER,
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO": _SAMPLING,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": _WIDTH,
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": _WIDTH,
    "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE": _AMOUNT,
    "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT": _AMOUNT,
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": {"choices": _POOLER_TYPES},
    "MODEL.SEM_SEG_HEAD.NAME": _NAME,
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": _FEATURES,
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": {"least": -1, "most": 2**31 - 1},
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": _WIDTH,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": _WIDTH,
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": {"least": 1, "most": 1024},
    "MODEL.SEM_SEG_HEAD.NORM": _NORM,
    "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT": _AMOUNT,
    "MODEL.SEM_SEG_HEAD.LOSS_TYPE": {"choices": ("cross_entropy", "hard_pixel_mining")},
    "MODEL.SEM_SEG_HEAD.PROJECT_FEATURES": {"kind": str},
    "MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS": _WIDTH,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": _WIDTH,
    "MODEL.SEM_SEG_HEAD.ASPP_DILATIONS": {"least": 1, "most": 1024, "lengths": (3, 3)},
    "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT": _SHARE,
    "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT": _AMOUNT,
    "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH": _SHARE,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": _AMOUNT,
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": _SHARE,
    "MODEL.RETINANET.NUM_CLASSES": _WIDTH,
    "MODEL.RETINANET.IN_FEATURES": _FEATURES,
    "MODEL.RETINANET.NUM_CONVS": _DEPTH,
    "MODEL.RETINANET.IOU_THRESHOLDS": _thresholds(),
    "MODEL.RETINANET.IOU_LABELS": _LABELS,
    "MODEL.RETINANET.PRIOR_PROB": {"above": 0, "below": 1},
    "MODEL.RETINANET.SCORE_THRESH_TEST": {},
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": _COUNT,
    "MODEL.RETINANET.NMS_THRESH_TEST": _SHARE,
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": _BOX_WEIGHTS,
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": _AMOUNT,
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": {},
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": _AMOUNT,
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": _BOX_LOSS,
    "MODEL.RETINANET.NORM": _NORM,
    "MODEL.RESNETS.OUT_FEATURES": _FEATURES,
    "MODEL.RESNETS.NUM_GROUPS": _WIDTH,
    "MODEL.RESNETS.NORM": _NORM,
    "MODEL.RESNETS.WIDTH_PER_GROUP": _WIDTH,
    "MODEL.RESNETS.RES4_DILATION": {"least": 1, "most": 1024},
    "MODEL.RESNETS.RES5_DILATION": {"least": 1, "most": 1024},
    "MODEL.RESNETS.RES5_MULTI_GRID": {"least": 1, "most": 1024, "lengths": (3, 3)},
    "MODEL.RESNETS.RES2_OUT_CHANNELS": _WIDTH,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": _WIDTH,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": {"lengths": (4, 4)},
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": _WIDTH,
    "INPUT.MIN_SIZE_TRAIN": {"least": 0, "most": LARGEST_SIDE, "lengths": _SOME},
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": {"choices": ("choice", "range")},
    "INPUT.MAX_SIZE_TRAIN": _SIDE,
    "INPUT.MIN_SIZE_TEST": {"least": 0, "most": LARGEST_SIDE},
    "INPUT.MAX_SIZE_TEST": _SIDE,
    "INPUT.RANDOM_FLIP": {"choices": ("none", "horizontal", "vertical")},
    "INPUT.CROP.TYPE": {"choices": CROPS},
    "INPUT.CROP.SIZE": {"above": 0, "most": LARGEST_SIDE, "lengths": (2, 2)},
    "INPUT.FORMAT": {"choices": tuple(CHANNELS)},
    "INPUT.MASK_FORMAT": {"choices": ("polygon", "bitmask")},
    "DATASETS.TRAIN": _DATASETS,
    "DATASETS.TEST": _DATASETS,
    "DATASETS.PROPOSAL_FILES_TRAIN": {"kind": str},
    "DATASETS.PROPOSAL_FILES_TEST": {"kind": str},
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": _COUNT,
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": _COUNT,
    "DATALOADER.NUM_WORKERS": {"least": 0, "most": 1024},
    "DATALOADER.SAMPLER_TRAIN": {
        "choices": (
            *("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
            *("WeightedTrainingSampler", "WeightedCategoryTrainingSampler"),
        )
    },
    "DATALOADER.REPEAT_THRESHOLD": _SHARE,
    "SOLVER.LR_SCHEDULER_NAME": _NAME,
    "SOLVER.MAX_ITER": _COUNT,
    "SOLVER.BASE_LR": _AMOUNT,
    "SOLVER.BASE_LR_END": _AMOUNT,
    "SOLVER.MOMENTUM": {"least": 0, "below": 1},
    "SOLVER.WEIGHT_DECAY": _AMOUNT,
    "SOLVER.WEIGHT_DECAY_NORM": {"least": 0, "optional": True},
    "SOLVER.WEIGHT_DECAY_BIAS": {"kind": float, "least": 0, "optional": True},
    "SOLVER.BIAS_LR_FACTOR": {"least": 0, "optional": True},
    "SOLVER.GAMMA": _AMOUNT,
    "SOLVER.STEPS": {
        "kind": int,
        "least": 1,
        "test": lambda steps: all(a < b for a, b in zip(steps, steps[1:], strict=False)),
        "words": "a list of whole numbers of 1 or more, in ascending order",
    },
    "SOLVER.NUM_DECAYS": _COUNT,
    "SOLVER.WARMUP_FACTOR": _AMOUNT,
    "SOLVER.WARMUP_ITERS": _AMOUNT,
    "SOLVER.WARMUP_METHOD": {"choices": ("linear", "constant")},
    "SOLVER.POLY_LR_POWER": _AMOUNT,
    "SOLVER.POLY_LR_CONSTANT_ENDING": _AMOUNT,
    "SOLVER.CHECKPOINT_PERIOD": _COUNT,
    "SOLVER.IMS_PER_BATCH": {"least": 1, "most": 2**20},
    "SOLVER.REFERENCE_WORLD_SIZE": {"least": 0, "most": 2**20},
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": {"choices": ("value", "norm")},
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": {"above": 0, "infinite": True},
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": {"above": 0, "infinite": True},
    "TEST.EXPECTED_RESULTS": {
        "test": _are_results,
        "words": "a list of [task, metric, value, tolerance]",
    },
    "TEST.KEYPOINT_OKS_SIGMAS": {"kind": float, "above": 0},
    "TEST.DETECTIONS_PER_IMAGE": {"least": -1},
    "TEST.AUG.MIN_SIZES": {**_SIDE, "lengths": _SOME},
    "TEST.AUG.MAX_SIZE": _SIDE,
    "TEST.PRECISE_BN.NUM_ITER": _COUNT,
    "OUTPUT_DIR": {
        "test": lambda path: bool(path.strip()) and "\0" not in path,
        "words": "the path of a folder",
    },
    "SEED": {"most": 2**32 - 1, "least": -(2**32), "words": "up to 4294967295; negative: any seed"},
}


@cache
def detectron2_keys() -> dict[str, Key]:
    """Return the keys of Detectron2 and of its DeepLab project, with the values that are allowed.

    Nodes are not among them.
    """
    from detectron2.projects.deeplab import add_deeplab_config

    cfg = get_cfg()
    add_deeplab_config(cfg)
    values = {name: value_of(cfg, name) for name in all_keys(cfg)}
    return {
        name: Key(name, value, **_RULES.get(name, {}))
        for name, value in values.items()
        if not isinstance(value, CfgNode)
    }
