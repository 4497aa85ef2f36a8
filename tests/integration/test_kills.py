"""Trainings that are really killed and stopped, in processes of their own, and resumed."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from kills import Training, kill_and_resume

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("default_signals")]


@pytest.fixture
def training(datasets, tmp_path):
    """Makes a training of so many iterations, with checkpoints."""

    def make(iterations, period, *opts):
        steps = ("SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", period)
        return Training(tmp_path / "out", datasets, *steps, *opts)

    return make


def final_iteration(training):
    """Iteration of the final model, which is whole."""
    content = torch.load(training.output / "model_final.pth", weights_only=False)
    return content["iteration"]


def test_random_kills(training):
    killed = training(60, 2)
    done = kill_and_resume(killed, kills=3)
    assert any(was_running for _, was_running in done)
    assert final_iteration(killed) == 59
    for file in killed.output.glob("model_*.pth"):
        assert "model" in torch.load(file, weights_only=False)
    assert not list(killed.output.glob(".*.part.*"))
    assert killed.iterations()[-1] == 59
    assert "Traceback" not in killed.text


def test_a_kill_while_the_final_model_is_written(training):
    killed = training(3, 3)
    for resume in ([], ["--resume"]):
        killed.start(*resume)
        end = time.monotonic() + 120
        while not (killed.output / ".model_final.part.pth").exists():
            assert time.monotonic() < end and killed.process.poll() is None
        assert killed.end(signal.SIGKILL) == -signal.SIGKILL
        assert not (killed.output / "model_final.pth").exists()
        assert (killed.output / "last_checkpoint").read_text() == "model_0000002.pth"
    assert killed.run("--resume") == 0, killed.text
    assert final_iteration(killed) == 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_all_processes_of_a_training(number, status, training):
    """As of Slurm and of a terminal: to those of the data loader, too."""
    stopped = training(1000, 1000)
    process = stopped.start()
    stopped.wait_for("Starting training")
    time.sleep(1)
    os.killpg(process.pid, number)
    assert stopped.end() == status, stopped.text
    (last,) = stopped.output.glob("model_*.pth")
    said = stopped.text.strip().splitlines()[-1]
    assert said.endswith(f"--resume goes on from {last}.") and "Traceback" not in stopped.text
    assert stopped.run("--resume", "SOLVER.MAX_ITER", int(last.stem[6:]) + 2) == 0
    assert f"Going on from {last}" in stopped.text


def test_a_signal_to_one_of_two_processes(training):
    stopped = training(1000, 1000)
    process = stopped.start("--num-gpus", 2)
    stopped.wait_for("Starting training")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    assert len(workers) == 2
    time.sleep(1)
    os.kill(int(workers[1]), signal.SIGTERM)
    assert stopped.end() == 143, stopped.text
    (last,) = stopped.output.glob("model_*.pth")
    content = torch.load(last, weights_only=True)
    assert content["iteration"] == int(last.stem[6:])
    places = [each["places"] for each in content["trainer"]["hooks"]["RunState"]["processes"]]
    assert len(places) == 2 and places[0] == places[1]  # of the iteration that was the last
    assert stopped.text.count("--resume goes on from") == 1 and "Traceback" not in stopped.text


def test_two_trainings_in_one_folder(training, tmp_path):
    first = training(1000, 1000)
    first.start()
    first.wait_for("Starting training")
    second = training(1000, 1000)
    second.start("--resume")
    assert second.end() == 2
    assert (
        f"Another training writes to {first.output}: process {first.process.pid} on"
        in (second.text.strip().splitlines()[-1])
    )
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    assert first.run("SOLVER.MAX_ITER", 2) == 0
    assert "was killed" in first.text and final_iteration(first) == 1
