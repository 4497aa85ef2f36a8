"""What the built package holds, and what it says of itself."""

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import pointrend_seg

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "projects" / "pointrend_seg"
BUILD = """
import json, os, sys
from setuptools import build_meta
os.makedirs("out")
name = build_meta.build_wheel("out")
imported = [name for name in ("torch", "numpy", "pointrend_seg") if name in sys.modules]
with open("built.json", "w") as file:
    json.dump({"wheel": name, "imported": imported}, file)
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A wheel of a copy of the sources, and which packages were imported to build it."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "projects", folder / "projects", ignore=ignored)
    command = [sys.executable, "-c", BUILD]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    built = json.loads((folder / "built.json").read_text())
    return folder / "out" / built["wheel"], built["imported"]


@pytest.fixture(scope="module")
def wheel(build):
    with zipfile.ZipFile(build[0]) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_building_imports_nothing_of_the_package(build):
    assert build[1] == []


def test_every_module_is_in_the_wheel(wheel):
    there = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py")}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == there | {"pointrend_seg/py.typed"}


def test_the_licence_is_in_the_wheel(wheel, metadata):
    (name,) = (name for name in wheel.namelist() if name.endswith("/LICENSE"))
    assert wheel.read(name) == (REPOSITORY / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"


def test_what_the_package_says_of_itself(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("pointrend-seg", pointrend_seg.__version__)
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier")


def test_extras_are_the_ones_that_messages_and_documents_name(metadata):
    extras = set(metadata.get_all("Provides-Extra"))
    texts = [path.read_text() for path in PACKAGE.rglob("*.py")]
    texts += [path.read_text() for path in REPOSITORY.glob("*.md")]
    texts += [path.read_text() for path in (REPOSITORY / "docs").glob("*.md")]
    pattern = r"(?:pointrend-seg|-e \.)\[(\w+)\]"
    named = {name for text in texts for name in re.findall(pattern, text)}
    assert named and named <= extras


def imported_names(path):
    """Names of the packages that a module imports at its top."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_what_the_package_imports_is_required(metadata):
    """Optional packages are imported within functions, and OpenCV is an extra.

    What Detectron2's Python configs are made of comes with Detectron2.
    """
    with_detectron2 = [each for each in requires("detectron2") if each[:5] in ("omega", "hydra")]
    required = map(Requirement, [*metadata.get_all("Requires-Dist"), *with_detectron2])
    names = {each.name for each in required if not each.marker}
    imported = {name for path in PACKAGE.rglob("*.py") for name in imported_names(path)}
    outside = imported - sys.stdlib_module_names - {"pointrend_seg", "cv2"}
    distributions = {"PIL": "pillow", "yaml": "pyyaml", "hydra": "hydra-core"}
    assert {distributions.get(name, name) for name in outside} <= names


def test_the_citation_is_that_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == pointrend_seg.__version__
    assert citation["license"] == "Apache-2.0"
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]][0] == "Kirillov"


def test_ci_runs_what_the_package_supports(metadata):
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    job = workflow["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    prefix = "Programming Language :: Python :: "
    stated = {each.removeprefix(prefix) for each in metadata.get_all("Classifier")}
    assert set(job["strategy"]["matrix"]["python"]) <= stated


def test_hooks_are_those_of_make_lint():
    """With mypy, and without what downloads anything."""
    (repository,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].removeprefix("python -m ") for hook in repository["hooks"]]
    assert [entry.split(" --")[0] for entry in entries] == ["ruff check", "ruff format", "mypy"]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_the_repository_holds_what_belongs_there():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this copy is no git checkout")
    files = [Path(name) for name in listed.stdout.splitlines()]
    folders = {file.parts[0] for file in files if len(file.parts) > 1}
    assert folders == {".ci", ".github", "configs", "docs", "projects", "tests", "tools"}
    sizes = {file: (REPOSITORY / file).stat().st_size for file in files}
    assert not {file: size for file, size in sizes.items() if size > 2**20}
