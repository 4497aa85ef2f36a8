"""Infer a model and its config keys from the names and shapes of a checkpoint's weights.

A config with other values of these keys does not fit the checkpoint. Keys that do not affect shapes
cannot be inferred, such as the feature maps of a head, the number of points, and thresholds.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..config.keys import SEMANTIC_NODE
from .architectures import recognise
from .instance_masks import describe_masks
from .names import upgrade_name
from .weight_shapes import DEPTHS, WeightShapes

_HEADS = ("roi_heads.", "sem_seg_head.", "proposal_generator.", "head.")


@dataclass
class Contents:
    """The model in a checkpoint, as far as names and shapes show it.

    Attributes:
        name_format: the format of the weights' names.
        tasks: a description for each branch of the model.
        settings: values of config keys that follow from the shapes.
        facts: other properties that follow from the shapes, by a readable name.
    """

    name_format: str
    tasks: list[str] = field(default_factory=list)
    settings: dict[str, object] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)


def describe(weights: Mapping, path: str = "") -> Contents:
    """Describe the model of a state dict.

    Args:
        weights: tensors or arrays by name, in any format that `upgrade_names` converts, or a
            backbone with names of Caffe2 or Detectron, of torchvision, timm and others.
        path: of the file, whose name may tell which of several models of timm it is.
    """
    raw = {name.removeprefix("module."): tuple(value.shape) for name, value in weights.items()}
    shapes = WeightShapes({upgrade_name(name): shape for name, shape in raw.items()})
    contents = Contents(_name_format(raw))
    map_channels = _add_backbone(contents, shapes)
    if shapes.under("roi_heads."):
        num_classes = _add_boxes(contents, shapes.under("roi_heads."))
        task, settings, facts = describe_masks(
            shapes.under("roi_heads.mask_head."), num_classes=num_classes, map_channels=map_channels
        )
        contents.tasks.append(task)
        contents.settings.update(settings)
        contents.facts.update(facts)
    if shapes.under("sem_seg_head."):
        _add_semantic(contents, shapes.under("sem_seg_head."))
    _add_architecture(contents, shapes, weights, path)
    return contents


def _name_format(names: Iterable[str]) -> str:
    if any(re.search(r"(^|\.)mask_(coarse|point)_head\.", name) for name in names):
        return "before version 2 of PointRendROIHeads (roi_heads.mask_point_head.*)"
    if any("coarse_mask_fc" in name for name in names):
        return "before version 2 of the coarse mask head (coarse_mask_fc*)"
    if any(re.match(r"res\d_\d+_branch", name) for name in names):
        return "Caffe2 (res2_0_branch2a_w)"
    return "current"


def _add_backbone(contents: Contents, shapes: WeightShapes) -> int | None:
    """Add the depth and widths of the ResNet. Return the channels of an FPN's feature maps."""
    blocks: dict[str, int] = {}
    convs = 0
    for name in shapes:
        match = re.search(r"(?:^|\.)res([2-5])\.(\d+)\.conv(\d)\.weight$", name) or re.match(
            r"res([2-5])_(\d+)_branch2(\w)_w$", name
        )
        if match:
            stage, block, conv = match.groups()
            blocks[stage] = max(blocks.get(stage, 0), int(block) + 1)
            convs = max(convs, "abc".index(conv) + 1 if conv in "abc" else int(conv))
    counts = tuple(blocks[stage] for stage in sorted(blocks))
    settings = contents.settings
    # The backbone may end before res5.
    depths = [
        depth
        for (all_counts, n), depth in DEPTHS.items()
        if (all_counts[: len(counts)], n) == (counts, convs)
    ]
    if len(depths) == 1:
        settings["MODEL.RESNETS.DEPTH"] = depths[0]
    conv2 = shapes.first(r"(?:^|\.)res2\.0\.conv2\.weight$|^res2_0_branch2b_w$")
    if conv2 and convs == 3:
        settings["MODEL.RESNETS.NUM_GROUPS"] = conv2[0] // conv2[1]
        settings["MODEL.RESNETS.WIDTH_PER_GROUP"] = conv2[1]
    last_conv = shapes.first(rf"(?:^|\.)res2\.0\.conv{convs}\.weight$")
    if last_conv:
        settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] = last_conv[0]
    fpn = shapes.first(r"(?:^|\.)fpn_output\d\.weight$")
    if not fpn:
        return None
    settings["MODEL.FPN.OUT_CHANNELS"] = fpn[0]
    return fpn[0]


def _add_boxes(contents: Contents, shapes: WeightShapes) -> int | None:
    """Add the box head, and return its number of classes."""
    cascade = bool(shapes.under("box_predictor.0."))
    predictor = shapes.under("box_predictor.0." if cascade else "box_predictor.")
    head = shapes.under("box_head.0." if cascade else "box_head.")
    if "cls_score.weight" not in predictor:
        return None
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
    return classes


def _add_semantic(contents: Contents, shapes: WeightShapes) -> None:
    coarse, point = shapes.under("coarse_sem_seg_head."), shapes.under("point_head.")
    refined = bool(coarse and point)
    coarse = coarse or shapes
    settings = contents.settings
    kind = _coarse_kind(coarse)
    contents.tasks.append(
        f"semantic segmentation, PointRend over {kind or 'an unknown coarse head'}"
        if refined
        else f"semantic segmentation without PointRend ({kind or 'an unknown head'})"
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
        classes = coarse.get("predictor.weight", (layers.outputs,))[0]
        contents.facts["fine feature channels (semantic)"] = layers.inputs - classes


def _coarse_kind(shapes: WeightShapes) -> str | None:
    if shapes.under("decoder."):
        return "DeepLabV3PlusHead"
    if shapes.under("aspp."):
        return "DeepLabV3Head"
    return "SemSegFPNHead" if shapes.under("p2.") or shapes.under("p3.") else None


def _add_architecture(
    contents: Contents, shapes: WeightShapes, weights: Mapping, path: str
) -> None:
    instances, semantic = shapes.under("roi_heads."), shapes.under("sem_seg_head.")
    if instances or semantic:
        contents.settings["MODEL.META_ARCHITECTURE"] = (
            ("PanopticFPN" if semantic else "GeneralizedRCNN") if instances else "SemanticSegmentor"
        )
        return
    heads = any(shapes.under(head) for head in _HEADS)
    known = "MODEL.RESNETS.DEPTH" in contents.settings
    architecture = None if known else recognise(weights, path)
    if heads and architecture is None:
        contents.tasks.append("a detector without ROI heads")
    elif "MODEL.RESNETS.DEPTH" in contents.settings:
        contents.tasks.append("none: only a backbone")
    elif architecture is not None:
        contents.name_format = architecture.name
        contents.tasks.append("none: a backbone that a config can start from")
        for key, value in architecture.settings.items():
            seen = key.startswith(("INPUT.", "MODEL.PIXEL_"))  # not from the shapes
            (contents.facts if seen else contents.settings)[key] = value
        if architecture.configs:
            contents.facts["as in"] = " and ".join(architecture.configs)
    else:
        parts = sorted({name.split(".")[0] for name in shapes})
        shown = ", ".join(parts[:5]) + (", …" if len(parts) > 5 else "")
        contents.tasks.append(f"unknown (parts: {shown})")
