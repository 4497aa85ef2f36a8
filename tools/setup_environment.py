#!/usr/bin/env python3
"""Make or complete the environment that the Makefile's targets run in.

    python3 tools/setup_environment.py --venv .venv

A folder that does not exist becomes a virtual environment with the versions of constraints.txt. An
environment that exists keeps every package it has, setuptools apart; only what is missing is
installed. Repeating it costs nothing, and after an interruption, of whatever kind, it goes on.
The state is kept in the folder `.pointrend_seg` of the environment:

    lock             held while a set-up, or a pip that outlived it, works in the environment
    making           the virtual environment itself is being made
    made             the virtual environment was made by this script
    unfinished.json  the distributions that were there when the unfinished set-up began
    stamp            the digest of what the finished set-up depended on
"""

import argparse
import csv
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036  (runs before any virtual environment exists)
    raise SystemExit(
        "Python 3.10 or newer is needed, and {} is Python {}.{}. Name a newer one: "
        "make setup PYTHON=python3.12".format(sys.executable, *sys.version_info[:2])
    )

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
BUILDER = ROOT / "tools" / "build_detectron2_wheel.py"
KEYED_BY = (ROOT / "setup.py", ROOT / "pyproject.toml", CONSTRAINTS, BUILDER, Path(__file__))
DOCS = "docs/installation.md"
# setuptools 81 has no pkg_resources (Detectron2's model_zoo); 70.1 builds wheels by itself, but
# pip before 23.1 (Python 3.10's) asks for the package wheel to build source distributions.
SETUPTOOLS = "setuptools>=70.1,<81"

PROBE = """
import importlib.metadata as metadata, json, sys, sysconfig
found = {}
for each in metadata.distributions():
    if each.metadata["Name"] and each.metadata["Version"]:
        found.setdefault(each.metadata["Name"].lower().replace("_", "-"), each.version)
try:
    import cv2
    cv2_error = ""
except Exception as error:
    cv2_error = f"{type(error).__name__}: {error}"
print(json.dumps(dict(version=sys.version_info[:2], found=found, cv2_error=cv2_error,
                      site=sysconfig.get_paths()["purelib"])))
"""


def say(text):
    print(f"[setup] {text}", flush=True)


def write(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


class Environment:
    """A Python environment in a folder, and what this script knows about it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.state = folder / ".pointrend_seg"

    @property
    def made_here(self) -> bool:
        return (self.state / "made").exists()

    def digest(self) -> str:
        """Changes with whatever would make a finished set-up stale."""
        key = hashlib.sha256(f"{ROOT}\n{self.python.resolve()}\n".encode())
        for path in (*KEYED_BY, self.folder / "pyvenv.cfg"):
            key.update(path.read_bytes() if path.exists() else b"absent")
        return key.hexdigest()

    def is_ready(self) -> bool:
        stamp = self.state / "stamp"
        if not stamp.exists() or not self.python.exists():
            return False
        return stamp.read_text() == self.digest()

    def refuse_other_folder(self) -> None:
        """End with a message if the folder holds something that is no environment."""
        known = self.python.exists() or (self.state / "making").exists()
        if not known and self.folder.exists() and set(self.folder.iterdir()) - {self.state}:
            raise SystemExit(
                f"{self.folder} exists and is no environment: it has no bin/python that runs. "
                "Remove it, or name another place: make setup VENV=/another/place"
            )

    def lock(self) -> int:
        """Wait until nobody else works in the environment; returns the descriptor that holds it.

        Child processes inherit the descriptor, so a pip that outlives a killed set-up holds it too.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another set-up is at work in {self.folder}; waiting for it to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.set_inheritable(descriptor, True)
        return descriptor

    def create(self) -> None:
        """Make the virtual environment unless there is one; a half-made one is made anew."""
        making = self.state / "making"
        if making.exists():
            say(f"the environment in {self.folder} was left half made; making it anew")
            for path in self.folder.iterdir():
                if path != self.state:
                    remove(path)
        elif self.python.exists():
            return
        check_venv_module()
        say(f"making a virtual environment in {self.folder} (Python {sys.version.split()[0]})")
        making.touch()
        self.run([sys.executable, "-m", "venv", str(self.folder)], "The environment was not made.")
        (self.state / "made").touch()
        making.unlink()

    def run(self, command: list[str], failure: str) -> str:
        """Run a command silently; on failure, show its output and end with a message."""
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        # Open descriptors are handed on: a command that outlives this script holds its lock.
        result = subprocess.run(
            command, capture_output=True, text=True, close_fds=False, cwd=ROOT, env=environment
        )
        if result.returncode:
            print(result.stdout[-4000:], result.stderr[-4000:], sep="", file=sys.stderr)
            raise SystemExit(failure)
        return result.stdout

    def pip_install(self, what: list[str], pins: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join(pins) + "\n")
            command = [str(self.python), "-m", "pip", "install", "--no-build-isolation"]
            self.run(
                [*command, "--constraint", str(constraints), *what],
                f"pip failed; its message is above. If this machine has no network, {DOCS} says how"
                " to install from a folder of wheels. Repeat the command to go on.",
            )

    def probe(self) -> dict:
        """What is installed: `version`, `found` (versions by name), `cv2_error`, `site`."""
        failure = f"{self.python} does not run: remove {self.folder}, or name another with VENV="
        facts = json.loads(self.run([str(self.python), "-c", PROBE], failure))
        if tuple(facts["version"]) < (3, 10):
            raise SystemExit(
                f"{self.folder} has Python {'.'.join(map(str, facts['version']))}; "
                "Python 3.10 or newer is needed."
            )
        if "pip" not in facts["found"]:
            raise SystemExit(f"{self.folder} has no pip. Run: {self.python} -m ensurepip")
        return facts


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def check_venv_module() -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise SystemExit(
                f"{sys.executable} has no module {module}, so it cannot make a virtual environment."
                " Install it (Debian and Ubuntu: apt install python3-venv), or name another"
                " interpreter (make setup PYTHON=python3.12) or an environment that exists"
                " (make setup VENV=/path/to/environment)."
            )


def is_whole(dist_info: Path) -> bool:
    """Whether everything that an installed distribution lists is there, in its full size."""
    try:
        with open(dist_info / "RECORD", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
        return (dist_info / "INSTALLER").exists() and all(
            (dist_info.parent / name).stat().st_size == int(size) for name, _, size in rows if size
        )
    except (OSError, ValueError):
        return False


def forget_broken(site: Path, present: list[str]) -> None:
    """Drop what an interrupted pip left half installed, so that pip installs it again.

    Distributions in `present` were there before the set-up began and are left alone.
    """
    for dist_info in site.glob("*.dist-info"):
        if dist_info.name not in present and not is_whole(dist_info):
            shutil.rmtree(dist_info)
    for left_over in site.glob("~*"):
        if left_over.name not in present:
            remove(left_over)


def constraint_lines() -> list[str]:
    lines = (line.strip() for line in CONSTRAINTS.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def name_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


def pins_for(found: dict[str, str], made_here: bool) -> list[str]:
    """The constraints for an environment: the tested versions, or what a foreign one has.

    In a foreign environment OpenCV is free, since which release fits depends on its NumPy.
    """
    if made_here:
        return constraint_lines()
    kept = [f"{name}=={version}" for name, version in found.items() if name != "setuptools"]
    free = {"setuptools", "opencv-python-headless", *found}
    return kept + [line for line in constraint_lines() if name_of(line) not in free]


def torch_missing(found: dict[str, str], folder: Path) -> bool:
    """Whether PyTorch is to be installed; half a pair that exists is the user's to complete."""
    if "torch" in found and "torchvision" not in found:
        raise SystemExit(
            f"{folder} has torch {found['torch']} but no torchvision. Install the torchvision that"
            " was built for it, from where that torch came, and repeat the command."
        )
    return "torch" not in found


def opencv_missing(found: dict[str, str], cv2_error: str) -> bool:
    """Whether an OpenCV is to be installed; never one over another that does not import."""
    if not cv2_error:
        return False
    broken = sorted(name for name in found if name.startswith("opencv-"))
    if broken:
        raise SystemExit(
            f"{broken[0]} {found[broken[0]]} is installed but cannot be imported ({cv2_error})."
            f" Repair it, or uninstall it (pip uninstall {' '.join(broken)}) and repeat the command"
            " to get opencv-python-headless, which needs no display libraries."
        )
    return True


def check_detectron2(found: dict[str, str]) -> None:
    version = found.get("detectron2", "0.6")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < (0, 6):
        raise SystemExit(f"Detectron2 {version} is installed; 0.6 or newer is needed.")


def install(environment: Environment) -> None:
    """Install what is missing, in an environment that runs."""
    facts = environment.probe()
    found = facts["found"]
    check_detectron2(found)
    wants_torch = torch_missing(found, environment.folder)
    extra = ["opencv-python-headless"] if opencv_missing(found, facts["cv2_error"]) else []
    pins = pins_for(found, environment.made_here)
    base = [SETUPTOOLS, "wheel"]
    if wants_torch:
        base += ["torch", "torchvision"]
        say("installing PyTorch: one to three minutes, plus a download of some 3 GB")
    environment.pip_install(base, pins)
    with tempfile.TemporaryDirectory() as folder:
        if "detectron2" not in found:
            say("fetching Detectron2 from PyPI (2 MB)")
            command = [str(environment.python), str(BUILDER), "--output", folder]
            extra += environment.run(command, "Detectron2 was not built.").split()
        say("installing the other packages and pointrend-seg: less than a minute, plus downloads")
        environment.pip_install(["--editable", f"{ROOT}[dev]", *extra], pins)
    if "lvis" not in found:
        # It asks for opencv-python, whose files are those of the headless OpenCV.
        environment.pip_install(["--no-deps", "lvis"], pins)


def set_up(environment: Environment) -> None:
    start = time.monotonic()
    environment.create()
    site = Path(environment.probe()["site"])
    unfinished = environment.state / "unfinished.json"
    if unfinished.exists():
        say("an earlier set-up was interrupted; going on")
        forget_broken(site, json.loads(unfinished.read_text()))
    else:
        write(unfinished, json.dumps([path.name for path in site.iterdir()]))
    (environment.state / "stamp").unlink(missing_ok=True)
    install(environment)
    unfinished.unlink()
    write(environment.state / "stamp", environment.digest())
    say(f"{environment.folder} is ready ({time.monotonic() - start:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make or complete the environment.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="its folder")
    environment = Environment(parser.parse_args().venv.absolute())
    if environment.is_ready():
        return
    environment.refuse_other_folder()
    descriptor = environment.lock()
    try:
        if not environment.is_ready():
            set_up(environment)
    except KeyboardInterrupt:
        raise SystemExit("\n[setup] interrupted; repeat the command to go on") from None
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
