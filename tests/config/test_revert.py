"""Configs that go back to Detectron2's PointRend."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.projects import point_rend

from pointrend_seg import InputError, adopt_config
from pointrend_seg.config import builtin_config
from small_configs import small_instance_cfg, small_semantic_cfg

CONFIGS = {
    "semantic": (small_semantic_cfg, ("MODEL.SEM_SEG_POINT_HEAD.TRAIN_NUM_POINTS", 77)),
    "instance": (small_instance_cfg, ("MODEL.POINT_HEAD.TRAIN_NUM_POINTS", 77)),
}


def reloaded(cfg, tmp_path):
    """A config that went through a file into what Detectron2 and its PointRend know."""
    (tmp_path / "config.yaml").write_text(builtin_config(cfg).dump())
    loaded = get_cfg()
    point_rend.add_pointrend_config(loaded)
    loaded.merge_from_file(tmp_path / "config.yaml")
    return loaded


@pytest.mark.parametrize("task", CONFIGS)
def test_detectron2_builds_the_same_model(task, tmp_path):
    make, opts = CONFIGS[task]
    cfg = make(3, opts)
    before = cfg.dump()
    theirs = reloaded(cfg, tmp_path)
    assert cfg.dump() == before
    assert theirs.MODEL.POINT_HEAD.TRAIN_NUM_POINTS == 77
    models = [build_model(each).eval() for each in (cfg, theirs)]
    head = models[1].sem_seg_head if task == "semantic" else models[1].roi_heads.mask_head
    assert type(head).__module__.startswith("detectron2.projects.point_rend")
    models[1].load_state_dict(models[0].state_dict())
    image = torch.rand(3, 64, 96) * 255
    with torch.no_grad():
        ours, others = (model([{"image": image}])[0] for model in models)
    if task == "semantic":
        agree = ours["sem_seg"].argmax(0) == others["sem_seg"].argmax(0)
    else:
        assert torch.equal(ours["instances"].scores, others["instances"].scores)
        agree = ours["instances"].pred_masks == others["instances"].pred_masks
    assert agree.float().mean() > 0.999
    again = adopt_config(theirs)
    head = "SEM_SEG_HEAD" if task == "semantic" else "ROI_MASK_HEAD"
    assert again.MODEL[head].NAME == cfg.MODEL[head].NAME


def test_what_has_no_counterpart_is_said(caplog):
    opts = ("MODEL.POINT_HEAD.PADDING_MODE", "border", "MODEL.POINT_HEAD.FAST_PATH", False)
    builtin_config(small_instance_cfg(3, (*opts, "TEST.REPORT", False)))
    said = [record.getMessage() for record in caplog.records]
    assert "MODEL.POINT_HEAD.PADDING_MODE is 'border'; Detectron2 and its" in said[0]
    assert any(each.startswith("TEST.REPORT is False") for each in said)
    assert not any("FAST_PATH" in each for each in said)


def test_steps_that_detectron2_gets_wrong(caplog):
    cfg = small_semantic_cfg(3, ("MODEL.SEM_SEG_POINT_HEAD.SUBDIVISION_STEPS", 1))
    assert builtin_config(cfg).MODEL.POINT_HEAD.SUBDIVISION_STEPS == 2
    assert "SUBDIVISION_STEPS is 1; it is 2 in the config for" in caplog.text


def test_models_that_detectron2_has_not():
    with pytest.raises(InputError, match="neither head is of PointRend"):
        builtin_config(
            small_instance_cfg(3, ("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead"))
        )
    both = small_instance_cfg(3, ("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemanticHead"))
    with pytest.raises(InputError, match="both branches are of PointRend"):
        builtin_config(both)
    with pytest.raises(InputError, match="no semantic models of one class"):
        builtin_config(small_semantic_cfg(1))
