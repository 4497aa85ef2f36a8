"""A resumed training equals an undisturbed one to the bit; what the config decides, it decides."""

import logging
import shutil

import pytest
import torch
from detectron2.engine import AMPTrainer
from detectron2.utils.env import seed_all_rng

from pointrend_seg.engine import Trainer
from pointrend_seg.errors import InputError
from small_trainings import assert_same, small_training_cfg, train, write_records

METADATA = {"stuff_classes": ["a", "b", "c"], "thing_classes": ["a", "b"], "ignore_label": 255}
METADATA |= {"evaluator_type": "sem_seg"}


@pytest.fixture
def data(registered, tmp_path):
    """Registers ten images for each task."""
    for semantic in (True, False):
        folder = tmp_path / name_of(semantic)
        folder.mkdir()
        registered(folder.name, write_records(folder, 10, semantic=semantic), **METADATA)


def name_of(semantic):
    return f"resuming_{'semantic' if semantic else 'instances'}"


def run(output, opts=(), *, semantic=True, seed=1, **how):
    """Train as a process of its own would, whose random numbers begin with `seed`."""
    seed_all_rng(seed)
    return train(small_training_cfg(name_of(semantic), output, opts, semantic=semantic), **how)


def assert_exact(tmp_path, opts=(), *, semantic=True, stops=(3,)):
    """Compare a training that is stopped after some iterations with an undisturbed one."""
    whole, seen = run(tmp_path / "whole", opts, semantic=semantic)
    parts = {}
    for seed, stop in enumerate((*stops, None), 1):
        part, steps = run(
            tmp_path / "parts", opts, semantic=semantic, seed=seed, resume=seed > 1, stop_after=stop
        )
        parts |= steps
    assert len(seen) == 6 and parts == seen
    assert_same(dict(part.model.state_dict()), dict(whole.model.state_dict()))
    assert_same(part.optimizer.state_dict(), whole.optimizer.state_dict())
    return whole


# --- to the bit -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("semantic", [True, False])
def test_a_resumed_training_equals_an_undisturbed_one(semantic, workers, data, tmp_path):
    assert_exact(tmp_path, ("DATALOADER.NUM_WORKERS", workers), semantic=semantic)
    for name in ("whole", "parts"):
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)


@pytest.mark.parametrize(
    "opts",
    [
        ("SEED", -1, "SOLVER.CHECKPOINT_PERIOD", 1, "DATALOADER.ASPECT_RATIO_GROUPING", False),
        ("SOLVER.CLIP_GRADIENTS.ENABLED", True),
        # trainable normalisation, estimated anew, and an evaluation
        ("MODEL.RESNETS.NORM", "BN", "TEST.PRECISE_BN.ENABLED", True, "TEST.EVAL_PERIOD", 2)
        + ("TEST.PRECISE_BN.NUM_ITER", 2, "DATASETS.TEST", (name_of(True),)),
        ("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR"),
    ],
    ids=["no seed, no groups", "clipping", "precise BN", "poly"],
)
def test_it_does_with_other_settings(opts, data, tmp_path):
    assert_exact(tmp_path, opts, stops=(3, 3, 4))


def test_it_does_with_repeated_images(data, tmp_path):
    opts = ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler")
    assert_exact(tmp_path, (*opts, "DATALOADER.REPEAT_THRESHOLD", 0.9), semantic=False)


def test_an_evaluation_does_not_disturb_a_training(data, tmp_path):
    tested = ("DATASETS.TEST", (name_of(True),), "TEST.EVAL_PERIOD", 2)
    assert run(tmp_path / "a")[1] == run(tmp_path / "b", tested)[1]


def test_the_scale_of_mixed_precision_is_restored(data, tmp_path, caplog):
    def trainer(scale=None):
        made = Trainer(small_training_cfg(name_of(True), tmp_path, semantic=True))
        plain = made._trainer
        if scale:
            scaler = torch.amp.GradScaler("cpu", init_scale=scale)
            parts = plain.model, plain.data_loader, plain.optimizer
            made._trainer = AMPTrainer(*parts, grad_scaler=scaler)
        return made

    with_scale, without = trainer(8.0), trainer()
    with_scale.checkpointer.save("model_0000000")
    resumed = trainer(2.0)
    resumed.resume_or_load(resume=True)
    assert resumed._trainer.grad_scaler.get_scale() == 8.0
    without.resume_or_load(resume=True)
    assert "no state of" not in caplog.text
    without.checkpointer.save("model_0000001")
    resumed.resume_or_load(resume=True)
    assert resumed._trainer.grad_scaler.get_scale() == 8.0
    assert "The checkpoint has no state of grad_scaler, which starts anew." in caplog.text


# --- what the config decides ----------------------------------------------------------------


@pytest.fixture(scope="module")
def three_iterations(tmp_path_factory):
    """An output folder after three of six iterations, with learning rates 0.001, halved from the
    third iteration on."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    folder = tmp_path_factory.mktemp("three")
    records = write_records(folder, 10, semantic=True)
    DatasetCatalog.register(name_of(True), lambda: records)
    MetadataCatalog.get(name_of(True)).set(**METADATA)
    run(folder / "out", stop_after=2)
    yield folder / "out"
    DatasetCatalog.remove(name_of(True))
    MetadataCatalog.remove(name_of(True))


@pytest.fixture
def resumed(three_iterations, tmp_path, caplog):
    """Resumes the training of `three_iterations`: the trainer, what it saw, what was logged.

    A change is made to the checkpoint before.
    """
    output = tmp_path / "out"
    output.mkdir()
    for name in ("last_checkpoint", "metrics.json"):
        shutil.copy(three_iterations / name, output)
    (output / "model_0000002.pth").hardlink_to(three_iterations / "model_0000002.pth")

    def resume(*opts, change=None, **how):
        if change:
            file = output / "model_0000002.pth"
            checkpoint = torch.load(file, weights_only=True)
            change(checkpoint)
            file.unlink()
            torch.save(checkpoint, file)
        with caplog.at_level(logging.INFO, logger="pointrend_seg.engine.resuming"):
            trainer, steps = run(output, opts, resume=True, **how)
        return trainer, steps, caplog.text

    return resume


def warnings_of(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "pointrend_seg.engine.resuming" and record.levelno >= logging.WARNING
    ]


def test_nothing_is_said_where_nothing_changed(resumed, caplog):
    _, steps, log = resumed()
    assert list(steps) == [3, 4, 5] and warnings_of(caplog) == []
    assert "model_0000002.pth with iteration 3 of 6" in log


@pytest.mark.parametrize("name", ["WarmupPolyLR", "WarmupMultiStepLR", "WarmupCosineLR"])
def test_the_learning_rate_follows_from_the_config(name, three_iterations, resumed, tmp_path):
    """Whatever the schedule of the first iterations was."""
    opts = ("SOLVER.LR_SCHEDULER_NAME", name, "SOLVER.MAX_ITER", 9, "SOLVER.BASE_LR", 0.002)
    opts = (*opts, "SOLVER.STEPS", (4, 7), "SOLVER.GAMMA", 0.5)
    _, steps, log = resumed(*opts)
    _, whole = run(tmp_path / "whole", opts)
    assert {i: rate for i, (*_, rate) in steps.items()} == {i: whole[i][2] for i in range(3, 9)}
    assert "SOLVER.BASE_LR from 0.001 to 0.002; SOLVER.GAMMA from 0.1 to 0.5" in log
    assert "SOLVER.MAX_ITER from 6 to 9; SOLVER.STEPS from [5] to [4, 7]" in log


def test_the_optimizer_is_that_of_the_config(resumed, caplog):
    settings = {"MOMENTUM": 0.5, "WEIGHT_DECAY": 0.01, "NESTEROV": True, "IMS_PER_BATCH": 4}
    opts = [each for key, value in settings.items() for each in (f"SOLVER.{key}", value)]
    trainer, steps, _ = resumed(*opts, "SEED", 7)
    for group in trainer.optimizer.param_groups:
        assert (group["momentum"], group["nesterov"]) == (0.5, True)
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.0, 0.01}
    assert all(len(images) == 4 for images, *_ in steps.values())
    changes, seed = warnings_of(caplog)
    assert changes.endswith(
        "new values: SOLVER.IMS_PER_BATCH from 2 to 4; SOLVER.MOMENTUM from 0.9 to 0.5; "
        "SOLVER.NESTEROV from False to True; SOLVER.WEIGHT_DECAY from 0.0001 to 0.01."
    )
    assert "SEED 7 has no effect" in seed


def test_other_parameters_are_refused(resumed):
    with pytest.raises(InputError, match="SOLVER.BIAS_LR_FACTOR.*set them as they were"):
        resumed("SOLVER.BIAS_LR_FACTOR", 2.0)
    with pytest.raises(InputError, match="FREEZE_AT"):
        resumed("MODEL.BACKBONE.FREEZE_AT", 4)


@pytest.mark.parametrize("end", [3, 2])
def test_nothing_is_left_to_train(end, resumed, caplog, tmp_path):
    _, steps, _ = resumed("SOLVER.MAX_ITER", end)
    assert steps == {}
    assert any(
        f"3 iterations behind it, and SOLVER.MAX_ITER is {end}: nothing is left" in each
        for each in warnings_of(caplog)
    )
    final = torch.load(tmp_path / "out/model_final.pth", weights_only=True)
    last = torch.load(tmp_path / "out/model_0000002.pth", weights_only=True)
    states = (each["trainer"]["hooks"]["RunState"]["processes"] for each in (final, last))
    assert_same(*states)


# --- checkpoints that lack something --------------------------------------------------------


def test_a_checkpoint_of_detectron2(resumed, caplog):
    """It has neither random states nor a place; its optimizer says what the settings were."""

    def without_run_state(checkpoint):
        del checkpoint["trainer"]["hooks"]["RunState"]

    _, steps, _ = resumed("SOLVER.BASE_LR", 0.004, change=without_run_state)
    assert list(steps) == [3, 4, 5]
    anew, changes = warnings_of(caplog)
    assert anew == (
        "The order of images starts anew: the checkpoint has neither it nor the states of random "
        "numbers."
    )
    assert "SOLVER.BASE_LR from [0.001] to [0.004]" in changes


def test_detectron2_goes_on_from_a_checkpoint_of_ours(three_iterations, tmp_path):
    from detectron2.engine import DefaultTrainer

    state = torch.load(three_iterations / "model_0000002.pth", weights_only=True)["trainer"]
    trainer = Trainer(small_training_cfg(name_of(True), tmp_path, semantic=True))
    trainer._hooks = [hook for hook in trainer._hooks if type(hook).__name__ != "RunState"]
    DefaultTrainer.load_state_dict(trainer, state)
    assert trainer.iter == 2


def test_weights_alone(resumed, caplog):
    _, steps, _ = resumed(change=lambda checkpoint: checkpoint.pop("trainer"))
    assert list(steps) == list(range(6))
    (message,) = warnings_of(caplog)
    assert message.endswith(
        "weights but no state of a training: training begins with them at iteration 0."
    )


@pytest.mark.parametrize("part", ["_trainer", "optimizer", "hooks"])
def test_parts_of_the_state_are_missing(part, resumed, caplog):
    def remove(checkpoint):
        state = checkpoint["trainer"]
        del (state["_trainer"] if part == "optimizer" else state)[part]

    _, steps, _ = resumed(change=remove)
    assert list(steps) == [3, 4, 5]
    assert [rate for *_, rate in steps.values()] == pytest.approx([1e-3, 1e-3, 1e-4])
    (message,) = warnings_of(caplog)
    assert (
        "order of images starts anew" if part == "hooks" else "no state of optimizer"
    ) in message


def test_another_number_of_processes(resumed, caplog):
    def written_by_two(checkpoint):
        state = checkpoint["trainer"]["hooks"]["RunState"]
        state["processes"] *= 2

    resumed(change=written_by_two)
    (message,) = warnings_of(caplog)
    assert "2 process(es) wrote the checkpoint and 1 go(es) on" in message


def test_another_loader(resumed, caplog, monkeypatch):
    loader = Trainer.build_train_loader

    def rebuilt(cls, cfg):
        return iter(loader(cfg))

    monkeypatch.setattr(Trainer, "build_train_loader", classmethod(rebuilt))
    _, steps, _ = resumed()
    assert list(steps) == [3, 4, 5]
    (message,) = warnings_of(caplog)
    assert "starts anew: the data loader is none of this package" in message


def test_the_newest_checkpoint_is_found(resumed, tmp_path, caplog):
    """A kill between the first checkpoint and the file that names it."""
    (tmp_path / "out/last_checkpoint").unlink()
    _, steps, _ = resumed()
    assert list(steps) == [3, 4, 5]
    assert "model_0000002.pth instead" in caplog.text


@pytest.mark.parametrize("there", [True, False])
def test_there_is_nothing_to_resume_from(there, three_iterations, tmp_path, caplog):
    if there:
        (tmp_path / "empty").mkdir()
    weights = str(three_iterations / "model_0000002.pth")
    _, steps = run(tmp_path / "empty", ("MODEL.WEIGHTS", weights), resume=True)
    assert list(steps) == list(range(6))
    (message,) = warnings_of(caplog)
    assert message.endswith(f"training begins at iteration 0 from {weights}.")
