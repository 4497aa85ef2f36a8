"""Steps that the demos share: the environment, synthetic data, training that can be continued."""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def prepare(output: Path) -> None:
    """Set the environment of this process and its children.

    Call it before importing Detectron2, which reads DETECTRON2_DATASETS on import.
    """
    os.environ["DETECTRON2_DATASETS"] = str(output / "datasets")
    # Spinning threads make training several times slower if other processes use the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_data(root: Path, *, layout: str, train: int, val: int, seed: int) -> None:
    """Write synthetic data below ``root``, unless it is there already."""
    command = [sys.executable, str(ROOT / "tools" / "make_synthetic_data.py")]
    command += ["--layout", layout, "--output", str(root), "--seed", str(seed)]
    subprocess.run([*command, "--train", str(train), "--val", str(val)], check=True)


def train(
    output: Path, config: Path, opts: tuple[str, ...] = (), data: tuple[str, ...] = ()
) -> float | None:
    """Train, continue an interrupted training of the same config, or do nothing if it is done.

    Args:
        opts: KEY, VALUE, KEY, VALUE, …, as for train_net.py.
        data: options of train_net.py that name data sets.

    Returns:
        seconds of training and evaluation; None if they were interrupted.
    """
    from pointrend_seg.engine.config_loading import load_config

    stamp, done = output / "config.sha256", output / "seconds.json"
    text = load_config(str(config), list(opts)).dump()
    digest = hashlib.sha256("\n".join([text, *data]).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        stamp.write_text(digest)
    if done.exists():
        print(f"{output}: is there already")
        return json.loads(done.read_text())
    interrupted = (output / "last_checkpoint").exists()
    start = time.monotonic()
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--resume"]
    command += ["--config-file", str(config), *data, *opts, "OUTPUT_DIR", str(output)]
    subprocess.run(command, check=True)
    seconds = None if interrupted else round(time.monotonic() - start)
    done.write_text(json.dumps(seconds))
    return seconds


def run_demo(run: Callable[[Path], None], description: str, default: str) -> None:
    """Parse the command line of a demo and run it; exit with the status of a step that fails."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path(default), help=f"output folder (default {default})"
    )
    output = parser.parse_args().output.resolve()
    prepare(output)
    from pointrend_seg.command_line.running import run_tool

    def run_steps() -> None:
        try:
            run(output)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)

    run_tool(run_steps)
