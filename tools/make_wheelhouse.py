#!/usr/bin/env python3
"""Gather wheels of this package and what it needs, for a machine without network.

    python tools/make_wheelhouse.py --output wheelhouse --python 3.12 --have torch torchvision

What the target has already (`--have`), and what only that needs, is left out. The rest comes in the
versions of constraints.txt: as a wheel for the target from PyPI, or built here from a source
distribution, which gives a wheel for every machine or an error. `requirements.txt` in the folder
names what was gathered, so that pip on the target installs what is missing there and nothing else.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from build_detectron2_wheel import build as build_detectron2

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pointrend-seg"
OPENCV = "opencv-python-headless"
# torch, torchvision and the packages they require; not setuptools, which has to be older than 81.
PYTORCH = (
    *("torch", "torchvision", "numpy", "pillow", "typing-extensions", "filelock", "fsspec"),
    *("jinja2", "markupsafe", "networkx", "sympy", "mpmath"),
)


def platform_tags(platform: str) -> list[str]:
    """The tags that a machine with this tag accepts: for `manylinux_2_X_ARCH`, all older too."""
    match = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", platform)
    if not match:
        return [platform]
    newest, machine = int(match.group(1)), match.group(2)
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    tags = []
    for minor in range(newest, 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        tags += [f"{legacy[minor]}_{machine}"] if minor in legacy else []
    return [*tags, f"linux_{machine}"]


def target_environment(python: str, platform: str) -> dict[str, str]:
    """The environment in which the target evaluates the markers of requirements."""
    names = {"macosx": ("posix", "darwin", "Darwin"), "win": ("nt", "win32", "Windows")}
    kind = re.match("macosx|win|", platform).group()
    os_name, sys_platform, system = names.get(kind, ("posix", "linux", "Linux"))
    target = {"python_version": python, "python_full_version": f"{python}.0"}
    target |= {"os_name": os_name, "sys_platform": sys_platform, "platform_system": system}
    target["platform_machine"] = re.search(r"x86_64|aarch64|arm64|amd64|$", platform).group()
    return {**default_environment(), **target}


def pins_for(constraints: str, environment: dict[str, str]) -> dict[str, str]:
    """The version that the constraints pin each name to, for a target."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    pins = [Requirement(line) for line in lines if line]
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if not pin.marker or pin.marker.evaluate(environment)
    }


def requirements_of(wheel: Path, extras: set[str], environment: dict[str, str]) -> list:
    """What a wheel with these extras requires on the target."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    required = map(Requirement, metadata.get_all("Requires-Dist", []))
    return [
        each
        for each in required
        if not each.marker
        or any(each.marker.evaluate({**environment, "extra": e}) for e in extras | {""})
    ]


def pip(*args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", *args, "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def only_wheel(folder: Path) -> Path | None:
    return next(iter(folder.glob("*.whl")), None)


def build_wheel(source: str, scratch: Path) -> Path:
    """Build a wheel from a folder or a source distribution; it must serve every machine."""
    result = pip(
        *("wheel", "--no-deps", "--no-build-isolation", "--no-binary=:all:"),
        *("--wheel-dir", str(scratch), source),
    )
    wheel = only_wheel(scratch)
    if result.returncode or wheel is None:
        raise SystemExit(f"{result.stdout}{result.stderr}\nNo wheel of {source} could be had.")
    if not wheel.name.endswith("-none-any.whl"):
        raise SystemExit(
            f"{source} has no wheel for the target, and one built here ({wheel.name}) would serve"
            " this machine only. If the target has it, name it with --have."
        )
    return wheel


def fetch(requirement: str, python: str, tags: list[str], scratch: Path) -> Path:
    """Download a wheel for the target, or build one that serves every machine."""
    options = ["--no-deps", "--only-binary=:all:", "--python-version", python]
    options += [word for tag in tags for word in ("--platform", tag)]
    pip("download", *options, "--dest", str(scratch), requirement)
    return only_wheel(scratch) or build_wheel(requirement, scratch)


def build_this_package(scratch: Path) -> Path:
    """Build from a copy, so that no older build in the working tree gets into the wheel."""
    source = scratch / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "projects", source / "projects", ignore=ignore)
    return build_wheel(str(source), scratch)


class Wheelhouse:
    """A folder of wheels that together satisfy this package on a target."""

    def __init__(self, folder: Path, python: str, platform: str, have: set[str]):
        self.folder = folder
        self.python = python
        self.tags = platform_tags(platform)
        self.environment = target_environment(python, platform)
        self.pins = pins_for((ROOT / "constraints.txt").read_text(), self.environment)
        self.have = have
        self.wheels: dict[str, Path] = {}
        self.specifiers: dict[str, SpecifierSet] = {}

    def obtain(self, requirement: Requirement) -> Path:
        """Put the wheel of a requirement into the folder, unless it is there."""
        name = canonicalize_name(requirement.name)
        if name not in self.wheels:
            with tempfile.TemporaryDirectory() as scratch:
                if name == PACKAGE:
                    wheel = build_this_package(Path(scratch))
                elif name == "detectron2":
                    wheel = build_detectron2(Path(scratch))
                else:
                    pin = f"=={self.pins[name]}" if name in self.pins else requirement.specifier
                    wheel = fetch(f"{name}{pin}", self.python, self.tags, Path(scratch))
                self.wheels[name] = Path(shutil.copy(wheel, self.folder))
            size = self.wheels[name].stat().st_size
            print(f"  {size / 2**20:6.2f} MiB  {self.wheels[name].name}", flush=True)
        return self.wheels[name]

    def gather(self, names: list[str]) -> None:
        """Obtain the wheels of these requirements, and of what they require."""
        queue = [Requirement(name) for name in names]
        seen = set()
        while queue:
            requirement = queue.pop(0)
            name = canonicalize_name(requirement.name)
            if name in self.have:
                continue
            specifier = self.specifiers.get(name, SpecifierSet()) & requirement.specifier
            self.specifiers[name] = specifier
            key = (name, frozenset(requirement.extras))
            if key not in seen:
                seen.add(key)
                wheel = self.obtain(requirement)
                queue += requirements_of(wheel, requirement.extras, self.environment)

    def write_requirements(self) -> None:
        lines = [f"{name}{specifier}\n" for name, specifier in sorted(self.specifiers.items())]
        (self.folder / "requirements.txt").write_text("".join(lines))

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())


def check_output(output: Path) -> None:
    """Refuse to replace a folder that is not one of ours."""
    if output.exists() and not (output.is_dir() and is_wheelhouse(output)):
        raise SystemExit(
            f"{output} exists and holds something else than wheels; nothing was changed. Remove it,"
            " or name another folder with --output."
        )


def is_wheelhouse(folder: Path) -> bool:
    return all(p.suffix == ".whl" or p.name == "requirements.txt" for p in folder.iterdir())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("wheelhouse"), help="folder to make")
    parser.add_argument("--python", default="3.12", help="the target's Python (3.12)")
    parser.add_argument(
        "--platform",
        default="manylinux_2_31_x86_64",
        help="the target's platform, as in the names of wheels (manylinux_2_31_x86_64)",
    )
    parser.add_argument(
        "--have",
        nargs="*",
        default=[],
        help="packages to leave out besides torch, torchvision and what these require; any name"
        " of OpenCV stands for all of them",
    )
    parser.add_argument("--extras", default="cityscapes", help="of pointrend-seg (cityscapes)")
    options = parser.parse_args()
    if not re.fullmatch(r"3\.\d+", options.python):
        parser.error(f"--python is {options.python!r}, expected a version such as 3.12")
    return options


def main() -> None:
    options = parse_arguments()
    check_output(options.output)
    have = {canonicalize_name(name) for name in (*PYTORCH, *options.have)}
    wanted = [f"{PACKAGE}[{options.extras}]" if options.extras else PACKAGE]
    wanted += [] if any(name.startswith("opencv") for name in have) else [OPENCV]
    # Gathered under another name, so that a folder of the right name is a complete one.
    part = options.output.with_name(f"{options.output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    print(f"Gathering wheels for Python {options.python}, {options.platform} (about a minute)")
    wheelhouse = Wheelhouse(part, options.python, options.platform, have)
    wheelhouse.gather(wanted)
    wheelhouse.write_requirements()
    shutil.rmtree(options.output, ignore_errors=True)
    os.replace(part, options.output)
    wheelhouse.folder = folder = options.output
    print(f"\n{len(wheelhouse.wheels)} wheels, {wheelhouse.size() / 2**20:.1f} MiB in {folder}")
    print("To install on the target, from the folder that holds it:\n")
    print(
        f"  pip install --no-index --no-deps --find-links {folder.name}"
        f" --requirement {folder.name}/requirements.txt"
    )


if __name__ == "__main__":
    main()
