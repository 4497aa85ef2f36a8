"""What a training shows before its first loss, and where the rest is."""

import logging
import re

import pytest

from pointrend_seg.command_line import terminal
from pointrend_seg.command_line.terminal import shown_on_terminal
from screens import Screen

SMALL = [
    *(
        "SOLVER.MAX_ITER",
        1,
        "SOLVER.STEPS",
        "()",
        "SOLVER.IMS_PER_BATCH",
        1,
        "SOLVER.BASE_LR",
        0.01,
    ),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.CROP.SIZE", "(64, 64)", "INPUT.MIN_SIZE_TEST", 64),
]
CONFIGS = {
    "semantic": "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml",
    "instance": "configs/quick/pointrend_rcnn_R_18_FPN.yaml",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_training_starts_with_few_lines(
    kind, run_in_process, monkeypatch, request, tmp_path, datasets, instance_datasets
):
    monkeypatch.chdir(request.config.rootpath)
    out = tmp_path / "out"
    args = ["--config-file", CONFIGS[kind], *SMALL, "OUTPUT_DIR", out]
    if kind == "instance":
        args += ["DATASETS.TRAIN", "('synthetic_instances_train',)"]
        args += ["DATASETS.TEST", "('synthetic_instances_val',)"]
    status, shown, errors = run_in_process("train_net", *args)
    assert status == 0, errors
    first_loss = next(n for n, line in enumerate(shown.splitlines()) if "total_loss" in line)
    assert 8 <= first_loss <= 20
    start = "\n".join(shown.splitlines()[:first_loss])
    model = {"semantic": "PointRendSemanticHead", "instance": "PointRendInstanceHead"}[kind]
    objects = {"semantic": "images$", "instance": r"images with \d+ objects$"}[kind]
    for text in (
        "Versions: Python .*torch",
        f"Config: {CONFIGS[kind]}$",
        rf"Training data: \w+, \d+ {objects}",
        "Weights: none, the model starts from random ones$",
        f"Model: .*{model}.* million parameters, on cpu$",
        r"Classes \(\d+\): \w+, ",
        r"Iterations: 0 to 1 with 1 image\(s\) each",
        f"Output: {out}; its log.txt has all details$",
    ):
        assert re.search(text, start, re.MULTILINE), text
    log = (out / "log.txt").read_text()
    for text in ("Environment:\n", "Full config:\n", "Model:\n", "Command line arguments"):
        assert text in log and text not in shown
    assert "\x1b[" not in log + shown


def test_colours_and_losses_on_a_terminal(monkeypatch):
    """A progress bar shows the losses; warnings are shown, whoever warns."""
    screen = Screen()
    monkeypatch.setattr(terminal.sys, "stdout", screen)
    monkeypatch.setattr(terminal.sys, "stderr", Screen())
    monkeypatch.delenv("NO_COLOR", raising=False)
    with shown_on_terminal():
        logging.getLogger("detectron2.utils.events").info("iter: 19")
        logging.getLogger("detectron2.engine.defaults").info("Model:\n%s", "(conv1)\n" * 300)
        logging.getLogger("fvcore.common.checkpoint").info("Saving checkpoint to a.pth")
        logging.getLogger("pointrend_seg.data").warning("Look at this")
        logging.getLogger("pointrend_seg.data").debug("for the log")
    first, second = screen.text.splitlines()
    assert first.startswith("\x1b[32m[") and first.endswith("Saving checkpoint to a.pth")
    assert "WARNING" in second and second.endswith("Look at this")


def test_other_processes_show_nothing(capsys):
    with shown_on_terminal(rank=1):
        logging.getLogger("pointrend_seg.data").warning("Look at this")
    assert capsys.readouterr() == ("", "")
