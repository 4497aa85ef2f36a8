"""Evaluation with test-time augmentation: after a training, alone, by Detectron2's script."""

import json
import os

import pytest
import torch
from detectron2.engine import DefaultTrainer
from detectron2.modeling import GeneralizedRCNNWithTTA

from pointrend_seg.engine import Trainer, evaluate
from pointrend_seg.engine.dry_run import dry_run
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator
from pointrend_seg.test_time.model import AugmentedModel
from pointrend_seg.test_time.semantic import SemanticViews
from small_configs import small_instance_cfg, small_semantic_cfg
from small_trainings import write_records

INSTANCES = (
    *("DATASETS.TRAIN", "('synthetic_instances_train',)"),
    *("DATASETS.TEST", "('synthetic_instances_val',)"),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 1),
    *("DATALOADER.NUM_WORKERS", 0, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1),
    *("TEST.AUG.ENABLED", True, "TEST.AUG.SCALES", (1.0, 1.5)),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
)


@pytest.fixture
def instances(instance_datasets, tmp_path):
    """Makes configs of a small model and small data sets."""
    return lambda *opts: small_instance_cfg(9, (*INSTANCES, "OUTPUT_DIR", str(tmp_path), *opts))


def with_weights(cfg, folder):
    """Give a config a file of random weights."""
    torch.manual_seed(0)
    cfg.MODEL.WEIGHTS = str(folder / "random.pth")
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    return cfg


@pytest.fixture
def seen(monkeypatch):
    """The models that evaluation runs, in order; augmented ones get images of their own size."""
    models, test, forward = [], DefaultTrainer.test.__func__, AugmentedModel.forward

    def checked(self, inputs):
        assert all(r["image"].shape[1:] == (r["height"], r["width"]) for r in inputs)
        return forward(self, inputs)

    def recorded(cls, cfg, model, evaluators=None):
        models.append(model)
        return test(cls, cfg, model, evaluators)

    monkeypatch.setattr(DefaultTrainer, "test", classmethod(recorded))
    monkeypatch.setattr(AugmentedModel, "forward", checked)
    return models


def is_augmented(models):
    return [isinstance(model, AugmentedModel) for model in models]


def test_a_training_ends_with_it(instances, seen, tmp_path):
    cfg = instances("TEST.EXPECTED_RESULTS", [["segm_TTA", "AP", 0.0, 100.0]])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert is_augmented(seen) == [False, False, True]
    assert {"bbox", "segm", "bbox_TTA", "segm_TTA"} <= results.keys()
    last = {}
    for line in (tmp_path / "metrics.json").read_text().splitlines():
        last |= json.loads(line)
    assert {"segm/AP", "segm_TTA/AP"} <= last.keys()
    for folder in ("inference", "inference_TTA"):
        files = os.listdir(tmp_path / folder / "synthetic_instances_val")
        assert {"coco_instances_results.json", "report.html"} <= {*files}


def test_without_the_key_there_is_none(instances, seen):
    cfg = instances("TEST.AUG.ENABLED", False)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert is_augmented(seen) == [False, False]


def test_evaluation_gives_both(instances, seen, tmp_path, caplog):
    results = evaluate(with_weights(instances(), tmp_path))
    assert is_augmented(seen) == [False, True]
    assert {"segm", "segm_TTA"} <= results.keys()
    assert "at 1, 1.5 times the usual size, each also mirrored" in caplog.text
    assert "segm_TTA/AP" in json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])


def test_one_view_scores_as_without(instances, tmp_path):
    """Of the same images: what reads, resizes and pastes is the same."""
    cfg = instances("TEST.AUG.SCALES", (1.0,), "TEST.AUG.FLIP", False, "INPUT.MIN_SIZE_TEST", 160)
    evaluate(with_weights(cfg, tmp_path))
    found = [
        json.loads(
            (tmp_path / folder / "synthetic_instances_val/coco_instances_results.json").read_text()
        )
        for folder in ("inference", "inference_TTA")
    ]
    assert len(found[0]) == len(found[1]) > 5
    for plain, augmented in zip(*found, strict=True):
        assert plain["score"] == pytest.approx(augmented["score"], abs=1e-6)
        assert plain["bbox"] == pytest.approx(augmented["bbox"], abs=1e-3)
    same = [a["segmentation"] == b["segmentation"] for a, b in zip(*found, strict=True)]
    assert sum(same) > 0.95 * len(same)


def test_evaluators_that_need_pasted_masks_get_them(instances, monkeypatch, tmp_path):
    cfg, written = instances(), []
    model = Trainer.build_model(cfg)
    file = tmp_path / "inference_TTA/synthetic_instances_val/coco_instances_results.json"
    for takes in (True, False):
        monkeypatch.setattr(CocoInstanceEvaluator, "takes_roi_masks", takes)
        Trainer.test_with_TTA(cfg, model.train(not takes))
        assert model.training is not takes  # as it was
        written.append(json.loads(file.read_text()))
    assert written[0] == written[1] and len(written[0]) > 5


def test_a_script_that_wraps_the_model_itself(instances, seen):
    """As Detectron2's train_net.py does; the images are those without augmentation."""
    cfg = instances("TEST.AUG.SCALES", (), "TEST.AUG.MIN_SIZES", (64, 96))
    model = GeneralizedRCNNWithTTA(cfg, Trainer.build_model(cfg).eval())
    evaluators = [Trainer.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
    results = Trainer.test(cfg, model, evaluators)
    assert seen == [model] and "segm" in results


def test_semantic_models(registered, tmp_path, seen):
    records = write_records(tmp_path, 3, semantic=True)
    name = registered(
        "tta_of_the_tests",
        records,
        evaluator_type="sem_seg",
        stuff_classes=["a", "b", "c"],
        ignore_label=255,
    )
    opts = ("DATASETS.TEST", (name,), "DATASETS.TRAIN", (), "OUTPUT_DIR", str(tmp_path / "out"))
    aug = ("TEST.AUG.ENABLED", True, "INPUT.MIN_SIZE_TEST", 64, "DATALOADER.NUM_WORKERS", 0)
    results = evaluate(with_weights(small_semantic_cfg(3, (*opts, *aug)), tmp_path))
    assert is_augmented(seen) == [False, True] and isinstance(seen[1].views, SemanticViews)
    assert {"sem_seg", "sem_seg_TTA"} <= results.keys()
    assert results["sem_seg_TTA"]["mIoU"] == results["sem_seg_TTA"]["mIoU"]


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("TEST.AUG.MIN_SIZES", ()), "MIN_SIZES is .* it must be a list of one or more"),
        (("TEST.AUG.SCALES", (0.0,)), "SCALES is .*it must be a list of numbers, each above 0"),
        (("TEST.AUG.MIN_SIZES", (64,)), "give sizes or factors, not both"),
        (("MODEL.META_ARCHITECTURE", "RetinaNet"), "META_ARCHITECTURE is RetinaNet"),
    ],
)
def test_what_cannot_be_is_said_before_anything_else(instances, opts, message):
    for start in (Trainer, evaluate, dry_run):
        with pytest.raises(InputError, match=message):
            start(instances(*opts))
