"""What a training leaves when a signal, a NaN or a refusal ends it."""

import os
import signal

import pytest
import torch
from detectron2.engine import HookBase

from pointrend_seg.checkpoint.loading import Checkpointer
from pointrend_seg.engine import Trainer
from pointrend_seg.engine.stopping import Stopped, stoppable
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg
from small_trainings import small_training_cfg, write_records

pytestmark = pytest.mark.usefixtures("default_signals")


class At(HookBase):
    """Call a function after an iteration, before or after all other hooks."""

    def __init__(self, iteration, function):
        self.iteration, self.function = iteration, function

    def after_step(self):
        if self.trainer.iter == self.iteration:
            self.function(self.trainer)


@pytest.fixture
def cfg(registered, tmp_path):
    """Makes configs of a training of 6 iterations with a checkpoint after each third."""
    records = write_records(tmp_path, 4, semantic=True)
    name = registered(
        "survivors", records, stuff_classes=list("abc"), ignore_label=255, evaluator_type="sem_seg"
    )
    return lambda *opts: small_training_cfg(name, tmp_path / "out", opts, semantic=True)


def trained(cfg, *hooks, first=False):
    trainer = Trainer(cfg)
    trainer.register_hooks(hooks)
    if first:
        trainer._hooks[:] = [*hooks, *(hook for hook in trainer._hooks if hook not in hooks)]
    trainer.resume_or_load(resume=True)
    trainer.train()
    return trainer


def send(number):
    return lambda trainer: os.kill(os.getpid(), number)


def files(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith("events")}


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_signal(number, status, first, cfg, tmp_path):
    said = r"iteration 3. --resume .*out/model_0000003.pth"
    with pytest.raises(Stopped, match=said) as stopped, stoppable():
        trained(cfg(), At(3, send(number)), first=first)
    assert stopped.value.status == status
    assert files(tmp_path / "out") == {
        *("model_0000002.pth", "model_0000003.pth", "last_checkpoint", "metrics.json")
    }
    content = torch.load(tmp_path / "out" / "model_0000003.pth", weights_only=False)
    assert content["iteration"] == content["trainer"]["iteration"] == 3
    second = trained(cfg())
    assert second.start_iter == 4
    assert (tmp_path / "out" / "last_checkpoint").read_text() == "model_final.pth"


def test_a_signal_when_a_checkpoint_is_due_saves_once(cfg, monkeypatch):
    saved = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *args: (saved.append(args[1].name), save(*args)))
    with pytest.raises(Stopped, match="model_0000002.pth"), stoppable():
        trained(cfg(), At(2, send(signal.SIGTERM)))
    assert [os.path.basename(name) for name in saved] == [".model_0000002.part.pth"]


@pytest.mark.parametrize(("iteration", "period"), [(2, 3), (5, 0)])
def test_a_signal_before_an_evaluation_leaves_it_out(iteration, period, cfg, tmp_path):
    cfg = cfg("DATASETS.TEST", ("survivors",), "TEST.EVAL_PERIOD", period)
    name = "model_final" if iteration == 5 else "model_0000002"
    with pytest.raises(Stopped, match=f"--resume goes on from .*{name}.pth"), stoppable():
        trained(cfg, At(iteration, send(signal.SIGTERM)), first=True)
    assert (tmp_path / "out" / "last_checkpoint").read_text() == f"{name}.pth"
    assert not list((tmp_path / "out").glob("inference/*/*evaluation*"))
    trained(cfg)
    assert list((tmp_path / "out").glob("inference/*/*evaluation*"))


def test_the_hooks_save_with_the_trainers_checkpointer(cfg):
    """Detectron2's would not save whole files."""
    trainer = Trainer(cfg())
    (found,) = [h.checkpointer for h in trainer._hooks if hasattr(h, "checkpointer")]
    assert found is trainer.checkpointer and isinstance(found, Checkpointer)


@pytest.mark.parametrize("iteration", [2, 5])
def test_weights_that_diverged_are_no_checkpoint(iteration, cfg, tmp_path):
    def diverge(trainer):
        next(trainer.model.parameters()).data.fill_(float("nan"))

    before = "no" if iteration == 2 else "model_0000002.pth, is kept"
    with pytest.raises(InputError, match="diverged") as error:
        trained(cfg(), At(iteration, diverge), first=True)
    assert before in str(error.value)
    assert not (tmp_path / "out" / "model_final.pth").exists()
    assert (tmp_path / "out" / "model_0000002.pth").exists() is (iteration == 5)


# --- a refusal -------------------------------------------------------------------------------


@pytest.fixture
def folder(run_in_process, instance_datasets, request, monkeypatch, tmp_path):
    """An output folder of a training, and a function that runs train_net.py in it."""
    monkeypatch.chdir(request.config.rootpath)
    config, out = tmp_path / "a.yaml", tmp_path / "out"
    opts = (
        *("DATASETS.TRAIN", ("synthetic_instances_train",), "SOLVER.MAX_ITER", 2),
        *("DATASETS.TEST", ("synthetic_instances_val",), "INPUT.MIN_SIZE_TEST", 64),
        *("INPUT.MIN_SIZE_TRAIN", (64,), "SOLVER.IMS_PER_BATCH", 1, "OUTPUT_DIR", str(out)),
        *("DATALOADER.NUM_WORKERS", 0, "SOLVER.BASE_LR", 1e-5, "TEST.REPORT", False),
        *("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN"),
    )
    config.write_text(small_instance_cfg(9, opts).dump())

    def run(*args):
        return run_in_process("train_net", "--config-file", config, *args)

    status, _, text = run("TEST.DETECTIONS_PER_IMAGE", 3)
    assert status == 0, text
    return out, run


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--resume", "DATASETS.TRAIN", "('synthetic_instances_tran',)"), "synthetic_instances_tr"),
        (("MODEL.WEIGHTS", "gone.pth"), "no weights at gone.pth"),
        (("MODEL.ROI_HEADS.NUM_CLASSES", 5), "NUM_CLASSES is 5"),
        (("--resume", "MODEL.FPN.OUT_CHANNELS", 64), "other parameters than"),
        (("MODEL.NO_SUCH_KEY", 5), "NO_SUCH_KEY"),
        (("--eval-only", "MODEL.WEIGHTS", "gone.pth"), "no weights at gone.pth"),
        (("--eval-only", "DATASETS.TEST", "('nothing',)"), "nothing"),
    ],
)
def test_what_is_refused_changes_no_file(args, expected, folder):
    out, run = folder
    before = contents(out)
    status, _, text = run(*args)
    assert status == 2 and expected in text, text
    assert contents(out) == before


def test_evaluation_and_dry_run_leave_the_config_of_the_training(folder):
    out, run = folder
    config, log = (out / "config.yaml").read_text(), (out / "log.txt").read_text()
    assert "DETECTIONS_PER_IMAGE: 3" in config and not (out / "eval_config.yaml").exists()
    for said in ("Environment:", "Full config:", "pointrend_seg.data", "total_loss"):
        assert said in log
    before = contents(out)
    assert run("--dry-run", "SOLVER.MAX_ITER", 7)[0] == 0
    assert contents(out) == before
    assert run("--eval-only", "--resume", "TEST.DETECTIONS_PER_IMAGE", 4)[0] == 0
    assert (out / "config.yaml").read_text() == config
    assert "DETECTIONS_PER_IMAGE: 4" in (out / "eval_config.yaml").read_text()
    assert (out / "log.txt").read_text().startswith(log)
    assert not (out / "training.lock").exists()
