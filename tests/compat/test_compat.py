"""Each name of Detectron2's PointRend that public code imports, beside what stands for it here."""

import copy
import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.projects import point_rend as builtin
from detectron2.projects.point_rend import mask_head as builtin_mask_head
from detectron2.projects.point_rend import point_features as builtin_features
from detectron2.projects.point_rend import point_head as builtin_point_head
from detectron2.projects.point_rend import semantic_seg as builtin_semantic
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from pointrend_seg import compat
from pointrend_seg.compat import mask_head, point_features, point_head, semantic_seg
from pointrend_seg.errors import InputError

MODULES = ("point_features", "point_head", "mask_head", "semantic_seg", "color_augmentation")
FEATURES = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in range(2, 6)}


@pytest.mark.parametrize("module", [*MODULES, "roi_heads", "config", ""])
def test_every_public_name_of_detectron2_is_there(module):
    theirs = importlib.import_module(f"detectron2.projects.point_rend.{module}".rstrip("."))
    ours = importlib.import_module(f"pointrend_seg.compat.{module}".rstrip("."))
    own = {
        name
        for name, value in vars(theirs).items()
        if getattr(value, "__module__", "").startswith("detectron2.projects.point_rend")
        and not name.startswith("_")
    }
    assert own and own <= set(dir(ours))
    for name in own:
        if inspect.isfunction(getattr(theirs, name)):
            arguments = [
                list(inspect.signature(getattr(m, name)).parameters) for m in (theirs, ours)
            ]
            assert arguments[0] == arguments[1], name


# --- functions ------------------------------------------------------------------------------


def same(first, second):
    for ours, theirs in zip(first, second, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("shape", [(2, 9, 2), (2, 3, 4, 2), (2, 0, 2)])
def test_point_sample(shape, mode, padding_mode, align_corners):
    maps = torch.randn(2, 7, 5, 3).permute(0, 3, 2, 1)  # of no usual memory layout
    coords = torch.rand(2, *reversed(shape[1:-1]), 2)
    coords = coords.transpose(1, 2) if len(shape) == 4 else coords
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    same(
        [point_features.point_sample(maps, coords, **options)],
        [builtin_features.point_sample(maps, coords, **options)],
    )


@pytest.mark.parametrize(("ratio", "share"), [(3, 0.75), (1, 0.0), (2.5, 1.0)])
def test_get_uncertain_point_coords_with_randomness(ratio, share):
    logits, results = torch.randn(3, 1, 9, 11), []
    for module in (point_features, builtin_features):
        torch.manual_seed(7)
        draw = module.get_uncertain_point_coords_with_randomness
        results.append([draw(logits, lambda points: -points.abs(), 49, ratio, share)])
    same(*results)


def test_get_uncertain_point_coords_on_grid():
    uncertainty = torch.randn(2, 1, 8, 6)
    ours = point_features.get_uncertain_point_coords_on_grid(uncertainty.transpose(2, 3), 13)
    theirs = builtin_features.get_uncertain_point_coords_on_grid(
        uncertainty.transpose(2, 3).contiguous(), 13
    )
    for k in range(2):
        order, expected = ours[0][k].argsort(), theirs[0][k].argsort()
        same([each[k][order] for each in ours], [each[k][expected] for each in theirs])


def test_grids_boxes_and_features():
    device, boxes = torch.device("cpu"), [Boxes([[1.0, 2, 30, 20]]), Boxes([[0.0, 0, 7, 9]] * 2)]
    grids = [m.generate_regular_grid_point_coords(3, 7, device) for m in MODULES_OF_POINTS]
    same([grids[0]], [grids[1]])
    corners = Boxes.cat(boxes).tensor
    same(*[[m.get_point_coords_wrt_image(corners, grids[0])] for m in MODULES_OF_POINTS])
    maps, scales = [torch.randn(2, 4, 16, 20), torch.randn(2, 3, 8, 10)], [1 / 4, 1 / 8]
    same(
        *[
            m.point_sample_fine_grained_features(maps, scales, boxes, grids[0])
            for m in MODULES_OF_POINTS
        ]
    )


MODULES_OF_POINTS = (point_features, builtin_features)


def labelled_boxes(count):
    boxes = Instances((32, 40), gt_classes=torch.arange(count) % 3)
    boxes.gt_masks = BitMasks(torch.rand(count, 32, 40) > 0.5)
    return boxes


def test_labels_and_loss():
    instances, coords = [labelled_boxes(2), labelled_boxes(3)], torch.rand(5, 11, 2) * 32
    labels = [module.sample_point_labels(instances, coords) for module in MODULES_OF_POINTS]
    torch.testing.assert_close(*labels)
    labels = (labels[0] > 0.5).float()
    for channels in (1, 3):
        logits, results = torch.randn(5, channels, 11), []
        for module in (point_head, builtin_point_head):
            with EventStorage() as storage:
                loss = module.roi_mask_point_loss(logits, instances, labels)
                results.append([loss, torch.tensor(storage.latest()["point/accuracy"][0])])
        torch.testing.assert_close(*results)
    with EventStorage():
        nothing = point_head.roi_mask_point_loss(torch.zeros(0, 1, 11), [], torch.zeros(0, 11))
    assert nothing == 0


def test_uncertainties():
    logits, classes = torch.randn(4, 3, 5), torch.tensor([0, 2, 1, 1])
    for each in (logits, logits[:, :1]):
        same(*[[m.calculate_uncertainty(each, classes)] for m in (mask_head, builtin_mask_head)])
    same(*[[m.calculate_uncertainty(logits)] for m in (semantic_seg, builtin_semantic)])


# --- point heads ----------------------------------------------------------------------------


def config(*opts):
    cfg = get_cfg()
    builtin.add_pointrend_config(cfg)
    cfg.MODEL.POINT_HEAD.FC_DIM, cfg.MODEL.POINT_HEAD.NUM_CLASSES = 16, 3
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.merge_from_list(list(opts))
    return cfg


@pytest.mark.parametrize("name", ["StandardPointHead", "ImplicitPointHead"])
def test_point_heads(name):
    cfg, shape = config("MODEL.POINT_HEAD.NAME", name), ShapeSpec(channels=8, width=1, height=1)
    torch.manual_seed(0)
    theirs = builtin_point_head.build_point_head(cfg, shape)
    torch.manual_seed(0)
    ours = point_head.build_point_head(cfg, shape)
    assert type(ours).__name__ == name
    assert list(ours.state_dict()) == list(theirs.state_dict())
    inputs = [torch.randn(2, 8, 5), torch.rand(2, 5, 2)]
    if name == "StandardPointHead":
        inputs[1] = torch.randn(2, 3, 5)
    else:
        assert ours.num_params == theirs.num_params
        inputs.append(torch.randn(2, ours.num_params))
    torch.testing.assert_close(ours(*inputs), theirs(*inputs))


def test_a_point_head_that_is_not_registered():
    with pytest.raises(InputError, match=r"POINT_HEAD.NAME is 'Nobody', which is not registered"):
        point_head.build_point_head(
            config("MODEL.POINT_HEAD.NAME", "Nobody"), ShapeSpec(channels=8)
        )


def test_a_point_head_of_the_users_in_a_head_of_ours():
    class TheirPointHead(point_head.StandardPointHead):
        pass

    point_head.POINT_HEAD_REGISTRY.register(TheirPointHead)
    try:
        cfg = config(*("MODEL.POINT_HEAD.NAME", "TheirPointHead"), *ON)
        built = compat.PointRendMaskHead(cfg, FEATURES)
    finally:
        point_head.POINT_HEAD_REGISTRY._obj_map.pop("TheirPointHead")
    assert type(built.point_head) is TheirPointHead
    assert built.point_head.predictor.out_channels == 3


# --- heads ----------------------------------------------------------------------------------

ON = ("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", True, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "")


def detections():
    boxes = torch.tensor([[4.0, 4, 40, 50], [10, 0, 60, 30], [0, 0, 9, 9]])
    fields = {"pred_boxes": Boxes(boxes), "pred_classes": torch.tensor([0, 2, 1])}
    return Instances((64, 64), **fields)


def feature_maps():
    return {name: torch.randn(1, 8, 64 // s.stride, 64 // s.stride) for name, s in FEATURES.items()}


@pytest.mark.parametrize("name", ["PointRendMaskHead", "ImplicitPointRendMaskHead"])
def test_what_public_code_reads_from_a_mask_head(name):
    """As the tutorial on PointRend does, which goes through inference step by step."""
    implicit = name.startswith("Implicit")
    cfg = config(*ON)
    if implicit:
        cfg.MODEL.POINT_HEAD.NAME, cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = "ImplicitPointHead", 3
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    theirs = getattr(builtin, name)(cfg, FEATURES).eval()
    ours = getattr(compat, name)(cfg, FEATURES).eval()
    ours.load_state_dict(theirs.state_dict())
    features, found, coords = feature_maps(), detections(), torch.rand(3, 21, 2)
    steps = []
    with torch.no_grad():
        for head in (ours, theirs):
            boxes = [found.pred_boxes]
            pooled = head._roi_pooler(features, boxes)
            coarse = (head.parameter_head if implicit else head.coarse_head)(pooled)
            fine, _ = point_features.point_sample_fine_grained_features(
                [features[each] for each in head.mask_point_in_features],
                [head._feature_scales[each] for each in head.mask_point_in_features],
                boxes,
                coords,
            )
            same([fine], [head._point_pooler(features, boxes, coords)])
            steps.append([coarse, fine, head._get_point_logits(fine, coords, coarse)])
            steps[-1].append(head(features, [copy.deepcopy(found)])[0].pred_masks)
    for first, second in zip(*steps, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    names = ("roi_pooler_in_features", "mask_point_train_num_points", "mask_point_on")
    for each in (*names, "roi_pooler_size", "mask_point_subdivision_num_points"):
        if hasattr(theirs, each):
            assert tuple_or_value(ours, each) == tuple_or_value(theirs, each), each


def tuple_or_value(head, name):
    value = getattr(head, name)
    return tuple(value) if isinstance(value, list) else value


def test_the_semantic_head_reads_the_keys_of_detectron2():
    cfg = config("MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS", 99)
    cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 2
    shapes = {name: ShapeSpec(channels=8, stride=s.stride) for name, s in FEATURES.items()}
    ours, theirs = (m.PointRendSemSegHead(cfg, shapes).eval() for m in (compat, builtin))
    ours.load_state_dict(theirs.state_dict())
    assert ours.subdivision_num_points == 99
    features = feature_maps()
    with torch.no_grad():
        torch.testing.assert_close(ours(features)[0], theirs(features)[0], rtol=1e-4, atol=1e-5)


def test_weights_from_before_version_2():
    heads = compat.PointRendROIHeads.__new__(compat.PointRendROIHeads)
    torch.nn.Module.__init__(heads)
    heads.mask_head = torch.nn.Module()
    heads.mask_head.point_head = torch.nn.Linear(1, 1)
    heads.mask_head.coarse_head = torch.nn.Linear(1, 1)
    old = {
        f"mask_{part}_head.{name}": torch.full_like(value, number)
        for number, part in enumerate(("point", "coarse"), start=3)
        for name, value in heads.mask_head.point_head.state_dict().items()
    }
    heads.load_state_dict(old)
    assert heads.mask_head.point_head.weight.item() == 3
    assert heads.mask_head.coarse_head.bias.item() == 4


def test_colour_augmentation():
    image = np.random.default_rng(0).integers(0, 255, (9, 8, 3), dtype=np.uint8)
    augmentation = compat.ColorAugSSDTransform(img_format="RGB", hue_delta=9)
    assert (augmentation.hue_delta, augmentation.contrast_range) == (9, (0.5, 1.5))
    changed = augmentation.get_transform(image).apply_image(image)
    assert changed.shape == image.shape and changed.dtype == np.uint8


# --- a program of which one import is changed ------------------------------------------------

PROGRAM = """
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
import pointrend_seg.compat as point_rend

cfg = get_cfg()
point_rend.add_pointrend_config(cfg)
cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "{head}", "{pooler}"
cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON, cfg.MODEL.DEVICE = True, "cpu"
cfg.MODEL.MASK_ON = True
cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.IN_FEATURES = "{heads}", ["p2", "p3", "p4", "p5"]
cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = 2
cfg.freeze()
model = build_model(cfg).eval()
print(type(model.roi_heads).__name__, type(model.roi_heads.mask_head).__module__)
model([{{"image": torch.rand(3, 64, 64) * 255}}])
point_rend.add_pointrend_config(get_cfg())  # again
"""


@pytest.mark.parametrize(
    ("heads", "head", "pooler"),
    [
        ("StandardROIHeads", "PointRendMaskHead", ""),
        ("PointRendROIHeads", "CoarseMaskHead", "ROIAlignV2"),
    ],
)
def test_a_program_with_one_import_changed(heads, head, pooler):
    code = PROGRAM.format(heads=heads, head=head, pooler=pooler)
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    name, module = result.stdout.split()[-2:]
    assert name == heads and module.startswith("pointrend_seg.")


def test_names_that_detectron2s_own_heads_have_are_not_taken():
    before = ROI_MASK_HEAD_REGISTRY.get("PointRendMaskHead")
    with pytest.raises(InputError, match=r"registered by detectron2.*call pointrend_seg.adopt_con"):
        compat.add_pointrend_config(get_cfg())
    assert ROI_MASK_HEAD_REGISTRY.get("PointRendMaskHead") is before is builtin.PointRendMaskHead
