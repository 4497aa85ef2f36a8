"""Configuration keys, and configs that are written for Detectron2's PointRend."""

import pytest
from detectron2.config import get_cfg
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config

from pointrend_seg import InputError, add_pointrend_config, adopt_config


def with_ours():
    cfg = get_cfg()
    add_pointrend_config(cfg)
    return cfg


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

    def same(old, new):
        for key, value in old.items():
            if isinstance(value, dict):
                same(value, new[key])
            else:
                assert new[key] == value, key

    same(before, cfg)


def test_keys_that_detectron2_has_too_have_its_defaults():
    """All but the point head's class, which is registered here under another name."""
    theirs = get_cfg()
    add_builtin_config(theirs)
    ours = with_ours()
    for node in ("POINT_HEAD", "IMPLICIT_POINTREND", "ROI_MASK_HEAD"):
        for key, value in theirs.MODEL[node].items():
            if (node, key) != ("POINT_HEAD", "NAME"):
                assert ours.MODEL[node][key] == value, (node, key)
    assert ours.INPUT.COLOR_AUG_SSD is theirs.INPUT.COLOR_AUG_SSD


def test_a_semantic_config_of_detectron2_is_adopted(caplog):
    cfg = with_ours()
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = 19
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = 2048
    cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 2
    cfg.MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER = False
    with caplog.at_level("INFO"):
        assert adopt_config(cfg) is cfg
    assert cfg.MODEL.SEM_SEG_HEAD.NAME == "PointRendSemanticHead"
    node = cfg.MODEL.SEM_SEG_POINT_HEAD
    assert (node.NAME, node.TRAIN_NUM_POINTS, node.SUBDIVISION_STEPS) == ("PointMLP", 2048, 2)
    assert node.COARSE_PRED_EACH_LAYER is False
    assert "PointRendSemSegHead -> PointRendSemanticHead" in caplog.text
    assert "MODEL.SEM_SEG_POINT_HEAD.TRAIN_NUM_POINTS: 2048" in caplog.text


def test_a_config_of_ours_is_left_as_it_is():
    cfg = with_ours()
    before = cfg.dump()
    adopt_config(cfg)
    assert cfg.dump() == before


def test_class_counts_that_differ():
    cfg = with_ours()
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.POINT_HEAD.NUM_CLASSES = 19, 80
    with pytest.raises(InputError, match="POINT_HEAD.NUM_CLASSES is 80 .* is 19.*Set both"):
        adopt_config(cfg)
