"""The set-up of the environment: its decisions, and what an interruption leaves behind."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys

import pytest

import setup_environment as setup

FRESH = {"pip": "23.2.1"}
FULL = {"pip": "23.2.1", "torch": "2.11.0+cu130", "torchvision": "0.26.0", "numpy": "1.26.4"}


class Recorded(setup.Environment):
    """An environment whose commands are recorded instead of run; `fail` names one that fails."""

    def __init__(self, folder, found=None, cv2_error="ModuleNotFoundError"):
        super().__init__(folder)
        self.found = found or FRESH
        self.cv2_error = cv2_error
        self.commands = []
        self.installed = []
        self.fail = None

    def run(self, command, failure):
        text = " ".join(map(str, command))
        self.commands.append(text)
        if self.fail and self.fail in text:
            raise KeyboardInterrupt
        if "-m venv" in text:
            self.site.mkdir(parents=True)
            self.python.parent.mkdir()
            self.python.touch()
        return "wheel"

    def pip_install(self, what, pins):
        self.installed += what
        self.pins = pins
        self.run(["pip install", *what], "")

    def probe(self):
        return {"site": str(self.site), "found": self.found, "cv2_error": self.cv2_error}

    @property
    def site(self):
        return self.folder / "lib"


@pytest.fixture
def environment(tmp_path):
    recorded = Recorded(tmp_path / "venv")
    recorded.state.mkdir(parents=True)
    return recorded


def complete(environment):
    environment.commands.clear()
    environment.fail = None
    setup.set_up(environment)
    return environment.is_ready()


def test_a_fresh_environment_gets_everything(environment):
    assert not environment.is_ready() and complete(environment)
    assert environment.made_here
    assert {"torch", "torchvision", "opencv-python-headless", "wheel"} <= set(environment.installed)
    assert "torch==2.14.1" in environment.pins and any("numpy==" in p for p in environment.pins)
    assert any("build_detectron2_wheel" in each for each in environment.commands)
    assert sorted(path.name for path in environment.state.iterdir()) == ["made", "stamp"]


@pytest.mark.parametrize("step", ["-m venv", "torchvision", "build_detectron2_wheel", "--editable"])
def test_an_interrupted_set_up_goes_on(environment, step):
    environment.fail = step
    with pytest.raises(KeyboardInterrupt):
        setup.set_up(environment)
    assert not environment.is_ready()
    assert complete(environment)
    made_anew = any("-m venv" in each for each in environment.commands)
    assert made_anew == (step == "-m venv")


def test_an_interrupted_change_leaves_no_stamp(environment):
    assert complete(environment)
    environment.fail = "--editable"
    with pytest.raises(KeyboardInterrupt):
        setup.set_up(environment)
    assert not environment.is_ready()


def test_a_half_made_environment_is_made_anew(environment):
    (environment.state / "making").touch()
    environment.refuse_other_folder()
    (environment.folder / "bin").mkdir()
    (environment.folder / "half").symlink_to("nowhere")
    assert complete(environment)
    assert not (environment.folder / "half").is_symlink()


def test_nothing_is_done_twice(environment, monkeypatch):
    assert complete(environment)
    monkeypatch.setattr(sys, "argv", ["setup", "--venv", str(environment.folder)])
    monkeypatch.setattr(setup, "set_up", lambda _: pytest.fail("set up again"))
    setup.main()


@pytest.mark.parametrize("path", setup.KEYED_BY, ids=lambda path: path.name)
def test_what_the_stamp_depends_on(environment, path, monkeypatch, tmp_path):
    assert complete(environment)
    changed = tmp_path / path.name
    changed.write_text(path.read_text() + "\n# changed\n")
    keyed_by = [changed if each == path else each for each in setup.KEYED_BY]
    monkeypatch.setattr(setup, "KEYED_BY", keyed_by)
    assert not environment.is_ready()


def test_an_existing_environment_keeps_what_it_has(tmp_path):
    environment = Recorded(tmp_path, {**FULL, "detectron2": "0.6+cu113"}, cv2_error="")
    environment.run(["-m venv"], "")
    environment.state.mkdir()
    assert complete(environment)
    assert not environment.made_here
    base = [setup.SETUPTOOLS, "wheel", "--editable", f"{setup.ROOT}[dev]"]
    assert environment.installed == [*base, "--no-deps", "lvis"]
    assert {f"{k}=={v}" for k, v in environment.found.items()} <= set(environment.pins)
    pinned = [setup.name_of(line) for line in environment.pins]
    assert pinned.count("numpy") == pinned.count("torch") == 1
    assert "fvcore==0.1.5.post20221221" in environment.pins


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("years of work")
    monkeypatch.setattr(sys, "argv", ["setup", "--venv", str(tmp_path)])
    with pytest.raises(SystemExit, match="exists and is no environment.*VENV=/another/place"):
        setup.main()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_opencv_is_never_installed_over_another():
    assert setup.opencv_missing({}, "ModuleNotFoundError: cv2")
    assert not setup.opencv_missing({"opencv-python": "4.14"}, "")
    with pytest.raises(SystemExit, match="opencv-python 4.14 is installed but cannot be imported"):
        setup.opencv_missing({"opencv-python": "4.14"}, "ImportError: libGL.so.1")


def test_half_a_pytorch_is_refused(tmp_path):
    assert setup.torch_missing({}, tmp_path) and not setup.torch_missing(FULL, tmp_path)
    with pytest.raises(SystemExit, match="torch 2.9 but no torchvision"):
        setup.torch_missing({"torch": "2.9"}, tmp_path)


@pytest.mark.parametrize("version", ["0.6", "0.6+cu113", "0.7.dev0", "1.0"])
def test_detectron2_versions_that_serve(version):
    setup.check_detectron2({"detectron2": version})


def test_an_old_detectron2_is_refused():
    with pytest.raises(
        SystemExit, match=r"Detectron2 0.5\+cu111 is installed; 0.6 or newer is needed"
    ):
        setup.check_detectron2({"detectron2": "0.5+cu111"})


def installed(site, name):
    """A distribution as pip leaves it: one module, METADATA, INSTALLER and RECORD."""
    info = site / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text("X = 1\n")
    (info / "INSTALLER").write_text("pip\n")
    digest = hashlib.sha256(b"X = 1\n").hexdigest()
    (info / "RECORD").write_text(f"{name}.py,sha256={digest},6\n{name}-1.dist-info/RECORD,,\n")
    return info


def test_half_installed_distributions_are_forgotten(tmp_path):
    whole, cut, unrecorded, before = (installed(tmp_path, name) for name in "abcd")
    (tmp_path / "b.py").write_text("X")
    (unrecorded / "RECORD").unlink()
    (before / "RECORD").unlink()
    (tmp_path / "~orch").mkdir()
    setup.forget_broken(tmp_path, [before.name])
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {whole, before}


def test_what_was_there_before_is_remembered_across_interruptions(environment):
    environment.fail = "--editable"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            setup.set_up(environment)
        installed(environment.site, f"late{len(list(environment.site.iterdir()))}")
    assert json.loads((environment.state / "unfinished.json").read_text()) == []


def test_the_lock_outlives_a_killed_set_up_with_its_pip(environment):
    def is_free():
        with open(environment.state / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    descriptor = environment.lock()
    inherits = [sys.executable, "-c", f"import os; os.fstat({descriptor})"]
    setup.Environment.run(environment, inherits, "The command does not hold the lock.")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, close_fds=False)
    os.close(descriptor)
    assert not is_free()
    child.communicate(b"\n")
    assert is_free()


def test_the_constraints_name_each_package_once():
    lines = [line for line in setup.constraint_lines() if "python_version" not in line]
    names = [setup.name_of(line) for line in lines]
    assert all("==" in line for line in lines) and len(names) == len(set(names))
