"""The tools on instances: a config of Detectron2's PointRend as it is, and what users get wrong."""

import json
import re

from tool_runs import message, tool

QUICK = "configs/quick/pointrend_rcnn_R_18_FPN.yaml"
SMALL = (
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
    *("INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", "128", "MODEL.DEVICE", "cpu"),
)
# As configs of Detectron2's PointRend were written at first: a chain, and the old names.
THEIR_BASE = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  MASK_ON: True
  WEIGHTS: ""
  PIXEL_STD: [57.375, 57.120, 58.395]
  BACKBONE: {NAME: "build_resnet_fpn_backbone", FREEZE_AT: 0}
  RESNETS:
    DEPTH: 18
    RES2_OUT_CHANNELS: 64
    NORM: "BN"
    OUT_FEATURES: ["res2", "res3", "res4", "res5"]
  FPN: {IN_FEATURES: ["res2", "res3", "res4", "res5"], OUT_CHANNELS: 64}
  ANCHOR_GENERATOR: {SIZES: [[24], [48], [96], [160], [256]]}
  RPN: {IN_FEATURES: ["p2", "p3", "p4", "p5", "p6"], POST_NMS_TOPK_TRAIN: 50}
  ROI_BOX_HEAD: {NAME: "FastRCNNConvFCHead", NUM_FC: 1, FC_DIM: 64}
  ROI_HEADS:
    NAME: "PointRendROIHeads"
    IN_FEATURES: ["p2", "p3", "p4", "p5"]
    BATCH_SIZE_PER_IMAGE: 32
  ROI_MASK_HEAD:
    NAME: "CoarseMaskHead"
    CONV_DIM: 32
    FC_DIM: 64
    NUM_FC: 2
    OUTPUT_SIDE_RESOLUTION: 7
    IN_FEATURES: ["p2"]
    POINT_HEAD_ON: True
  POINT_HEAD: {FC_DIM: 32, NUM_FC: 3, IN_FEATURES: ["p2"]}
DATASETS:
  TRAIN: ("coco_2017_train",)
  TEST: ("coco_2017_val",)
VERSION: 2
"""


def test_a_config_of_detectron2s_pointrend_trains_as_it_is(instance_datasets, tmp_path):
    (tmp_path / "Base.yaml").write_text(THEIR_BASE)
    (tmp_path / "theirs.yaml").write_text('_BASE_: "Base.yaml"\nINPUT: {MASK_FORMAT: "polygon"}\n')
    output = tmp_path / "out"
    result = tool(
        *("train_net", "--config-file", tmp_path / "theirs.yaml", "OUTPUT_DIR", output, *SMALL)
    )
    assert result.returncode == 0, result.stderr
    assert "CoarseMaskHead -> PointRendInstanceHead" in result.stdout
    assert "PointRendROIHeads -> StandardROIHeads" in result.stdout
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert any("loss_mask_point" in line for line in lines)
    assert "boundary/AP" in lines[-1]


def test_an_annotation_without_a_mask_is_named_before_training(instance_datasets, tmp_path):
    source = instance_datasets / "coco"
    (tmp_path / "coco/annotations").mkdir(parents=True)
    broken = {}
    for split in ("train", "val"):
        (tmp_path / f"coco/{split}2017").symlink_to(source / f"{split}2017")
        name = f"annotations/synthetic_instances_{split}.json"
        content = json.loads((source / name).read_text())
        broken[split] = content["annotations"][3]
        del broken[split]["segmentation"]
        (tmp_path / "coco" / name).write_text(json.dumps(content))
    result = tool(
        *("train_net", "--config-file", QUICK, "OUTPUT_DIR", tmp_path / "out", *SMALL),
        datasets=tmp_path,
    )
    text = message(result)
    assert "segmentation" in text and "synthetic_instances_train.json" in text
    assert re.search(rf"\b{broken['train']['id']}\b", text)
    assert re.search(rf"\b{broken['train']['image_id']}\b", text)
