"""What the trainer checks before anything is built, what it goes on from, what it writes."""

import json

import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.engine import defaults
from detectron2.utils import comm
from PIL import Image

from pointrend_seg.data.mappers.instance import InstanceMapper
from pointrend_seg.data.mappers.semantic import SemanticMapper
from pointrend_seg.engine import Trainer, evaluate, find_task, load_model, write_reports
from pointrend_seg.engine.config_loading import merge_opts
from pointrend_seg.engine.trainer import _ddp_on_any_device
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg, small_semantic_cfg
from small_trainings import write_records

NAME = "trainer_of_the_tests"
INSTANCES = (
    *("DATASETS.TRAIN", "('synthetic_instances_train',)"),
    *("DATASETS.TEST", "('synthetic_instances_val',)"),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 1),
    *("DATALOADER.NUM_WORKERS", 0, "SOLVER.MAX_ITER", 1, "TEST.EVAL_PERIOD", -1),
)


@pytest.fixture
def instances(instance_datasets, tmp_path):
    """Makes configs of a small model and small data sets."""
    return lambda *opts, classes=9: small_instance_cfg(
        classes, (*INSTANCES, "OUTPUT_DIR", str(tmp_path), *opts)
    )


def check_dataset(cfg, name, **how):
    find_task(cfg).check_dataset(cfg, name, **how)


# --- checks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [-1, 0, 1])
def test_test_sets_are_checked_before_training(period, instances):
    """Detectron2 evaluates after the last iteration whatever the period is."""
    cfg = instances("DATASETS.TEST", "('synthetic_instances_vall',)", "TEST.EVAL_PERIOD", period)
    with pytest.raises(InputError, match="synthetic_instances_vall.*synthetic_instances_val"):
        Trainer(cfg)


def test_every_data_set_is_checked(instances):
    wrong = "('synthetic_instances_val', 'synthetic_instances_vall')"
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        with pytest.raises(InputError, match="synthetic_instances_vall"):
            Trainer(instances(key, wrong))
    with pytest.raises(InputError, match="synthetic_instances_vall"):
        evaluate(instances("DATASETS.TEST", wrong))
    with pytest.raises(InputError, match="NUM_CLASSES is 5.*9 classes"):
        evaluate(instances(classes=5))


def test_sets_that_are_trained_on_need_objects(instances, registered, tmp_path):
    registered(NAME, [{"file_name": str(tmp_path / "a.png"), "annotations": []}])
    (tmp_path / "a.png").write_bytes(b"not looked at")
    check_dataset(instances(), NAME)
    with pytest.raises(InputError, match="nothing to train on in the data set trainer_of_the"):
        Trainer(instances("DATASETS.TRAIN", (NAME,)))


def test_masks_are_looked_at_where_the_model_has_some(instances, registered, tmp_path):
    objects = [{"bbox": [0, 0, 4, 4], "bbox_mode": 0, "category_id": 0}]
    registered(NAME, [{"file_name": str(tmp_path / "a.png"), "annotations": objects}])
    (tmp_path / "a.png").write_bytes(b"not looked at")
    check_dataset(instances("MODEL.MASK_ON", False), NAME, is_train=True)
    with pytest.raises(InputError, match="a.png has no .segmentation"):
        check_dataset(instances(), NAME, is_train=True)


def test_labels_are_those_of_the_heads_config(registered):
    registered(NAME, [], stuff_classes=["a", "b"], ignore_label=7)
    with pytest.raises(InputError, match="SEM_SEG_HEAD.NUM_CLASSES is 3"):
        check_dataset(small_semantic_cfg(3), NAME)
    with pytest.raises(InputError, match="SEM_SEG_HEAD.IGNORE_VALUE is 255.*with 7"):
        check_dataset(small_semantic_cfg(2), NAME)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("SemanticSegmentor", SemanticMapper),
        ("GeneralizedRCNN", InstanceMapper),
        ("RetinaNet", DatasetMapper),
    ],
)
def test_models_of_other_kinds_are_left_to_detectron2(model, kind, instance_datasets):
    cfg = small_instance_cfg(5, ("MODEL.META_ARCHITECTURE", model))
    for is_train in (True, False):
        mapper = find_task(cfg).build_mapper(cfg, is_train=is_train)
        assert type(mapper) is kind and mapper.is_train is is_train
    if model == "RetinaNet":  # 5 classes against 9
        check_dataset(cfg, "synthetic_instances_train", is_train=True)


def test_the_loaders_read_with_our_mapper(instances, registered, tmp_path):
    """Which says what is wrong with a file."""
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    box = {"bbox": [0, 0, 4, 4], "bbox_mode": 0, "category_id": 0, "segmentation": [[0, 0, 4, 4]]}
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 1, "height": 48, "width": 65}
    registered(NAME, [{**record, "annotations": [box]}], thing_classes=["a"])
    cfg = instances("DATASETS.TRAIN", (NAME,))
    for loader in (Trainer.build_train_loader(cfg), Trainer.build_test_loader(cfg, NAME)):
        with pytest.raises(InputError, match="a.png is 64 x 48"):
            next(iter(loader))


def test_processes_share_a_batch_evenly(instances, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(InputError, match="IMS_PER_BATCH is 1, which 2 processes cannot share"):
        Trainer.build_train_loader(instances())


# --- what a training or evaluation begins with ------------------------------------------------


def test_resuming(instances, tmp_path):
    start = tmp_path / "start.pth"
    first = Trainer(instances())
    torch.save({"model": first.model.state_dict()}, start)
    cfg = instances("MODEL.WEIGHTS", str(start), "OUTPUT_DIR", str(tmp_path / "out"))

    def begun(resume):
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=resume)
        bias = trainer.model.roi_heads.mask_head.point_head.predictor.bias
        return trainer.start_iter, torch.equal(bias, torch.full_like(bias, 7.0))

    assert begun(resume=True) == begun(resume=False) == (0, False)  # there is no checkpoint
    with torch.no_grad():
        first.model.roi_heads.mask_head.point_head.predictor.bias.fill_(7.0)
    first.checkpointer.save_dir = cfg.OUTPUT_DIR
    first.iter = 11
    first.checkpointer.save("model_0000011", iteration=11)
    assert begun(resume=True) == (12, True)
    assert begun(resume=False) == (0, False)
    for resume in (True, False):
        bias = load_model(cfg, resume=resume).roi_heads.mask_head.point_head.predictor.bias
        assert bool(bias.eq(7).all()) is resume


@pytest.mark.parametrize("final", ["missing", "damaged", "of a training before"])
def test_a_training_that_was_finished_ends_with_a_whole_final_model(final, instances, tmp_path):
    """It was killed between its last checkpoint and the final model, or while that was written."""
    cfg = instances("DATASETS.TEST", "()", "SOLVER.MAX_ITER", 5)
    path = tmp_path / "model_final.pth"
    first = Trainer(cfg)
    first.iter = 2 if final == "of a training before" else 4
    first.checkpointer.save("model_final", iteration=first.iter)
    if final == "missing":
        path.unlink()
    elif final == "damaged":
        path.write_bytes(path.read_bytes()[:5000])
    first.iter = 4
    with torch.no_grad():
        first.model.roi_heads.mask_head.point_head.predictor.bias.fill_(7.0)
    first.checkpointer.save("model_0000004", iteration=4)
    if final == "damaged":  # by a version that wrote it in place
        first.checkpointer.tag_last_checkpoint("model_final.pth")
    for _ in range(2):
        second = Trainer(cfg)
        second.resume_or_load(resume=True)
        assert second.start_iter == 5
        second.train()
        content = torch.load(path)
        assert content["iteration"] == content["trainer"]["iteration"] == 4
        assert content["model"]["roi_heads.mask_head.point_head.predictor.bias"].eq(7).all()
        assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_a_training_ends_with_scores_and_a_report(instances, tmp_path):
    expected = ("TEST.EXPECTED_RESULTS", [["bbox", "AP", 50.0, 51.0]])
    some_objects = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", -1.0, "TEST.DETECTIONS_PER_IMAGE", 2)
    trainer = Trainer(instances("MODEL.MASK_ON", False, *expected, *some_objects))
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert list(results) == ["bbox"] and 0 <= results["bbox"]["AP"] <= 100
    report = tmp_path / "inference/synthetic_instances_val/report.html"
    assert "Learning curves" in report.read_text()
    report.unlink()
    (tmp_path / "metrics.json").unlink()
    scores = evaluate(trainer.cfg, resume=True)["bbox"]
    assert scores == pytest.approx(results["bbox"], nan_ok=True)
    (line,) = (tmp_path / "metrics.json").read_text().splitlines()
    assert json.loads(line)["bbox/AP"] == scores["AP"]
    assert report.exists()


# --- reports --------------------------------------------------------------------------------


def test_reports_of_what_was_evaluated(instances, tmp_path, caplog, monkeypatch):
    names = ("synthetic_instances_train", "synthetic_instances_val", "synthetic_lvis_val")
    cfg = instances("DATASETS.TEST", names)
    for name in names[:2]:
        (tmp_path / "inference" / name).mkdir(parents=True)
    (tmp_path / "inference" / names[0] / "coco_evaluation.json").write_text("cut o")
    cfg.TEST.REPORT = False
    write_reports(cfg)
    cfg.TEST.REPORT = True
    with monkeypatch.context() as another_rank:
        another_rank.setattr(comm, "is_main_process", lambda: False)
        write_reports(cfg)
    assert not list(tmp_path.rglob("report.html"))
    write_reports(cfg)
    (report,) = tmp_path.rglob("report.html")
    assert report == tmp_path / "inference" / names[1] / "report.html"
    assert f"report of {names[0]} could not be written" in caplog.text
    assert not (tmp_path / "inference" / names[2]).exists()


# --- several processes ------------------------------------------------------------------------


def test_layers_that_need_a_gpu_in_several_processes(monkeypatch):
    cfg = small_semantic_cfg(5, ("MODEL.RESNETS.NORM", "SyncBN"))
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with _ddp_on_any_device(cfg, {}), pytest.raises(InputError) as caught:
        defaults.create_ddp_model(Trainer.build_model(cfg))
    assert "On the CPU set MODEL.RESNETS.NORM to naiveSyncBN" in str(caught.value)


def test_the_scale_of_training_is_stated(instances):
    """Images are 128 x 192."""
    cfg = instances("INPUT.MIN_SIZE_TRAIN", (64, 96), "DATASETS.TEST", "()")
    trainer = Trainer(cfg)
    assert trainer.cfg.INPUT.TRAINED_SCALES == [0.5, 0.625, 0.75]
    assert trainer.trained_at == ([0.5, 0.625, 0.75], 99.9)
    assert len(cfg.INPUT.TRAINED_SCALES) == 0


def test_evaluation_keeps_the_scale_of_training(instances, monkeypatch, caplog):
    """Unless the sizes are asked for."""
    cfg = instances("INPUT.TRAINED_SCALES", (1.0, 1.0, 1.0), "INPUT.TRAINED_SIDE", 156.0)
    seen = []
    model = Trainer.build_model(cfg)
    monkeypatch.setattr(
        type(model.backbone), "forward", recorded(type(model.backbone).forward, seen)
    )
    Trainer.test(cfg, model)
    assert set(seen) == {(128, 192)}
    assert "is shown to the model at scale 1, that of the training images, not 0.5" in caplog.text
    seen.clear()
    merge_opts(cfg, ["INPUT.MIN_SIZE_TEST", 64])
    Trainer.test(cfg, model)
    assert set(seen) == {(64, 96)}


def test_evaluation_in_tiles(instances, monkeypatch):
    """Masks of whole images are scored, and the model sees tiles; images are 128 x 192."""
    cfg = instances("INPUT.MIN_SIZE_TEST", 0, "TEST.TILES.SIZE", 96, "TEST.TILES.OVERLAP", 32)
    seen = []
    model = Trainer.build_model(cfg)
    monkeypatch.setattr(
        type(model.backbone), "forward", recorded(type(model.backbone).forward, seen)
    )
    results = Trainer.test(cfg, model)
    assert set(seen) == {(96, 96)} and len(seen) == 3 * 6
    assert {"bbox", "segm", "boundary"} <= results.keys()


def test_semantic_evaluation_in_tiles(registered, tmp_path):
    """A model that sees one pixel alone scores the same in tiles as whole."""
    records = write_records(tmp_path, 3, semantic=True)
    names = ["a", "b", "c"]
    name = registered(
        NAME, records, stuff_classes=names, ignore_label=255, evaluator_type="sem_seg"
    )
    opts = ("DATASETS.TEST", (name,), "DATASETS.TRAIN", (), "INPUT.MIN_SIZE_TEST", 0)
    opts += ("OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0)
    cfg = small_semantic_cfg(3, opts)

    class Dark(torch.nn.Module):
        def forward(self, inputs):
            assert all(max(each["image"].shape) <= limit for each in inputs)
            bright = [each["image"].float().mean(0) for each in inputs]
            return [{"sem_seg": torch.stack([b - 100, 60 - b, b * 0])} for b in bright]

    scores = []
    for limit, tile in ((200, 0), (64, 64)):  # noqa: B007  # `Dark` reads it
        cfg.TEST.TILES.SIZE, cfg.TEST.TILES.OVERLAP = tile, 16
        scores.append(Trainer.test(cfg, Dark())["sem_seg"])
    assert scores[0] == pytest.approx(scores[1], nan_ok=True) and 5 < scores[0]["mIoU"] < 95


def recorded(forward, seen):
    def record(self, images):
        seen.append(tuple(images.shape[-2:]))
        return forward(self, images)

    return record
