"""Trainings in processes of their own, which signals and kills end."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from small_configs import small_semantic_cfg
from tool_runs import REPOSITORY

_OPTS = (
    *("DATASETS.TRAIN", ("cityscapes_fine_sem_seg_train",), "DATASETS.TEST", ()),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "INPUT.CROP.SIZE", (64, 64)),
    *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 1e-4, "DATALOADER.NUM_WORKERS", 2),
    *("TEST.EVAL_PERIOD", 0, "TEST.REPORT", False, "SEED", 1),
)


class Training:
    """A small training on the CPU, which can be started, ended and resumed.

    Args:
        output: its OUTPUT_DIR.
        datasets: with the tree of the fixture ``datasets``.
        opts: changes to the config.
    """

    def __init__(self, output: Path, datasets: Path, *opts):
        self.output, self.datasets = output, datasets
        self.config = output.with_name(f"{output.name}.yaml")
        self.config.write_text(small_semantic_cfg(19, (*_OPTS, *opts)).dump())
        self.process = None
        self.text = ""

    def start(self, *args, **environment) -> subprocess.Popen:
        """Start it with more arguments of train_net.py; the process leads a group of its own."""
        self.log = self.output.with_name(f"{self.output.name}_{time.monotonic_ns()}.txt")
        command = [sys.executable, "tools/train_net.py", "--config-file", self.config, *args]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*map(str, command), "OUTPUT_DIR", str(self.output)],
                cwd=REPOSITORY,
                env=os.environ
                | {"DETECTRON2_DATASETS": str(self.datasets), "PYTHONWARNINGS": "ignore"}
                | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def end(self, *numbers: int, timeout: float = 120) -> int:
        """Send signals, wait for the end and return the exit status; `text` is the output."""
        for number in numbers:
            os.kill(self.process.pid, number)
        try:
            status = self.process.wait(timeout)
        finally:
            self.process.kill()
            self.text = self.log.read_text()
        return status

    def run(self, *args) -> int:
        """Start it and wait for the end."""
        self.start(*args)
        return self.end()

    def wait_for(self, text: str, timeout: float = 120) -> None:
        """Wait until the output has a text."""
        end = time.monotonic() + timeout
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def kill_at(self, seconds: float, *args) -> bool:
        """Start it and kill it so long after its first iteration; return whether it still ran.

        Processes of its data loader, which see that it is gone, are left to end by themselves.
        """
        self.start(*args)
        try:
            self.wait_for("Starting training")
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.end(signal.SIGKILL) == -signal.SIGKILL
        self.end()
        return False

    def iterations(self) -> list[int]:
        """The iterations in metrics.json, every line of which can be read."""
        file = self.output / "metrics.json"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line)["iteration"] for line in lines]


def kill_and_resume(training: Training, kills: int, seed: int = 0, within: float = 3.0) -> list:
    """Kill a training at random moments, resuming it each time, then let it end.

    Args:
        kills: how many times.
        seed: of the moments.
        within: seconds after its start in which it is killed, drawn uniformly.

    Returns:
        for each kill, the second and whether it came before the training had ended.
    """
    moments = random.Random(seed)
    done = []
    for _ in range(kills):
        second = moments.uniform(0, within)
        done.append((second, training.kill_at(second, "--resume")))
    assert training.run("--resume") == 0, training.text[-3000:]
    return done
