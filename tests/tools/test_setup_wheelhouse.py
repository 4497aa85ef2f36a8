"""The folder of wheels for a machine without network, gathered with a made-up pip."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.tags import platform_tags

import make_wheelhouse
from made_up_wheels import write_wheel
from make_wheelhouse import closure

REQUIRES = {
    "pointrend-seg": ["detectron2>=0.6", "torch", "Scripts; extra == 'cityscapes'"],
    "detectron2": ["fvcore<0.1.6", "matplotlib", "tomli; python_version < '3.11'", "setuptools"],
    "fvcore": ["numpy", "tqdm[all]"],
    "tqdm": ["fvcore>=0.1", "rich; extra == 'all'"],
    "scripts": ["tqdm>4", "waiting; platform_system == 'Windows'"],
    "matplotlib": ["contour_py"],
    "torch": ["numpy", "setuptools", "sympy"],
}
PYTHON_312 = {"python_version": "3.12", "platform_system": "Linux"}


@pytest.fixture
def pip(monkeypatch):
    """Calls of pip, which makes an empty wheel of each package that is asked for."""
    calls = []

    def run(*args):
        calls.append(args)
        folder = Path(args[args.index("--dest" if "--dest" in args else "--wheel-dir") + 1])
        for name in args[args.index(str(folder)) + 1 :]:
            write_wheel(folder, name.partition("==")[0], "1")

    monkeypatch.setattr(make_wheelhouse, "pip", run)
    monkeypatch.setattr(make_wheelhouse, "requires", lambda name: REQUIRES.get(name))
    for function, name in (
        ("build_detectron2", "detectron2"),
        ("wheel_of_this_package", "pointrend-seg"),
    ):
        monkeypatch.setattr(
            make_wheelhouse, function, lambda folder, name=name: write_wheel(folder, name, "1")
        )
    return calls


def make(monkeypatch, output, *args):
    monkeypatch.setattr(sys, "argv", ["make_wheelhouse", "--output", str(output), *args])
    make_wheelhouse.main()
    return {path.name.partition("-")[0] for path in output.iterdir()}


def test_gathers_all_but_what_the_target_has(pip, monkeypatch, tmp_path, capsys):
    names = make(monkeypatch, tmp_path / "house", "--opencv")
    needed = {"contour_py", "fvcore", "matplotlib", "scripts", "setuptools", "tqdm", "rich"}
    assert names == needed | {"pointrend_seg", "detectron2", "opencv_python_headless"}
    built, downloaded = pip
    assert built[0] == "wheel" and built[-1] == "fvcore==0.1.5.post20221221"
    assert downloaded[:4] == ("download", "--only-binary=:all:", "--python-version", "3.12")
    assert "tqdm==4.70.1" in downloaded, "the versions are those of constraints.txt"
    line = "pip install --no-index --find-links house 'pointrend-seg[cityscapes]' 'opencv-python-he"
    assert line in capsys.readouterr().out


def test_what_the_target_has_brings_nothing(pip, monkeypatch, tmp_path, capsys):
    names = make(monkeypatch, tmp_path / "house", "--have", "Matplotlib", "--extras", "")
    assert names == {"fvcore", "setuptools", "tqdm", "rich", "pointrend_seg", "detectron2"}
    assert "OpenCV is not among them; --opencv adds it" in capsys.readouterr().out


@pytest.mark.usefixtures("pip")
def test_markers_are_the_targets():
    assert "tomli" not in closure(["detectron2"], PYTHON_312)
    assert "tomli" in closure(["detectron2"], {**PYTHON_312, "python_version": "3.10"})
    old, new = (make_wheelhouse.pins({"python_version": each}) for each in ("3.10", "3.12"))
    assert (old["pillow"], new["pillow"]) == ("pillow==12.3.0", "pillow==13.0.0")


def test_what_is_not_installed_here_is_gathered_all_the_same():
    assert closure(["no-such-package>1", "pluggy"], PYTHON_312) == {"no-such-package", "pluggy"}


def test_an_interrupted_run_leaves_the_folder_as_it_was(pip, monkeypatch, tmp_path):
    first = make(monkeypatch, tmp_path / "house")

    def fail(*_):
        raise SystemExit("no network")

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="no network"):
        patch.setattr(make_wheelhouse, "pip", fail)
        make(patch, tmp_path / "house", "--extras", "")
    assert {path.name.partition("-")[0] for path in (tmp_path / "house").iterdir()} == first
    assert make(monkeypatch, tmp_path / "house", "--extras", "") < first
    assert [path.name for path in tmp_path.iterdir()] == ["house"]


def test_another_folder_is_not_replaced(monkeypatch, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit, match="holds something else than wheels; nothing was changed"):
        make(monkeypatch, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_failure_of_pip_ends_with_a_sentence(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SystemExit, match="pip failed; its message is above. No wheelhouse"):
        make_wheelhouse.pip("download", "no-such-package")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its own tags are the oracle")
def test_platform_tags_are_those_pip_accepts():
    accepted = list(platform_tags())
    newest = next((tag for tag in accepted if tag.startswith("manylinux")), "")
    if not newest.endswith("x86_64"):
        pytest.skip("no glibc on x86-64")
    assert {*make_wheelhouse.platform_tags(newest), "linux_x86_64"} == set(accepted)
    assert make_wheelhouse.platform_tags("manylinux2014_aarch64") == ["manylinux2014_aarch64"]


def test_the_wheel_of_this_package_holds_every_module_and_imports(tmp_path):
    make_wheelhouse.wheel_of_this_package(tmp_path)
    (built,) = tmp_path.glob("*.whl")
    package = make_wheelhouse.ROOT / "projects"
    with zipfile.ZipFile(built) as archive:
        modules = {name for name in archive.namelist() if name.endswith(".py")}
        archive.extractall(tmp_path / "site")
    assert modules == {str(path.relative_to(package)) for path in package.rglob("*.py")}
    code = "import pointrend_seg.engine as e; print(e.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.stdout.startswith(str(tmp_path / "site")), result.stderr
