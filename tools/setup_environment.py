#!/usr/bin/env python3
"""Make or complete the environment that the Makefile's targets run in.

    python3 tools/setup_environment.py .venv

A folder that does not exist becomes a virtual environment with the versions of constraints.txt; one
that was never finished is made again from scratch. An environment that exists keeps what it has and
gets what is missing. `.setup.json` in it tells whether it was made here (`made_here`), what was
there before (`before`) and, once a set-up was finished, the digest of what that depended on
(`stamp`).
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (runs in environments that exist, too)
    raise SystemExit(
        "Python 3.10 or newer is needed, and {} is Python {}.{}. Name another: make setup "
        "PYTHON=python3.12 (or VENV=/another/place)".format(sys.executable, *sys.version_info[:2])
    )

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
BUILDER = ROOT / "tools" / "build_detectron2_wheel.py"
KEYED_BY = (ROOT / "setup.py", ROOT / "pyproject.toml", CONSTRAINTS, BUILDER, Path(__file__))
LOCK, STATE = ".setup.lock", ".setup.json"
# Never held back in an environment that exists: PyTorch wants a newer setuptools than a virtual
# environment begins with, and which OpenCV fits depends on NumPy.
FREE = {"pip", "setuptools", "pointrend-seg", "opencv-python-headless"}


def read_state(venv: Path) -> dict:
    path = venv / STATE
    return json.loads(path.read_text()) if path.exists() else {}


def write_state(venv: Path, state: dict) -> None:
    part = venv / f"{STATE}.part"
    part.write_text(json.dumps(state))
    os.replace(part, venv / STATE)


def digest() -> str:
    parts = [str(ROOT).encode(), *(path.read_bytes() for path in KEYED_BY if path.exists())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_ready(venv: Path) -> bool:
    return (venv / "bin/python").exists() and read_state(venv).get("stamp") == digest()


def is_ours(venv: Path) -> bool:
    """Tell whether the environment was made here, or there is nothing yet to make it of."""
    if "made_here" in read_state(venv) or not venv.exists():
        return True
    return venv.is_dir() and all(name.startswith(".setup.") for name in os.listdir(venv))


def canonical(requirement: str) -> str:
    return re.sub("[-_.]+", "-", re.match(r"[\w.-]*", requirement).group()).lower()


def run(command: list, failure: str, **variables: str) -> None:
    """Run a command, which holds the lock even if it outlives this script; exit if it fails."""
    if subprocess.run(command, env={**os.environ, **variables}, close_fds=False).returncode:
        raise SystemExit(f"[setup] {failure}")


def create(venv: Path) -> None:
    """Make the virtual environment, in place of what an interrupted set-up left."""
    print(f"[setup] making a virtual environment in {venv} ({sys.executable})", flush=True)
    write_state(venv, {"made_here": True, "before": []})
    for path in venv.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (LOCK, STATE):
            path.unlink()
    run([sys.executable, "-m", "venv", venv], "The environment was not made; see above.")


def start(venv: Path) -> dict:
    """Return the state; record what is there before, or forget what pip left half installed."""
    site = Path(sysconfig.get_path("purelib"))
    present = {path.name for path in site.glob("*.dist-info")}
    state = read_state(venv)
    if not state:
        state = {"before": sorted(present) + ["cv2"] * bool(find_spec("cv2"))}
        write_state(venv, state)
    for name in present - set(state["before"]):
        if not (site / name / "INSTALLER").exists():  # pip writes it last
            shutil.rmtree(site / name)
    return state


def complete(venv: Path) -> None:
    """Install what is missing; runs in the environment's own Python, with the lock held."""
    state = start(venv)
    named = [each for each in distributions() if each.metadata["Name"]]
    found = {canonical(each.metadata["Name"]): each.version for each in named}
    had_torch = any(name.startswith("torch-") for name in state["before"])
    if had_torch and "torch" in found and "torchvision" not in found:
        raise SystemExit(
            f"{venv} has torch but no torchvision. Install the torchvision that was built for it,"
            " from where that torch came, and repeat the command."
        )
    if "labgym" in found.get("detectron2", ""):  # an older one of ours makes way for the new one
        del found["detectron2"]
    what = ["torch", "torchvision", "--editable", f"{ROOT}[dev]"]
    has_cv2 = "cv2" in state["before"] and find_spec("cv2")
    if not has_cv2 and not any(name.startswith("opencv-") for name in found):
        what.append("opencv-python-headless")
    with tempfile.TemporaryDirectory() as folder:
        pins = CONSTRAINTS
        if "made_here" not in state:
            kept = [f"{name}=={version}" for name, version in found.items() if name not in FREE]
            lines = CONSTRAINTS.read_text().splitlines()
            kept += [line for line in lines if canonical(line) not in {*found, *FREE}]
            pins = Path(folder, "constraints.txt")
            pins.write_text("\n".join(kept))
        if "detectron2" not in found:
            run([sys.executable, BUILDER, "--output", folder], "Detectron2 was not built.")
            what += map(str, Path(folder).glob("*.whl"))
        print("[setup] installing what is missing; PyTorch alone: minutes and 3 GB", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        failure = (
            "pip failed; its message is above. If this machine has no network, docs/installation.md"
            " says how to install from a folder of wheels. Repeat the command to go on."
        )
        # As variables they also hold where pip builds a wheel; pip 25.3 knows the second one.
        pinned = {"PIP_CONSTRAINT": str(pins), "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS)}
        run([*pip, *what], failure, **pinned)
        if "lvis" not in found:  # asks for opencv-python, whose files are those of the headless one
            run([*pip, "--no-deps", "lvis"], failure, **pinned)
    write_state(venv, {**state, "stamp": digest()})
    print(f"[setup] {venv} is ready", flush=True)


def main(venv: Path) -> None:
    """Make the environment where there is none, then complete it in its own Python."""
    if is_ready(venv):
        return
    python = venv / "bin/python"
    if not (python.exists() or is_ours(venv)):
        raise SystemExit(
            f"{venv} exists and is no environment: it has no bin/python that runs. Remove it, or"
            " name another place: make setup VENV=/another/place"
        )
    venv.mkdir(parents=True, exist_ok=True)
    lock = os.open(venv / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"[setup] another set-up is at work in {venv}; waiting for it to end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    if not is_ready(venv):
        if is_ours(venv) and not (python.exists() and "stamp" in read_state(venv)):
            create(venv)
        os.execv(python, [python, __file__, venv, "complete"])


if __name__ == "__main__":
    try:
        (complete if sys.argv[2:] else main)(Path(sys.argv[1]).absolute())
    except KeyboardInterrupt:
        print("\n[setup] interrupted; repeat the command to go on", file=sys.stderr)
        raise SystemExit(130) from None
