"""A config of Detectron2's PointRend trains as it is."""

import json

from small_configs import builtin_cfg
from tool_runs import tool

OPTS = (
    *("MODEL.ROI_HEADS.NUM_CLASSES", 80, "MODEL.POINT_HEAD.NUM_CLASSES", 80),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0),
    *("DATASETS.TRAIN", ("coco_2017_train",), "DATASETS.TEST", ("coco_2017_val",)),
    *("SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0),
    *("INPUT.MIN_SIZE_TRAIN", (128,), "INPUT.MIN_SIZE_TEST", 128),
)


def test_a_config_of_detectron2s_pointrend_trains_as_it_is(instance_datasets, tmp_path):
    """It is written as such configs were at first: a chain, and the old names."""
    base = builtin_cfg("CoarseMaskHead", "StandardPointHead", OPTS)
    base.MODEL.ROI_HEADS.NAME = "PointRendROIHeads"
    (tmp_path / "Base.yaml").write_text(base.dump())
    (tmp_path / "theirs.yaml").write_text('_BASE_: "Base.yaml"\nINPUT: {MASK_FORMAT: "polygon"}\n')
    output = tmp_path / "out"
    result = tool("train_net", "--config-file", tmp_path / "theirs.yaml", "OUTPUT_DIR", output)
    assert result.returncode == 0, result.stderr
    assert "CoarseMaskHead -> PointRendInstanceHead" in result.stdout
    assert "PointRendROIHeads -> StandardROIHeads" in result.stdout
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert any("loss_mask_point" in line for line in lines)
    assert "boundary/AP" in lines[-1]
