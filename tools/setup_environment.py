#!/usr/bin/env python3
"""Make or complete the environment that the Makefile's targets run in.

    python3 tools/setup_environment.py .venv

A folder that does not exist becomes a virtual environment with the versions of constraints.txt;
if it was left unfinished, it is made anew. An environment that exists keeps what it has and gets
what is missing. `.setup.json` in the environment holds what was there before the set-up
(`before`, empty for an environment made here) and, when finished, the digest of what it depends on
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


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def read_state(venv: Path) -> dict:
    path = venv / STATE
    return json.loads(path.read_text()) if path.exists() else {}


def write_state(venv: Path, **state) -> None:
    part = venv / f"{STATE}.part"
    part.write_text(json.dumps(state))
    os.replace(part, venv / STATE)


def digest() -> str:
    parts = [str(ROOT).encode(), *(path.read_bytes() for path in KEYED_BY if path.exists())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_ready(venv: Path) -> bool:
    return (venv / "bin/python").exists() and read_state(venv).get("stamp") == digest()


def run(command: list, failure: str, **variables: str) -> None:
    """Run a command, which holds the lock even if it outlives this script; exit if it fails."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}
    if subprocess.run(command, env=environment, close_fds=False).returncode:
        raise SystemExit(f"[setup] {failure}")


def create(venv: Path) -> None:
    """Make the virtual environment unless there is a good one, with the lock held."""
    state = read_state(venv)
    made_here = state.get("before") == [] or set(os.listdir(venv)) == {LOCK}
    if (venv / "bin/python").exists() and not (made_here and "stamp" not in state):
        return
    if not made_here:
        raise SystemExit(f"{venv} is no environment any more: its bin/python is gone.")
    say(f"making a virtual environment in {venv} (Python {sys.version.split()[0]})")
    write_state(venv, before=[])
    for path in venv.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (LOCK, STATE):
            path.unlink()
    run([sys.executable, "-m", "venv", str(venv)], "The environment was not made; see above.")


def start(venv: Path) -> list[str]:
    """Record what is there before the set-up, and forget what an earlier one half installed."""
    site = Path(sysconfig.get_path("purelib"))
    present = [path.name for path in site.glob("*.dist-info")]
    state = read_state(venv)
    before = state.get("before")
    if before and "stamp" not in state:
        for name in set(present) - set(before):
            if not (site / name / "INSTALLER").exists():  # pip writes it last
                shutil.rmtree(site / name)
    elif before != []:
        before = present + (["cv2"] if find_spec("cv2") else [])
    write_state(venv, before=before)
    return before


def pins_beside(found: dict[str, str]) -> str:
    """Constraints for an environment that exists: its own versions, the tested ones of the rest."""
    lines = CONSTRAINTS.read_text().splitlines()
    names = [re.match(r"[\w.-]*", line).group().lower().replace("_", "-") for line in lines]
    rest = [line for name, line in zip(names, lines, strict=True) if name not in {*found, *FREE}]
    kept = [f"{name}=={version}" for name, version in found.items() if name not in FREE]
    return "\n".join(kept + rest) + "\n"


def complete(venv: Path) -> None:
    """Install what is missing; runs in the environment's own Python, with the lock held."""
    before = start(venv)
    if any(name.startswith("torch-") for name in before) and not any(
        name.startswith("torchvision-") for name in before
    ):
        raise SystemExit(
            f"{venv} has torch but no torchvision. Install the torchvision that was built for it,"
            " from where that torch came, and repeat the command."
        )
    named = [each for each in distributions() if each.metadata["Name"]]
    found = {re.sub("[-_.]+", "-", each.metadata["Name"]).lower(): each.version for each in named}
    if "labgym" in found.get("detectron2", ""):  # an older one from BUILDER makes way for a new one
        del found["detectron2"]
    what = ["torch", "torchvision", "--editable", f"{ROOT}[dev]"]
    if "cv2" not in before and not any(name.startswith("opencv-") for name in found):
        what.append("opencv-python-headless")
    say("installing what is missing; from nothing: one to three minutes, a download of some 3 GB")
    with tempfile.TemporaryDirectory() as folder:
        pins = CONSTRAINTS
        if before:
            pins = Path(folder, "constraints.txt")
            pins.write_text(pins_beside(found))
        if "detectron2" not in found:
            run([sys.executable, BUILDER, "--output", folder], "Detectron2 was not built.")
            what += map(str, Path(folder).glob("*.whl"))
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        failure = (
            "pip failed; its message is above. If this machine has no network, docs/installation.md"
            " says how to install from a folder of wheels. Repeat the command to go on."
        )
        # As variables they also hold where pip builds a wheel; pip 25.3 knows the second one.
        pinned = {"PIP_CONSTRAINT": str(pins), "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS)}
        run([*pip, *what], failure, **pinned)
        if "lvis" not in found:  # asks for opencv-python, whose files are those of the headless one
            run([*pip, "--no-deps", "lvis"], failure, **pinned)
    write_state(venv, before=before, stamp=digest())
    say(f"{venv} is ready")


def main(venv: Path, lock: str = "") -> None:
    """Make and complete an environment; `lock` is the descriptor that the first half took over."""
    if lock:
        return complete(venv)
    if is_ready(venv):
        return None
    known = (venv / "bin/python").exists() or (venv / STATE).exists()
    if not known and venv.exists() and not (venv.is_dir() and set(os.listdir(venv)) <= {LOCK}):
        raise SystemExit(
            f"{venv} exists and is no environment: it has no bin/python that runs. Remove it, or"
            " name another place: make setup VENV=/another/place"
        )
    venv.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(venv / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"another set-up is at work in {venv}; waiting for it to end")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if not is_ready(venv):
        create(venv)
        python = str(venv / "bin/python")
        os.execv(python, [python, __file__, str(venv), str(descriptor)])
    return None


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).absolute(), *sys.argv[2:])
    except KeyboardInterrupt:
        raise SystemExit("\n[setup] interrupted; repeat the command to go on") from None
