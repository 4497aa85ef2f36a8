#!/usr/bin/env python3
"""Build an installable wheel of Detectron2 0.6 without a compiler and without GitHub.

    python tools/build_detectron2_wheel.py --output wheelhouse

Detectron2 is not on PyPI. The PyPI wheel named in `SOURCE` carries a whole copy of its Python code
(upstream commit 864913f0, 2024-01-08) as a subpackage; this script downloads that wheel, checks its
hash, takes the one folder, gives its imports their own name back, and packs it as an ordinary wheel
that pip installs, lists and removes. One module is changed beyond that: `model_zoo` finds its
configs with `importlib.resources`, since setuptools 82 no longer has `pkg_resources`. Nothing else
of the carrying wheel is taken. The compiled part of Detectron2 (rotated boxes, deformable
convolution, a faster COCO evaluation) is not in it.
"""

import startup

import argparse
import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SOURCE = "LabGym==3.1.2"
SHA256 = "a2900cff8a3fb508e1975f19b5f9abd9f261966db87b0c332697fb4138c1cb2b"
# The version for which pip picks the wheel; the code in its detectron2 folder runs on newer ones.
SOURCE_PYTHON = "3.10"
FOLDER, OLD_NAME, NEW_NAME = "LabGym/detectron2/", b"LabGym.detectron2", b"detectron2"
VERSION = "0.6+labgym3.1.2.p1"
WHEEL_NAME = f"detectron2-{VERSION}-py3-none-any.whl"
DIST_INFO = f"detectron2-{VERSION}.dist-info"

MODEL_ZOO = "detectron2/model_zoo/model_zoo.py"
MODEL_ZOO_CHANGES = {
    b"import pkg_resources\n": b"import importlib.resources\n",
    b"""pkg_resources.resource_filename(
        "detectron2.model_zoo", os.path.join("configs", config_path)
    )""": b"""str(
        importlib.resources.files("detectron2.model_zoo") / "configs" / config_path
    )""",
}

# What Detectron2's own setup.py asks for, without black, which only pretty-prints lazy configs
# and is imported there inside a try.
REQUIRES = (
    "Pillow>=7.1",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7,<0.1.10",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1",
    "packaging",
)
METADATA = f"""Metadata-Version: 2.1
Name: detectron2
Version: {VERSION}
Summary: Detectron2 0.6 (commit 864913f0), Python code only, repacked from {SOURCE}
Home-page: https://github.com/facebookresearch/detectron2
Author: FAIR
License: Apache-2.0
Requires-Python: >=3.9
{"".join(f"Requires-Dist: {each}{chr(10)}" for each in REQUIRES)}
The Python code of Detectron2, Copyright (c) Facebook, Inc. and its affiliates, under the Apache
License 2.0. Taken from the folder {FOLDER} of the PyPI wheel {SOURCE}, with the imports renamed
back to `detectron2`. Changed: {MODEL_ZOO} uses importlib.resources instead of
pkg_resources, which setuptools 82 removed. Without the compiled extension `detectron2._C`.
"""
WHEEL = """Wheel-Version: 1.0
Generator: build_detectron2_wheel
Root-Is-Purelib: true
Tag: py3-none-any
"""


def check_hash(wheel: Path, expected: str) -> None:
    """Exit with one message unless the file's SHA-256 is the expected one."""
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if actual != expected:
        raise SystemExit(
            f"{wheel.name} is not the file this script was written for: expected sha256 {expected},"
            f" got {actual}. Nothing was built. Remove the file and download it again; if it"
            " differs again, do not use it."
        )


def download(folder: Path) -> Path:
    """Fetch the wheel `SOURCE` into a folder with the pip of the running interpreter."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", SOURCE_PYTHON]
    result = subprocess.run(
        [*command, "--dest", str(folder), SOURCE], capture_output=True, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        raise SystemExit(
            f"{result.stdout}{result.stderr}\n{SOURCE} (1.8 MB), which carries Detectron2, could"
            " not be downloaded from PyPI; see pip's message above. Without network: install any"
            " Detectron2 from 0.6 on yourself, or fetch the wheel elsewhere and pass it with"
            " --wheel."
        )
    return wheels[0]


def without_pkg_resources(code: bytes) -> bytes:
    """Return the code of `model_zoo` with `importlib.resources` in place of `pkg_resources`."""
    for old, new in MODEL_ZOO_CHANGES.items():
        if code.count(old) != 1:
            raise SystemExit(f"{MODEL_ZOO} is not the file this script changes. Nothing was built.")
        code = code.replace(old, new)
    return code


def wheel_files(source: Path) -> dict[str, bytes]:
    """Contents of the new wheel by path, all but its RECORD."""
    with zipfile.ZipFile(source) as archive:
        names = [name for name in archive.namelist() if name.startswith(FOLDER)]
        contents = {"detectron2/" + name[len(FOLDER) :]: archive.read(name) for name in names}
    files = {name: data for name, data in contents.items() if not name.endswith("/")}
    if not files:
        raise SystemExit(f"{source.name} has no folder {FOLDER}: it is not the wheel {SOURCE}.")
    for name in files:
        if name.endswith(".py"):
            files[name] = files[name].replace(OLD_NAME, NEW_NAME)
    files[MODEL_ZOO] = without_pkg_resources(files.get(MODEL_ZOO, b""))
    files[f"{DIST_INFO}/METADATA"] = METADATA.encode()
    files[f"{DIST_INFO}/WHEEL"] = WHEEL.encode()
    files[f"{DIST_INFO}/top_level.txt"] = b"detectron2\n"
    return files


def record(files: dict[str, bytes]) -> bytes:
    """Write the RECORD of a wheel (binary distribution format, PEP 427) with these files."""

    def line(name: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=")
        return f"{name},sha256={digest.decode()},{len(files[name])}\n"

    return ("".join(map(line, sorted(files))) + f"{DIST_INFO}/RECORD,,\n").encode()


def write_wheel(files: dict[str, bytes], path: Path) -> None:
    """Write files and their RECORD as a wheel: the same bytes every time, or nothing at all."""
    entries = [(name, files[name]) for name in sorted(files)]
    entries.append((f"{DIST_INFO}/RECORD", record(files)))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    os.replace(part, path)


def build(output: Path, source: Path | None = None, sha256: str = SHA256) -> Path:
    """Build the Detectron2 wheel in a folder; returns its path.

    Args:
        output: folder to write to, made if absent.
        source: the carrying wheel, if it is already there; otherwise it is downloaded.
        sha256: the hash the carrying wheel must have.
    """
    with tempfile.TemporaryDirectory() as folder:
        carrier = source or download(Path(folder))
        check_hash(carrier, sha256)
        wheel = output / WHEEL_NAME
        write_wheel(wheel_files(carrier), wheel)
    return wheel


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a wheel of Detectron2 0.6 from PyPI.")
    parser.add_argument("--output", type=Path, default=Path("wheelhouse"), help="folder to fill")
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {SOURCE}, already downloaded")
    options = parser.parse_args()
    print(build(options.output, options.wheel))


if __name__ == "__main__":
    startup.run(main)
