"""Trainings that are killed at random moments end as undisturbed ones, to the bit."""

import os
import random
import signal
import subprocess
import time

import pytest
import torch

from kills import Training
from small_configs import small_instance_cfg
from small_trainings import assert_same

ITERATIONS = 30
LENGTH = ("SOLVER.MAX_ITER", ITERATIONS, "SOLVER.CHECKPOINT_PERIOD", 4)
INSTANCES = (
    *("DATASETS.TRAIN", ("synthetic_instances_train",), "DATASETS.TEST", ()),
    *("INPUT.MIN_SIZE_TRAIN", (64, 80), "SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 1e-3),
    # frozen normalisation lets the features of random weights grow until boxes are infinite
    *("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN", "SEED", 1),
)


def make(folder, datasets, *opts, semantic):
    training = Training(folder, datasets, *LENGTH, *opts)
    if not semantic:
        training.config.write_text(small_instance_cfg(9, (*INSTANCES, *LENGTH, *opts)).dump())
    return training


def run(training, *args):
    """Run a training to its end, however slow the machine is."""
    training.start(*args)
    assert training.end(timeout=1200) == 0, training.text[-3000:]


def last_iteration(training):
    """The iteration of the last checkpoint, -1 if there is none."""
    file = training.output / "last_checkpoint"
    name = file.read_text() if file.exists() else "model_-1.pth"
    return ITERATIONS - 1 if "final" in name else int(name[6:-4])


def kill(training, iteration, seconds, *args):
    """Start a training, kill all its processes at once, and return whether it still ran.

    Args:
        iteration: a checkpoint of it, or of a later one, is waited for; None to kill the training
            while it starts.
        seconds: to wait after that.
    """
    training.start("--resume", *args)
    if iteration is not None:
        training.wait_for("Starting training", timeout=600)
        while last_iteration(training) < iteration and training.process.poll() is None:
            time.sleep(0.02)
    try:
        training.process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(training.process.pid, signal.SIGKILL)
        return training.end() == -signal.SIGKILL
    assert training.end() == 0, training.text[-3000:]
    return False


def end_of(training):
    """Return all that its last checkpoint holds, but for the folder in the config."""
    checkpoint = torch.load(training.output / "model_final.pth", weights_only=True)
    del checkpoint["trainer"]["hooks"]["RunState"]["config"]
    return {**checkpoint, "model": dict(checkpoint["model"])}


def compare_with_killed(tmp_path, datasets, *opts, semantic, kills, args=()):
    """Run a training undisturbed and one with kills; print figures."""
    whole = make(tmp_path / "whole", datasets, *opts, semantic=semantic)
    run(whole, *args)
    killed = make(tmp_path / "killed", datasets, *opts, semantic=semantic)
    moments = random.Random(f"{semantic} {opts} {args}")
    hit, found = 0, []
    for number in range(kills):
        if number == kills // 2:
            hit += kill(killed, None, moments.uniform(1, 6), *args)
        else:  # at any point of the next iterations, also in the next checkpoint
            iteration = number * (ITERATIONS - 10) // kills - 1 + moments.randrange(5)
            hit += kill(killed, iteration, moments.uniform(0, 0.8), *args)
        found.append(last_iteration(killed))
    run(killed, "--resume", *args)
    task = "semantic" if semantic else "instance"
    print(f"\n{task} {' '.join(map(str, (*opts, *args)))}: {hit} of {kills} kills before the end,")
    print(f"after them the last checkpoints were those of iterations {', '.join(map(str, found))}")
    assert hit == kills
    assert_same(end_of(killed), end_of(whole))
    assert killed.iterations()[-1] == whole.iterations()[-1] == ITERATIONS - 1
    assert sorted(path.name for path in killed.output.glob("model_*")) == sorted(
        path.name for path in whole.output.glob("model_*")
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("semantic", [True, False])
def test_kills_leave_no_trace(semantic, workers, datasets, instance_datasets, tmp_path, capfd):
    """Twenty kills in the four trainings."""
    opts = ("DATALOADER.NUM_WORKERS", workers)
    with capfd.disabled():
        compare_with_killed(tmp_path, datasets, *opts, semantic=semantic, kills=5)


@pytest.mark.slow
@pytest.mark.parametrize("semantic", [True, False])
def test_kills_of_two_processes_leave_no_trace(
    semantic, datasets, instance_datasets, tmp_path, capfd
):
    how = {"semantic": semantic, "kills": 3, "args": ("--num-gpus", "2")}
    with capfd.disabled():
        compare_with_killed(tmp_path, datasets, "DATALOADER.NUM_WORKERS", 2, **how)
