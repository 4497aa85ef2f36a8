"""Steps that the demos share: quiet processes, synthetic data, a training that can be taken up."""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def prepare(output: Path) -> None:
    """Set the environment of this process and its children. Call it before Detectron2 is imported.

    Detectron2 reads DETECTRON2_DATASETS when it is imported.
    """
    os.environ["DETECTRON2_DATASETS"] = str(output / "datasets")
    # Threads that spin while they wait make a training several times slower where something else
    # runs on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What Detectron2 calls is deprecated in PyTorch and setuptools; nobody who runs a demo can act.
    os.environ["PYTHONWARNINGS"] = "ignore::FutureWarning,ignore::UserWarning"
    warnings.simplefilter("ignore")


def make_data(root: Path, *, layout: str, train: int, val: int, seed: int) -> None:
    """Write synthetic scenes below ``root``, or find them there."""
    command = [sys.executable, str(ROOT / "tools" / "make_synthetic_data.py")]
    command += ["--layout", layout, "--output", str(root), "--seed", str(seed)]
    subprocess.run([*command, "--train", str(train), "--val", str(val)], check=True)


def train(output: Path, config: Path, opts: tuple[str, ...] = ()) -> float | None:
    """Train, or go on with a training of the same config, or find it done.

    Args:
        opts: KEY, VALUE, KEY, VALUE, …, as train_net.py takes them.

    Returns:
        the seconds that training and evaluation took; None when they were interrupted.
    """
    from pointrend_seg.engine.config_loading import load_config

    stamp, done = output / "config.sha256", output / "seconds.json"
    text = load_config(str(config), list(opts)).dump()
    digest = hashlib.sha256(text.encode()).hexdigest()
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
    command += ["--config-file", str(config), *opts, "OUTPUT_DIR", str(output)]
    subprocess.run(command, check=True)
    seconds = None if interrupted else round(time.monotonic() - start)
    done.write_text(json.dumps(seconds))
    return seconds


def run_demo(run: Callable[[Path], None], description: str, default: str) -> None:
    """The command line of a demo: where its output goes; a step that fails has said why."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(default))
    try:
        run(parser.parse_args().output.resolve())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
