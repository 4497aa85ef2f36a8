"""Configuration keys, and configs that are written for Detectron2's PointRend."""

import pytest
from detectron2.config import LazyCall, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import PointRendMaskHead, PointRendSemSegHead
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config
from detectron2.projects.point_rend.point_head import POINT_HEAD_REGISTRY

from pointrend_seg import InputError, add_pointrend_config, adopt_config
from pointrend_seg.config.heads import has_point_heads
from pointrend_seg.config.tree import all_keys, value_of
from pointrend_seg.engine import load_config
from pointrend_seg.modeling.instance_head import PointRendInstanceHead
from pointrend_seg.modeling.semantic_head import PointRendSemanticHead


def with_ours(*opts):
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.merge_from_list(list(opts))
    return cfg


def flat(cfg):
    values = {key: value_of(cfg, key) for key in all_keys(cfg)}
    return {key: value for key, value in values.items() if not isinstance(value, dict)}


def changes(before, cfg):
    """Return the values of a config by those keys of another that have other values there."""
    after = flat(cfg)
    return {key: after[key] for key, value in flat(before).items() if after[key] != value}


def test_it_is_idempotent_and_keeps_what_was_set():
    cfg = with_ours()
    cfg.MODEL.SEM_SEG_POINT_HEAD.TRAIN_NUM_POINTS = 7
    cfg.SOLVER.POLY_LR_POWER = 0.5
    before = cfg.dump()
    add_pointrend_config(cfg)
    assert cfg.dump() == before


@pytest.mark.parametrize("first", [add_builtin_config, add_deeplab_config])
def test_after_detectron2s_own_functions_nothing_is_lost(first):
    cfg = get_cfg()
    first(cfg)
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.3
    before = cfg.clone()
    add_pointrend_config(cfg)
    assert not changes(before, cfg)


def test_keys_that_detectron2_has_too_have_its_defaults():
    """All but the point head's class, which is registered here under another name."""
    theirs = get_cfg()
    add_builtin_config(theirs)
    assert changes(theirs, with_ours()) == {"MODEL.POINT_HEAD.NAME": "PointMLP"}


def test_a_semantic_config_of_detectron2_is_adopted(caplog):
    cfg = with_ours(
        *("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemSegHead"),
        *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19, "MODEL.POINT_HEAD.NUM_CLASSES", 19),
        *("MODEL.POINT_HEAD.NAME", "StandardPointHead", "MODEL.POINT_HEAD.TRAIN_NUM_POINTS", 2048),
        *("MODEL.POINT_HEAD.SUBDIVISION_STEPS", 2),
        *("MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER", False),
    )
    with caplog.at_level("INFO"):
        assert adopt_config(cfg) is cfg
    assert cfg.MODEL.SEM_SEG_HEAD.NAME == "PointRendSemanticHead"
    node = cfg.MODEL.SEM_SEG_POINT_HEAD
    assert (node.NAME, node.TRAIN_NUM_POINTS, node.SUBDIVISION_STEPS) == ("PointMLP", 2048, 2)
    assert node.COARSE_PRED_EACH_LAYER is False
    assert "PointRendSemSegHead -> PointRendSemanticHead" in caplog.text
    assert "MODEL.SEM_SEG_POINT_HEAD.TRAIN_NUM_POINTS: 2048" in caplog.text
    assert "FC_DIM" not in caplog.text  # the same in both nodes


@pytest.mark.parametrize("opts", [(), ("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead")])
def test_a_config_without_detectron2s_pointrend_is_left_as_it_is(opts, caplog):
    cfg = with_ours(*opts)
    before = cfg.dump()
    with caplog.at_level("INFO"):
        adopt_config(cfg)
    assert cfg.dump() == before and not caplog.text


def test_class_counts_that_differ_and_the_config_stays_frozen():
    cfg = with_ours("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemSegHead")
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.POINT_HEAD.NUM_CLASSES = 19, 80
    cfg.freeze()
    with pytest.raises(InputError, match="POINT_HEAD.NUM_CLASSES is 80 .* is 19.*Set both"):
        adopt_config(cfg)
    assert cfg.is_frozen()


# --- instance configs -----------------------------------------------------------------------

NAMES = [
    ("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead", "PointRendInstanceHead"),
    ("MODEL.ROI_MASK_HEAD.NAME", "CoarseMaskHead", "PointRendInstanceHead"),
    ("MODEL.ROI_MASK_HEAD.NAME", "ImplicitPointRendMaskHead", "ImplicitPointRendInstanceHead"),
    ("MODEL.ROI_HEADS.NAME", "PointRendROIHeads", "StandardROIHeads"),
    ("MODEL.POINT_HEAD.NAME", "StandardPointHead", "PointMLP"),
    ("MODEL.POINT_HEAD.NAME", "ImplicitPointHead", "ImplicitPointMLP"),
    ("MODEL.SEM_SEG_POINT_HEAD.NAME", "StandardPointHead", "PointMLP"),
]


@pytest.mark.parametrize(("key", "old", "new"), NAMES)
def test_every_name_is_translated_once_and_logged(key, old, new, caplog):
    cfg = with_ours(key, old)
    before = cfg.clone()
    with caplog.at_level("INFO"):
        adopt_config(cfg)
        assert f"{key}: {old} -> {new}" in caplog.text
        caplog.clear()
        assert adopt_config(cfg.clone()).dump() == cfg.dump() and not caplog.text
    allowed = {key: new}
    if key == "MODEL.ROI_MASK_HEAD.NAME":
        allowed["MODEL.ROI_MASK_HEAD.POOLER_TYPE"] = ""
    assert changes(before, cfg) == allowed


def test_every_head_of_detectron2s_pointrend_has_a_translation():
    registered = {
        name
        for registry in (ROI_MASK_HEAD_REGISTRY, ROI_HEADS_REGISTRY, POINT_HEAD_REGISTRY)
        for name, entry in registry
        if entry.__module__.startswith("detectron2.projects.point_rend")
    }
    assert registered == {old for _, old, _ in NAMES} - {"CoarseMaskHead"}
    ours = dict(ROI_MASK_HEAD_REGISTRY)
    for _, _, new in NAMES[:3]:
        assert ours[new].__module__.startswith("pointrend_seg.")


def test_a_config_without_a_key_of_ours():
    """Made by the function of Detectron2's PointRend alone."""
    cfg = get_cfg()
    add_builtin_config(cfg)
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = 99
    before = cfg.clone()
    adopt_config(cfg)
    assert cfg.MODEL.POINT_HEAD.PADDING_MODE == "zeros"
    assert changes(before, cfg) == {
        "MODEL.ROI_MASK_HEAD.NAME": "PointRendInstanceHead",
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "",
        "MODEL.POINT_HEAD.NAME": "PointMLP",
    }


@pytest.mark.parametrize("is_frozen", [True, False])
def test_frozen_configs_stay_so(is_frozen):
    cfg = with_ours("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead")
    if is_frozen:
        cfg.freeze()
    assert adopt_config(cfg) is cfg
    assert cfg.is_frozen() is is_frozen
    assert cfg.MODEL.POINT_HEAD.is_frozen() is is_frozen
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "PointRendInstanceHead"


def test_a_yaml_file_and_its_bases(tmp_path, caplog):
    (tmp_path / "deep").mkdir()
    (tmp_path / "Base-All.yaml").write_text(
        "MODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n  MASK_ON: True\n"
        "  ROI_HEADS:\n    NAME: PointRendROIHeads\n    NUM_CLASSES: 3\n"
    )
    (tmp_path / "deep" / "Base-PointRend.yaml").write_text(
        '_BASE_: "../Base-All.yaml"\nMODEL:\n  ROI_MASK_HEAD:\n    NAME: CoarseMaskHead\n'
        "    POINT_HEAD_ON: True\n  POINT_HEAD:\n    NAME: StandardPointHead\n    FC_DIM: 128\n"
    )
    leaf = tmp_path / "deep" / "mine.yaml"
    leaf.write_text(
        '_BASE_: "Base-PointRend.yaml"\nMODEL:\n  POINT_HEAD:\n    IN_FEATURES: ["p2", "p3"]\n'
    )
    with caplog.at_level("INFO"):
        cfg = adopt_config(str(leaf))
    assert adopt_config(leaf).dump() == cfg.dump()
    model = cfg.MODEL
    assert (model.ROI_HEADS.NAME, model.ROI_HEADS.NUM_CLASSES) == ("StandardROIHeads", 3)
    assert model.ROI_MASK_HEAD.NAME == "PointRendInstanceHead"
    assert (model.ROI_MASK_HEAD.POOLER_TYPE, model.ROI_MASK_HEAD.POINT_HEAD_ON) == ("", True)
    assert (model.POINT_HEAD.NAME, model.POINT_HEAD.FC_DIM) == ("PointMLP", 128)
    assert model.POINT_HEAD.IN_FEATURES == ("p2", "p3")
    assert caplog.text.count(" -> ") == 4
    assert "MODEL.ROI_MASK_HEAD.POOLER_TYPE: ROIAlignV2 -> ''" in caplog.text


def test_a_panoptic_config_with_both_branches():
    """One node there, two here: each branch gets what was written in the one."""
    cfg = with_ours()
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    cfg.MODEL.POINT_HEAD.FC_DIM = 77
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 54
    adopt_config(cfg)
    for node in (cfg.MODEL.POINT_HEAD, cfg.MODEL.SEM_SEG_POINT_HEAD):
        assert (node.NAME, node.FC_DIM) == ("PointMLP", 77)


@pytest.mark.parametrize("count", [54, 80])
def test_the_count_in_the_one_node_is_that_of_either_branch(count):
    """Code that builds both heads of Detectron2's PointRend sets it in between."""
    cfg = with_ours()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "PanopticFPN", 54
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = count
    adopt_config(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NAME == "PointRendSemanticHead"
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = 55
    with pytest.raises(InputError, match="NUM_CLASSES is 55 and MODEL.SEM_SEG_HEAD.NUM_CLASSES"):
        adopt_config(cfg)


def test_a_file_that_is_not_there():
    with pytest.raises(InputError, match="The config file gone.yaml does not exist"):
        adopt_config("gone.yaml")


# --- heads of somebody's own, derived from those of Detectron2's PointRend or from ours ------


@pytest.fixture
def register(request):
    """Register a class under a name for one test."""

    def add(registry, name, entry):
        registry._obj_map.pop(name, None)
        registry._do_register(name, entry)
        request.addfinalizer(lambda: registry._obj_map.pop(name))
        return name

    return add


def somebodys(base):
    """A subclass that lies in another package, whose parent may be of ours or of Detectron2's."""
    return type("TheirHead", (base,), {"__module__": "their_project.heads"})


@pytest.mark.parametrize("point_head", ["StandardPointHead", "ImplicitPointHead"])
@pytest.mark.parametrize("base", [PointRendMaskHead, object, None])
def test_a_mask_head_of_somebodys_own_keeps_its_point_head(base, point_head, register, caplog):
    """It may not be imported yet."""
    if base is not None:
        register(ROI_MASK_HEAD_REGISTRY, "TheirHead", somebodys(base))
    cfg = with_ours("MODEL.ROI_MASK_HEAD.NAME", "TheirHead", "MODEL.POINT_HEAD.NAME", point_head)
    cfg.MODEL.ROI_HEADS.NAME = "PointRendROIHeads"
    before = cfg.dump()
    with caplog.at_level("INFO"):
        assert adopt_config(cfg).dump() == before and not caplog.text


POINT_SUP = {
    "ImplicitPointRendPointSupHead": ("ImplicitPointRendInstanceHead", "", "ImplicitPointMLP"),
    "MaskRCNNConvUpsamplePointSupHead": ("PointSupMaskRCNNHead", "ROIAlignV2", "PointMLP"),
}


@pytest.mark.parametrize("name", POINT_SUP)
def test_heads_of_detectron2s_point_sup(name, register, caplog):
    """Ours replace them where the project is not imported: they train from points, too."""
    cfg = with_ours(
        "MODEL.ROI_MASK_HEAD.NAME", name, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlignV2"
    )
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    if name.startswith("Implicit"):
        cfg.MODEL.ROI_HEADS.NAME = "PointRendROIHeads"
        cfg.MODEL.POINT_HEAD.NAME = "ImplicitPointHead"
    before = cfg.clone()
    with caplog.at_level("INFO"):
        adopt_config(cfg)
    head = cfg.MODEL.ROI_MASK_HEAD
    found = head.NAME, head.POOLER_TYPE, cfg.MODEL.POINT_HEAD.NAME
    assert found == POINT_SUP[name]
    assert cfg.MODEL.ROI_HEADS.NAME in ("Res5ROIHeads", "StandardROIHeads")
    assert f"MODEL.ROI_MASK_HEAD.NAME: {name} -> " in caplog.text
    assert has_point_heads(cfg)[1] == name.startswith("Implicit")
    register(ROI_MASK_HEAD_REGISTRY, name, somebodys(PointRendMaskHead))
    assert adopt_config(before.clone()).dump() == before.dump()


@pytest.mark.parametrize(
    ("head", "can"),
    [
        ("MaskRCNNConvUpsampleHead", False),
        ("PointSupMaskRCNNHead", True),
        ("MaskRCNNConvUpsamplePointSupHead", True),
        ("PointRendInstanceHead", True),
        ("ImplicitPointRendMaskHead", True),
        ("TheirHead", True),
    ],
)
def test_a_head_that_needs_masks_is_not_trained_from_points(head, can, register):
    register(ROI_MASK_HEAD_REGISTRY, "TheirHead", somebodys(object))
    opts = ["INPUT.POINT_SUP", "True", "MODEL.MASK_ON", "True", "MODEL.ROI_MASK_HEAD.NAME", head]
    if can:
        assert load_config("", opts).INPUT.POINT_SUP
        return
    with pytest.raises(
        InputError, match=f"NAME is {head}, which needs full masks. Set it to Point"
    ):
        load_config("", opts)
    load_config("", [*opts, "MODEL.MASK_ON", "False"])


def test_a_subclass_of_ours_uses_our_point_heads(register):
    register(ROI_MASK_HEAD_REGISTRY, "TheirHead", somebodys(PointRendInstanceHead))
    cfg = with_ours("MODEL.ROI_MASK_HEAD.NAME", "TheirHead")
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    assert adopt_config(cfg).MODEL.POINT_HEAD.NAME == "PointMLP"


def test_a_semantic_head_of_somebodys_own_keeps_its_point_head(register):
    register(SEM_SEG_HEADS_REGISTRY, "TheirHead", somebodys(PointRendSemSegHead))
    cfg = with_ours("MODEL.SEM_SEG_HEAD.NAME", "TheirHead")
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    before = cfg.dump()
    assert adopt_config(cfg).dump() == before
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"  # beside it, a mask head of ours
    assert adopt_config(cfg).MODEL.POINT_HEAD.NAME == "PointMLP"


def test_replacing_a_class_of_a_fork_is_warned_of(monkeypatch, caplog):
    entry = somebodys(PointRendMaskHead)
    monkeypatch.setitem(ROI_MASK_HEAD_REGISTRY._obj_map, "PointRendMaskHead", entry)
    cfg = adopt_config(with_ours("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead"))
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "PointRendInstanceHead"
    (warning,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "which their_project.heads registered; it is replaced by" in warning.getMessage()


# --- keys of a point head that the config does not use ---------------------------------------


def test_a_key_of_the_mask_heads_in_a_semantic_config_is_refused():
    own = ("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemanticHead")
    wanted = "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS has no effect: .* PointRendSemanticHead, .*"
    wanted += r"Set MODEL\.SEM_SEG_POINT_HEAD\.SUBDIVISION_NUM_POINTS instead"
    with pytest.raises(InputError, match=wanted):
        load_config("", [*own, "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS", "99"])
    load_config("", [*own, "MODEL.POINT_HEAD.NUM_CLASSES", "54"])  # nothing reads it


def test_a_key_of_the_semantic_head_in_an_instance_config_is_refused():
    wanted = "MODEL.SEM_SEG_POINT_HEAD.FC_DIM has no effect: .*Set MODEL.POINT_HEAD.FC_DIM instead"
    for head in ("PointRendInstanceHead", "ImplicitPointRendMaskHead"):
        with pytest.raises(InputError, match=wanted):
            load_config(
                "",
                ["MODEL.ROI_MASK_HEAD.NAME", head, "MODEL.SEM_SEG_POINT_HEAD.FC_DIM", "8"],
            )


def test_the_keys_of_detectron2s_semantic_configs_are_obeyed():
    opts = [
        *("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemSegHead", "MODEL.POINT_HEAD.NUM_CLASSES", "54"),
        *("MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS", "99"),
    ]
    assert load_config("", opts).MODEL.SEM_SEG_POINT_HEAD.SUBDIVISION_NUM_POINTS == 99


# --- heads that are built from configs of Detectron2's PointRend alone ------------------------

FEATURES = {f"p{level}": ShapeSpec(channels=256, stride=2**level) for level in range(2, 6)}


@pytest.mark.parametrize("head", [PointRendInstanceHead, PointRendSemanticHead])
def test_a_head_from_a_config_without_a_key_of_ours(head):
    cfg = get_cfg()
    add_builtin_config(cfg)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = 7
    cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE, cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = "", True
    cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS, cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = 2, 99
    before = cfg.dump()
    built = head(cfg, FEATURES)
    assert built.train_num_points == 99 and built.point_head.fc1.out_channels == 256
    assert cfg.dump() == before


def test_a_head_of_a_lazy_config():
    cfg = with_ours("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", True, "MODEL.POINT_HEAD.FC_DIM", 8)
    lazy = LazyCall(PointRendInstanceHead)(
        cfg=cfg,
        input_shape={
            name: LazyCall(ShapeSpec)(channels=256, stride=shape.stride)
            for name, shape in FEATURES.items()
        },
    )
    assert instantiate(lazy).point_head.fc1.out_channels == 8
