"""`tools/train_net.py` in two processes, as its users start it."""

import json
import os
import signal

import pytest
import torch

from kills import Training
from tool_runs import free_port

STEPS = ("SOLVER.MAX_ITER", 4, "DATALOADER.NUM_WORKERS", 1, "SOLVER.CHECKPOINT_PERIOD", 2)
SHARED = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


def files(training):
    """Names of the files of a training, but for the log of TensorBoard."""
    return {path.name for path in training.output.iterdir() if "tfevents" not in path.name}


def numbers(training):
    """What ``metrics.json`` has, but for times."""
    lines = (training.output / "metrics.json").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "time" not in k} for line in lines]


@pytest.mark.slow
def test_torchrun_trains_what_num_gpus_trains(datasets, tmp_path):
    own, other = (Training(tmp_path / name, datasets, *STEPS) for name in ("own", "other"))
    assert own.start("--num-gpus", 2, OMP_NUM_THREADS="1").wait(120) == 0
    shared = SHARED | {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    ranks = [other.start(**shared, RANK=rank, LOCAL_RANK=rank) for rank in "10"]
    assert [process.wait(120) for process in ranks] == [0, 0]
    assert files(own) == files(other) >= {"config.yaml", "log.txt", "log.txt.rank1"}
    assert numbers(own) == numbers(other) and len(numbers(own)) >= 1
    weights = [torch.load(t.output / "model_final.pth")["model"] for t in (own, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_each_process_once(datasets, tmp_path):
    """A second one would end it without a checkpoint."""
    training = Training(tmp_path / "out", datasets, "SOLVER.MAX_ITER", 100_000)
    training.start("--num-gpus", 2)
    training.wait_for("total_loss")
    os.killpg(training.process.pid, signal.SIGINT)
    assert training.process.wait(120) == 130
    assert training.log.read_text().count("Training was stopped by a signal") == 1
    assert list(training.output.glob("model_*.pth"))
