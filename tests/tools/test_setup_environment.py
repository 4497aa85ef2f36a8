"""The set-up, run for real on a made-up project whose requirements are made-up wheels."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

import setup_environment as setup
from made_up_wheels import write_wheel

# Builds the editable install; killed there, with everything that the set-up started, if asked to.
BACKEND = """
import os, shutil
def build_editable(folder, *_):
    if os.path.exists("kill"):
        os.remove("kill")
        os.killpg(0, 9)
    return os.path.basename(shutil.copy({wheel!r}, folder))
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
FINISHED = {
    "detectron2": "0.6+labgym1",
    "lvis": "1",
    "numpy": "2",
    "opencv-python-headless": "2",
    "pointrend-seg": "1",
    "torch": "2",
    "torchvision": "2",
}


class Project:
    """A checkout with the real set-up script and an environment."""

    def __init__(self, folder: Path, wheels: Path):
        self.wheels = wheels
        self.root = folder / "checkout"
        self.venv = folder / "venv"
        (self.root / "tools").mkdir(parents=True)
        self.script = Path(shutil.copy(setup.__file__, self.root / "tools"))
        (self.root / "constraints.txt").write_text("torch==2\ntorchvision==2\n")
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        for path, wheel, text in (
            ("backend.py", "pointrend_seg-1", BACKEND),
            ("tools/build_detectron2_wheel.py", "detectron2-0.6+labgym1", "{copy}"),
        ):
            wheel = str(wheels / f"{wheel}-py3-none-any.whl")
            copy = f"import shutil, sys; shutil.copy({wheel!r}, sys.argv[2])"
            (self.root / path).write_text(text.format(wheel=wheel, copy=copy))

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which pip knows the made-up wheels alone."""
        others = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHONPATH"))}
        links = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        return {**others, **links, "PIP_CONFIG_FILE": os.devnull}

    def start(self, **variables) -> subprocess.Popen:
        environment = {**self.environment, **variables}
        command = [sys.executable, str(self.script), str(self.venv)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    def run(self, **variables) -> tuple[int, str]:
        """Run the set-up; return its exit status and what it printed."""
        process = self.start(**variables)
        return process.wait(), process.stdout.read()

    def run_and_kill(self) -> None:
        """Run the set-up, which is killed while it installs the project."""
        (self.root / "kill").touch()
        assert self.run()[0] == -9

    def install(self, *wheels: str) -> None:
        command = [self.venv / "bin/python", "-m", "pip", "install", "-qq", "--no-deps"]
        paths = [self.wheels / f"{each}-py3-none-any.whl" for each in wheels]
        subprocess.run([*command, *paths], env=self.environment, check=True)

    @property
    def site(self) -> Path:
        (site,) = self.venv.glob("lib/python*/site-packages")
        return site

    @property
    def installed(self) -> dict[str, str]:
        found = {each.metadata["Name"]: each.version for each in distributions(path=[self.site])}
        return {name: found[name] for name in sorted(found) if name not in ("pip", "setuptools")}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("torch", "torchvision", "opencv-python"):
        for version in "123":
            write_wheel(folder, name, version)
    for version in "12":
        write_wheel(folder, "numpy", version)
        write_wheel(folder, "opencv-python-headless", version, f"numpy>={version}")
    write_wheel(folder, "lvis", "1", "opencv-python")
    write_wheel(folder, "detectron2", "0.6+labgym1")
    write_wheel(folder, "detectron2", "0.6+mine")
    write_wheel(folder, "pointrend-seg", "1", "detectron2>=0.6", "torch", extras="dev")
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A virtual environment with nothing but pip."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # (Importing pip would make setuptools take the standard library's distutils.)
    pip = find_spec("pip").origin
    for path in Path(pip).parents[1].glob("pip*"):  # faster than installing it
        shutil.copytree(path, site / path.name)
    return folder


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory, wheels):
    """A project after its first set-up, which found what a killed one left."""
    project = Project(tmp_path_factory.mktemp("finished"), wheels)
    (project.venv / "bin/python").mkdir(parents=True)
    (project.venv / "half").symlink_to("nowhere")
    (project.venv / setup.LOCK).touch()
    setup.write_state(project.venv, {"made_here": True, "before": []})
    return project, *project.run()


@pytest.fixture
def finished(finished_once, tmp_path, wheels):
    """A project whose set-up was finished, to be changed at will; its stamp is stale."""
    project = Project(tmp_path, wheels)
    shutil.copytree(finished_once[0].venv, project.venv, symlinks=True)
    return project


@pytest.fixture
def own(bare, tmp_path, wheels):
    """A project beside an environment that the user made."""
    project = Project(tmp_path, wheels)
    shutil.copytree(bare, project.venv, symlinks=True)
    (project.venv / "thesis.txt").write_text("years of work")
    return project


def test_a_fresh_environment_gets_everything_at_the_pinned_versions(finished_once):
    project, status, output = finished_once
    assert status == 0 and "is ready" in output, output
    assert project.installed == FINISHED
    assert not (project.venv / "half").is_symlink(), "an unfinished one is made anew"


def test_nothing_is_done_twice(finished_once):
    assert finished_once[0].run(PIP_FIND_LINKS="/nowhere") == (0, "")


def test_other_pins_change_an_environment_made_here_in_place(finished):
    (finished.venv / "notes.txt").touch()
    finished.root.joinpath("constraints.txt").write_text("torch==3\ntorchvision==3\n")
    status, output = finished.run(PIP_FIND_LINKS="/nowhere")
    assert status == 1 and "ERROR: " in output and "[setup] pip failed; its message" in output
    assert finished.installed == FINISHED
    finished.run_and_kill()
    status, output = finished.run()
    assert status == 0, output
    assert finished.installed == {**FINISHED, "torch": "3", "torchvision": "3"}
    assert (finished.venv / "notes.txt").exists()


@pytest.mark.parametrize(
    "change", ["pyproject.toml", "constraints.txt", "tools/build_detectron2_wheel.py", "moved"]
)
def test_what_makes_a_finished_set_up_stale(finished_once, change, tmp_path, monkeypatch):
    project = finished_once[0]
    root = Path(shutil.copytree(project.root, tmp_path / "checkout"))
    if change != "moved":
        with open(root / change, "a") as file:
            file.write("\n")
    keyed_by = [path.relative_to(setup.ROOT) for path in setup.KEYED_BY]
    for base, is_ready in ((root, False), (project.root, True)):
        monkeypatch.setattr(setup, "ROOT", base if change == "moved" else project.root)
        monkeypatch.setattr(setup, "KEYED_BY", [base / path for path in keyed_by])
        assert setup.is_ready(project.venv) is is_ready


def test_an_environment_that_exists_keeps_what_it_has(own):
    own.install("torch-1", "torchvision-1", "opencv_python-2", "detectron2-0.6+mine")
    kept = own.installed
    own.run_and_kill()
    status, output = own.run()
    assert status == 0, output
    assert own.installed == {**kept, "lvis": "1", "pointrend-seg": "1"}
    own.root.joinpath("constraints.txt").write_text("torch==3\ntorchvision==3\n")
    assert own.run()[0] == 0 and own.installed["torch"] == "1"
    assert (own.venv / "thesis.txt").exists()


def test_what_is_added_fits_what_is_there(own):
    own.install("numpy-1")
    assert own.run()[0] == 0
    assert own.installed == {**FINISHED, "numpy": "1", "opencv-python-headless": "1"}


def test_what_an_environment_lacks_comes_at_the_pinned_versions(own):
    assert own.run()[0] == 0 and own.installed == FINISHED


def test_what_pip_left_half_installed_is_installed_again(own):
    own.install("torch-1", "torchvision-1")
    own.run_and_kill()
    own.install("lvis-1", "opencv_python_headless-2", "numpy-2")
    (own.site / "lvis.py").unlink()
    (own.site / "lvis-1.dist-info/INSTALLER").unlink()
    (own.site / "cv2.py").touch()
    shutil.rmtree(own.site / "opencv_python_headless-2.dist-info")
    assert own.run()[0] == 0
    assert (own.site / "lvis.py").exists()
    assert own.installed == {**FINISHED, "torch": "1", "torchvision": "1"}


def test_an_opencv_that_pip_does_not_list_is_kept(own):
    (own.site / "cv2.py").touch()
    assert own.run()[0] == 0 and "opencv-python-headless" not in own.installed


def test_half_a_pytorch_is_refused(own):
    own.install("torch-1")
    status, output = own.run()
    assert status == 1 and "has torch but no torchvision" in output
    own.install("torchvision-1")
    assert own.run()[0] == 0 and own.installed["torch"] == "1"


def test_two_set_ups_wait_for_each_other(finished):
    with open(finished.venv / setup.LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = finished.start()
        assert "another set-up is at work" in process.stdout.readline()
        assert json.loads((finished.venv / setup.STATE).read_text())["stamp"]
    assert "is ready" in process.communicate()[0]


def test_the_commands_of_a_killed_set_up_hold_its_lock(tmp_path, monkeypatch):
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(lock, True)
    setup.run([sys.executable, "-c", f"import os; os.fstat({lock})"], "The lock is not handed on.")
    os.close(lock)


def test_a_set_up_that_was_killed_at_once_stands_in_nobodys_way(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / setup.LOCK).touch()
    (tmp_path / "venv" / f"{setup.STATE}.part").touch()
    assert setup.is_ours(tmp_path / "venv") and setup.is_ours(tmp_path / "none")


@pytest.mark.parametrize("name", ["thesis.txt", "bin"])
def test_a_folder_that_is_no_environment_is_left_alone(tmp_path, wheels, name):
    project = Project(tmp_path, wheels)
    (project.venv / name).mkdir(parents=True)
    status, output = project.run()
    assert status == 1 and re.search("exists and is no environment.*VENV=/another/place", output)
    assert [path.name for path in project.venv.iterdir()] == [name]


def test_an_old_python_is_refused():
    code = f"import sys, runpy; sys.version_info = (3, 9, 1); runpy.run_path({setup.__file__!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert re.match(r"Python 3.10 or newer is needed, and \S+ is Python 3\.9\. ", result.stderr)


def test_the_constraints_name_each_package_once():
    lines = setup.CONSTRAINTS.read_text().splitlines()
    lines = [line for line in lines if line[:1] not in ("", "#") and "python_version" not in line]
    names = [setup.canonical(line) for line in lines]
    assert all("==" in line for line in lines) and len(names) == len(set(names))
