#!/usr/bin/env python3
"""Gather wheels of this package and what it needs, for a Linux machine without network.

    python tools/make_wheelhouse.py --output wheelhouse --python 3.12 --opencv

The requirements are those of the packages in the environment that this runs in, the versions those
of constraints.txt. Left out is what the target has (torch, torchvision, `--have`) and what that
requires. pip on the target takes from the folder what is missing there.
"""

import startup

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from build_detectron2_wheel import build as build_detectron2

ROOT = Path(__file__).resolve().parent.parent
# On PyPI as source only, without compiled code: a wheel that is built here serves every machine.
SOURCE_ONLY = {"antlr4-python3-runtime", "fvcore", "typing"}


def platform_tags(platform: str) -> list[str]:
    """Return the tags of the wheels that run on a platform: for `manylinux_2_X`, older ones too."""
    match = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", platform)
    if not match:
        return [platform]
    tags = [f"manylinux_2_{minor}_{match[2]}" for minor in range(int(match[1]), 4, -1)]
    return [*tags, *(f"manylinux{name}_{match[2]}" for name in ("2014", "2010", "1"))]


def applies(requirement: Requirement, extra: str, target: dict[str, str]) -> bool:
    return not requirement.marker or requirement.marker.evaluate({**target, "extra": extra})


def closure(requirements: list[str], target: dict[str, str]) -> set[str]:
    """Return the names of all that the requirements need on the target, theirs included."""
    queue = [Requirement(each) for each in requirements]
    seen = set()
    for requirement in queue:
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            try:
                needed = map(Requirement, requires(name) or [])
            except PackageNotFoundError:  # needed on the target's Python alone, without more needs
                continue
            queue += [each for each in needed if applies(each, extra, target)]
    return {name for name, _ in seen}


def pins(target: dict[str, str]) -> dict[str, str]:
    """Return the requirement (`name==version`) of each name in constraints.txt for the target."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(each.name): f"{each.name}{each.specifier}"
        for each in pinned
        if applies(each, "", target)
    }


def pip(*args: str) -> None:
    if subprocess.run([sys.executable, "-m", "pip", "-q", *args, "--no-deps"]).returncode:
        raise SystemExit("pip failed; its message is above. No wheelhouse was made.")


def wheel_of_this_package(folder: Path) -> None:
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # modules that are no more would come along
    pip("wheel", "--wheel-dir", str(folder), str(ROOT))


def gather(names: set[str], folder: Path, options: argparse.Namespace, target: dict) -> None:
    """Put wheels of these packages into a folder."""
    pinned = pins(target)
    if names & SOURCE_ONLY:
        sources = [pinned[name] for name in sorted(names & SOURCE_ONLY)]
        pip("wheel", "--wheel-dir", str(folder), *sources)
    tags = [word for tag in platform_tags(options.platform) for word in ("--platform", tag)]
    pip(
        *("download", "--only-binary=:all:", "--python-version", options.python, *tags),
        *("--dest", str(folder)),
        *(pinned.get(name, name) for name in sorted(names - SOURCE_ONLY)),
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("wheelhouse"), help="folder to make")
    parser.add_argument("--python", default="3.12", help="the target's Python (3.12)")
    tag = "manylinux_2_31_x86_64"
    parser.add_argument("--platform", default=tag, help=f"the target's newest wheel tag ({tag})")
    parser.add_argument(
        "--have", nargs="*", default=[], help="what the target has besides torch and torchvision"
    )
    parser.add_argument("--extras", default="cityscapes", help="of pointrend-seg (cityscapes)")
    parser.add_argument("--opencv", action="store_true", help="with OpenCV (60 MB), headless")
    options = parser.parse_args()
    if not re.fullmatch(r"3\.\d+", options.python):
        parser.error(f"--python is {options.python!r}, expected a version such as 3.12")
    return options


def main() -> None:
    options = parse_arguments()
    output = options.output
    if output.exists() and any(path.suffix != ".whl" for path in output.iterdir()):
        raise SystemExit(
            f"{output} holds something else than wheels; nothing was changed. Remove it, or name"
            " another folder with --output."
        )
    target = {"python_version": options.python, "python_full_version": f"{options.python}.0"}
    target |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    target["platform_machine"] = re.search(r"x86_64|aarch64|$", options.platform).group()
    wanted = [f"pointrend-seg[{options.extras}]" if options.extras else "pointrend-seg"]
    wanted += ["opencv-python-headless"] if options.opencv else []
    own = {"pointrend-seg", "detectron2"}
    # Some releases of PyTorch require setuptools and some do not.
    present = closure(["torch", "torchvision", *options.have], target) - {"setuptools"}
    names = closure(wanted, target) - present
    # Gathered under another name, so that a folder of the right name is a complete one.
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    gather(names - own, part, options, target)
    if "detectron2" in names:
        build_detectron2(part)
    wheel_of_this_package(part)
    shutil.rmtree(output, ignore_errors=True)
    os.replace(part, output)
    sizes = [path.stat().st_size for path in output.iterdir()]
    print(f"{len(sizes)} wheels, {sum(sizes) / 2**20:.1f} MiB in {output}", end="")
    print("" if options.opencv else " (OpenCV is not among them; --opencv adds it)")
    print("To install on the target, from the folder that holds it:\n")
    print(f"  pip install --no-index --find-links {output.name} {' '.join(map(repr, wanted))}")


if __name__ == "__main__":
    startup.run(main)
