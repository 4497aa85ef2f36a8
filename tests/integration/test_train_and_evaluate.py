"""Every config trains and evaluates, in this process, on small trees in its data set's layout."""

import json
import math
import shutil

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase

from pointrend_seg.data.point_labels import with_points
from pointrend_seg.data.point_sets import points_suffix
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.engine.tasks import find_task
from pointrend_seg.engine.trainer import Trainer
from tool_runs import REPOSITORY

CONFIGS = sorted(
    path for path in (REPOSITORY / "configs").rglob("*.yaml") if not path.name.startswith("Base-")
)
CPU = ["MODEL.DEVICE", "cpu"]
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    # Models that know nothing yet are to detect something.
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": -1.0,
    "TEST.DETECTIONS_PER_IMAGE": 10,
    "SOLVER.MAX_ITER": 2,
    "TEST.REPORT": False,  # which has tests of its own
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 1e-4,
    "INPUT.MIN_SIZE_TRAIN": (128,),
    "INPUT.MIN_SIZE_TEST": 128,
    "INPUT.CROP.SIZE": (128, 128),
    "DATALOADER.NUM_WORKERS": 0,
    "SEED": 1,
}
QUICK = REPOSITORY / "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml"
# Frozen normalisation lets the features of random weights grow until boxes are infinite.
NORMALISED = {"MODEL.RESNETS.NORM": "GN", "MODEL.FPN.NORM": "GN"}
# The published size of the per-box MLPs has 290 million weights: 5 GB in training.
NARROW = {"MODEL.POINT_HEAD.FC_DIM": 8}
# Transformers of a published width take minutes on a CPU.
TINY = {
    "swin": {"MODEL.SWIN.EMBED_DIM": 24},
    "mvitv2": {"MODEL.MVIT.EMBED_DIM": 24},
    "vitdet": {
        "MODEL.FPN.NORM": "LN",
        "MODEL.VIT.IMG_SIZE": 128,
        "MODEL.VIT.EMBED_DIM": 48,
        "MODEL.VIT.DEPTH": 2,
        "MODEL.VIT.WINDOW_BLOCK_INDEXES": (0,),
    },
}
# What each kind of head must report.
LOSSES = {
    "PointRendSemanticHead": {"loss_sem_seg", "loss_sem_seg_point"},
    "PointRendInstanceHead": {"loss_mask", "loss_mask_point"},
    "ImplicitPointRendInstanceHead": {"loss_mask_point", "loss_l2"},
    "MaskRCNNConvUpsampleHead": {"loss_mask"},
    "PointSupMaskRCNNHead": {"loss_mask"},
    "SemSegFPNHead": {"loss_sem_seg"},
    None: {"loss_box_reg"},
}
# Image and label folders of what Detectron2 reads as pairs of folders.
FOLDER_PAIRS = {
    "coco/{}2017": ("coco/panoptic_stuff_{}2017", ("train", "val")),
    "ADEChallengeData2016/images/{}": (
        "ADEChallengeData2016/annotations_detectron2/{}",
        ("training", "validation"),
    ),
}


def small(config, output, **changes):
    opts = [part for item in (SMALL | changes).items() for part in item]
    cfg = load_config(str(config), [*opts, "OUTPUT_DIR", str(output)])
    cfg.freeze()
    return cfg


@pytest.fixture(scope="module")
def all_datasets(datasets, instance_datasets):
    """The synthetic trees, with points; and the Cityscapes images as COCO stuff and ADE20K."""
    for masks in ("instances_train2017", "synthetic_instances_train"):
        file = instance_datasets / "coco/annotations" / f"{masks}.json"
        points = file.with_name(f"{masks}_{points_suffix(10, seed=0)}.json")
        points.write_text(json.dumps(with_points(str(file), 10, seed=0).content))
    for images, (labels, splits) in FOLDER_PAIRS.items():
        for split, ours in zip(splits, ("train", "val"), strict=True):
            for folder in (images, labels):
                (datasets / folder.format(split)).mkdir(parents=True, exist_ok=True)
            for source in (datasets / "cityscapes/leftImg8bit" / ours).rglob("*.png"):
                stem = source.name.removesuffix("_leftImg8bit.png")
                truth = str(source).replace("leftImg8bit", "gtFine")
                truth = truth.replace("_gtFine.png", "_gtFine_labelTrainIds.png")
                cv2.imwrite(
                    str(datasets / images.format(split) / f"{stem}.jpg"), cv2.imread(str(source))
                )
                shutil.copy(truth, datasets / labels.format(split) / f"{stem}.png")
    return datasets


def heads_of(cfg):
    return find_task(cfg).head_names(cfg) or [None]


def is_larger_twin(config):
    """Whether another config has the same heads, and a shorter schedule or a smaller backbone."""
    twins = [config.name.replace("_3x_", "_1x_"), config.name.replace("_101_", "_50_")]
    return any(twin != config.name and config.with_name(twin).exists() for twin in twins)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(path, marks=pytest.mark.slow) if is_larger_twin(path) else path
        for path in CONFIGS
    ],
    ids=lambda path: path.stem,
)
def test_every_config_trains_and_evaluates(config, all_datasets, cityscapes_scripts, tmp_path):
    needed = {"lvis": "lvis", "cityscapes": "shapely"}.get(config.parent.name)
    if needed:
        pytest.importorskip(needed)
    tiny = [changes for name, changes in TINY.items() if name in config.stem]
    if tiny or "lite0" in config.stem:
        pytest.importorskip("timm")
    is_semantic = find_task(load_config(str(config), CPU)).is_semantic
    changes = {} if is_semantic else NORMALISED
    changes = changes | (NARROW if "implicit" in config.stem else {})
    changes = changes | (tiny[0] if tiny else {})
    trainer = Trainer(small(config, tmp_path, **changes))
    trainer.resume_or_load(resume=False)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    losses = {key: value for line in lines for key, value in line.items() if "loss" in key}
    heads = heads_of(trainer.cfg)
    assert {"total_loss"}.union(*(LOSSES[head] for head in heads)) <= set(losses)
    assert all(math.isfinite(value) for value in losses.values())
    assert (tmp_path / "model_final.pth").exists()
    for name in score_names(trainer.cfg):
        assert 0 <= lines[-1][name] <= 100, name
    dataset = trainer.cfg.DATASETS.TEST[0]
    if "PointRendSemanticHead" in heads:
        assert (tmp_path / "inference" / dataset / "sem_seg_predictions.json").exists()
        if "cityscapes" in dataset:
            # The Cityscapes scripts count a class that is predicted but not there as 0,
            # Detectron2's mIoU leaves it out.
            assert 0 <= lines[-1]["sem_seg/IoU"] <= lines[-1]["sem_seg/mIoU"] + 0.01


def score_names(cfg):
    """Return the scores that an evaluation must report."""
    task = find_task(cfg)
    if task.is_semantic:
        return ["sem_seg/mIoU", "sem_seg/mBoundaryIoU"]
    if task.is_panoptic:
        names = ["sem_seg/mIoU", "segm/AP", "boundary/AP"]
        return [*names, *(f"panoptic_seg/{score}" for score in ("PQ", "SQ", "RQ", "PQ_st"))]
    if "cityscapes" in cfg.DATASETS.TEST[0]:
        return ["segm/AP"]
    return ["bbox/AP", *(["segm/AP", "boundary/AP"] if cfg.MODEL.MASK_ON else [])]


def test_the_coarse_heads_that_are_configured():
    """The three that the docs name are each the coarse head of some config."""
    configs = [config for config in CONFIGS if "lite0" not in config.name]  # which need timm
    nodes = (load_config(str(config), CPU).MODEL.SEM_SEG_POINT_HEAD for config in configs)
    used = {node.COARSE_SEM_SEG_HEAD_NAME for node in nodes}
    assert used >= {"SemSegFPNHead", "DeepLabV3Head", "DeepLabV3PlusHead"}


def test_training_goes_on_where_it_stopped(datasets, cityscapes_scripts, tmp_path):
    class PullThePlug(HookBase):
        def after_step(self):
            if self.trainer.iter == 1:
                raise KeyboardInterrupt

    cfg = small(QUICK, tmp_path, **{"SOLVER.MAX_ITER": 4, "SOLVER.CHECKPOINT_PERIOD": 1})
    first = Trainer(cfg)
    first.register_hooks([PullThePlug()])
    first.resume_or_load(resume=True)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = Trainer(cfg)
    second.resume_or_load(resume=True)
    assert second.start_iter == 2
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True)
    )
    second.train()
    assert (tmp_path / "model_final.pth").exists()


def test_a_binary_data_set_of_the_users_own(datasets, tmp_path):
    """One class, labels 0 and 1 and 255, registered in a few lines, through the whole pipeline."""
    name = "pointrend_test_cars"
    records = []
    for image in sorted((datasets / "cityscapes/leftImg8bit/train").rglob("*.png")):
        truth = str(image).replace("leftImg8bit", "gtFine")
        labels = cv2.imread(truth.replace("_gtFine.png", "_gtFine_labelTrainIds.png"), -1)
        cars = np.where(labels == 255, 255, labels == 13).astype(np.uint8)
        file = tmp_path / image.name
        cv2.imwrite(str(file), cars)
        records.append({"file_name": str(image), "sem_seg_file_name": str(file)})
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=["car"], ignore_label=255, evaluator_type="sem_seg")
    changes = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 1}
    changes |= {"DATASETS.TRAIN": (name,), "DATASETS.TEST": (name,)}
    trainer = Trainer(small(QUICK, tmp_path / "out", **changes))
    trainer.resume_or_load(resume=False)
    trainer.train()
    scores = trainer._last_eval_results["sem_seg"]
    assert 0 <= scores["IoU-car"] <= 100 and 0 <= scores["BoundaryIoU-car"] <= 100
