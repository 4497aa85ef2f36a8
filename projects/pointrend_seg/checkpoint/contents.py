"""What the names and shapes of a checkpoint's weights tell about its model.

Most of it are values of config keys: a config that differs from them does not fit. What shapes do
not tell is left out: which feature maps a head reads, how many points, every threshold.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config.keys import SEMANTIC_NODE
from .instance_masks import describe_masks
from .names import upgrade_name
from .weight_shapes import Shapes

# Blocks of res2 … res5 and convolutions of a block -> MODEL.RESNETS.DEPTH
_DEPTHS = {
    ((2, 2, 2, 2), 2): 18,
    ((3, 4, 6, 3), 2): 34,
    ((3, 4, 6, 3), 3): 50,
    ((3, 4, 23, 3), 3): 101,
    ((3, 8, 36, 3), 3): 152,
}
_HEADS = ("roi_heads.", "sem_seg_head.", "proposal_generator.", "head.")


@dataclass
class Contents:
    """What a checkpoint holds.

    Attributes:
        tasks: what the model does, one text for each branch.
        names: the format of the names.
        settings: config keys and the values that the shapes tell.
        facts: what they tell beside, by its name.
    """

    tasks: list[str]
    names: str
    settings: dict[str, object] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)


def describe(weights: Mapping) -> Contents:
    """Describe a state dict.

    Args:
        weights: tensors or arrays by name, of any format that `upgrade_names` knows; names of
            Caffe2 and Detectron are understood for a backbone.
    """
    raw = {name.removeprefix("module."): tuple(value.shape) for name, value in weights.items()}
    shapes = Shapes({upgrade_name(name): shape for name, shape in raw.items()})
    contents = Contents([], _format(raw))
    _backbone(shapes, contents)
    if shapes.under("roi_heads."):
        _boxes(shapes.under("roi_heads."), contents)
        task, settings, facts = describe_masks(
            shapes.under("roi_heads.mask_head."),
            num_classes=contents.settings.get("MODEL.ROI_HEADS.NUM_CLASSES"),
            map_channels=contents.settings.get("MODEL.FPN.OUT_CHANNELS"),
        )
        contents.tasks.append(task)
        contents.settings.update(settings)
        contents.facts.update(facts)
    if shapes.under("sem_seg_head."):
        _semantic(shapes.under("sem_seg_head."), contents)
    _architecture(shapes, contents)
    return contents


def _format(names: Mapping) -> str:
    if any(re.search(r"(^|\.)mask_(coarse|point)_head\.", name) for name in names):
        return "from before version 2 of PointRendROIHeads (roi_heads.mask_point_head.*)"
    if any("coarse_mask_fc" in name for name in names):
        return "from before version 2 of the coarse mask head (coarse_mask_fc*)"
    if any(re.match(r"res\d_\d+_branch", name) for name in names):
        return "Caffe2's (res2_0_branch2a_w)"
    return "present"


def _backbone(shapes: Shapes, contents: Contents) -> None:
    """The ResNet's depth and widths, and the FPN's."""
    blocks, convs = {}, 0
    for name in shapes:
        found = re.search(r"(?:^|\.)res([2-5])\.(\d+)\.conv(\d)\.weight$", name) or re.match(
            r"res([2-5])_(\d+)_branch2(\w)_w$", name
        )
        if found:
            stage, block, conv = found.groups()
            blocks[stage] = max(blocks.get(stage, 0), int(block) + 1)
            convs = max(convs, "abc".index(conv) + 1 if conv in "abc" else int(conv))
    counts = tuple(blocks[stage] for stage in sorted(blocks))
    settings = contents.settings
    # A backbone ends with the last stage that is used.
    depths = [d for (all_, n), d in _DEPTHS.items() if (all_[: len(counts)], n) == (counts, convs)]
    if len(depths) == 1:
        settings["MODEL.RESNETS.DEPTH"] = depths[0]
    grouped = shapes.first(r"(?:^|\.)res2\.0\.conv2\.weight$|^res2_0_branch2b_w$")
    if grouped and convs == 3:
        settings["MODEL.RESNETS.NUM_GROUPS"] = grouped[0] // grouped[1]
        settings["MODEL.RESNETS.WIDTH_PER_GROUP"] = grouped[1]
    last = shapes.first(rf"(?:^|\.)res2\.0\.conv{convs}\.weight$")
    if last:
        settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] = last[0]
    fpn = shapes.first(r"(?:^|\.)fpn_output\d\.weight$")
    if fpn:
        settings["MODEL.FPN.OUT_CHANNELS"] = fpn[0]


def _boxes(shapes: Shapes, contents: Contents) -> None:
    cascade = bool(shapes.under("box_predictor.0."))
    predictor = shapes.under("box_predictor.0." if cascade else "box_predictor.")
    head = shapes.under("box_head.0." if cascade else "box_head.")
    if "cls_score.weight" not in predictor:
        return
    settings = contents.settings
    kind = "Cascade" if cascade else "Res5" if shapes.under("res5.") else "Standard"
    settings["MODEL.ROI_HEADS.NAME"] = f"{kind}ROIHeads"
    classes = settings["MODEL.ROI_HEADS.NUM_CLASSES"] = predictor["cls_score.weight"][0] - 1
    if classes > 1 and "bbox_pred.weight" in predictor:
        agnostic = predictor["bbox_pred.weight"][0] == 4
        settings["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"] = agnostic
    if "fc1.weight" in head:
        settings["MODEL.ROI_BOX_HEAD.NUM_FC"] = head.count("fc")
        settings["MODEL.ROI_BOX_HEAD.FC_DIM"] = head["fc1.weight"][0]


def _semantic(shapes: Shapes, contents: Contents) -> None:
    coarse, point = shapes.under("coarse_sem_seg_head."), shapes.under("point_head.")
    refined = bool(coarse and point)
    coarse = coarse or shapes
    settings = contents.settings
    kind = _coarse_kind(coarse)
    contents.tasks.append(
        f"semantic segmentation, PointRend over {kind or 'a coarse head that is not known here'}"
        if refined
        else f"semantic segmentation without PointRend ({kind or 'a head not known here'})"
    )
    if "predictor.weight" in coarse:
        settings["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] = coarse["predictor.weight"][0]
        settings["MODEL.SEM_SEG_HEAD.CONVS_DIM"] = coarse["predictor.weight"][1]
    aspp = coarse.first(r"(?:^|\.)(?:aspp|project_conv)\.project\.weight$")
    if aspp:
        settings["MODEL.SEM_SEG_HEAD.ASPP_CHANNELS"] = aspp[0]
    if refined:
        settings["MODEL.SEM_SEG_HEAD.NAME"] = "PointRendSemanticHead"
    if kind:
        settings[
            f"{SEMANTIC_NODE}.COARSE_SEM_SEG_HEAD_NAME" if refined else "MODEL.SEM_SEG_HEAD.NAME"
        ] = kind
    if refined and "predictor.weight" in point:
        layers = point.mlp()
        settings[f"{SEMANTIC_NODE}.FC_DIM"] = layers.width
        settings[f"{SEMANTIC_NODE}.NUM_FC"] = layers.hidden
        settings[f"{SEMANTIC_NODE}.COARSE_PRED_EACH_LAYER"] = layers.repeated > 0
        classes = settings.get("MODEL.SEM_SEG_HEAD.NUM_CLASSES", layers.outputs)
        contents.facts["fine feature channels (semantic)"] = layers.inputs - classes


def _coarse_kind(shapes: Shapes) -> str | None:
    if shapes.under("decoder."):
        return "DeepLabV3PlusHead"
    if shapes.under("aspp."):
        return "DeepLabV3Head"
    return "SemSegFPNHead" if shapes.under("p2.") or shapes.under("p3.") else None


def _architecture(shapes: Shapes, contents: Contents) -> None:
    instances, semantic = shapes.under("roi_heads."), shapes.under("sem_seg_head.")
    if instances or semantic:
        contents.settings["MODEL.META_ARCHITECTURE"] = (
            ("PanopticFPN" if semantic else "GeneralizedRCNN") if instances else "SemanticSegmentor"
        )
    elif any(shapes.under(head) for head in _HEADS):
        contents.tasks.append("a detector without ROI heads")
    elif "MODEL.RESNETS.DEPTH" in contents.settings:
        contents.tasks.append("none: a backbone alone")
    else:
        parts = sorted({name.split(".")[0] for name in shapes})
        shown = ", ".join(parts[:5]) + (", …" if len(parts) > 5 else "")
        contents.tasks.append(f"not known here (parts: {shown})")
