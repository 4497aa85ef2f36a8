"""Labels of other tools become a data set that is clean and can be trained on."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

import train_net


@pytest.mark.parametrize(
    ("options", "warnings"),
    [(["--val", "0.5", "--link"], 0), (["--tile", "32"], 4)],  # 4 tiles have no object
)
def test_the_next_command_is_understood(tmp_path, run_in_process, monkeypatch, options, warnings):
    convert(tmp_path, run_in_process, monkeypatch, options, warnings)


@pytest.mark.slow
def test_the_next_command_trains(tmp_path, run_in_process, monkeypatch, request):
    command, args = convert(tmp_path, run_in_process, monkeypatch, ["--val", "0.5"], 0)
    config = request.config.rootpath / args.config_file
    status, _, err = run_in_process(
        *("train_net", *shlex.split(command.replace(args.config_file, str(config)))),
        *("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0),
    )
    assert status == 0, err
    assert (tmp_path / "cells/model/model_final.pth").exists()


def convert(tmp_path, run_in_process, monkeypatch, options, warnings):
    """Convert 4 images of 2 objects; return the next command as text and as options."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(4):
        mask = np.zeros((64, 64), np.uint16)
        mask[8:28, 8:28], mask[40:60, 10 + k : 50] = 1, 500
        Image.fromarray(mask).save(f"masks/{k}.tif")
        pixels = np.random.default_rng(k).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(f"images/{k}.png")
    status, out, err = run_in_process(
        *("convert_data", "--format", "instance-masks", "--images", "images", "--labels", "masks"),
        *("--class", "cell", "--output", "cells", *options),
    )
    assert status == 0 and f"No error and {warnings} warnings." in out, out + err
    command = re.search(r"python tools/train_net.py (.*)", out.replace("\\\n", " "))[1]
    return command, train_net.parser().parse_args(shlex.split(command))


def test_mistakes(tmp_path, run_in_process):
    status, _, err = run_in_process(
        *("convert_data", "--format", "instance-masks", "--labels", tmp_path),
        *("--output", tmp_path / "out"),
    )
    assert status == 2 and "--format instance-masks needs --images and --labels." in err
