"""The folder of wheels for a machine without network, gathered from made-up wheels."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import platform_tags

import make_wheelhouse
from make_wheelhouse import PYTORCH, Wheelhouse

LINUX = "manylinux_2_31_x86_64"
# What each made-up wheel requires.
REQUIRES = {
    "pointrend-seg": ["detectron2>=0.6", "torch", "scripts; extra == 'cityscapes'"],
    "detectron2": [
        "fvcore<0.1.6,>=0.1.5",
        "matplotlib",
        "setuptools<81",
        "tomli; python_version<'3'",
    ],
    "fvcore": ["numpy", "tqdm", "fvcore>=0.1"],
    "scripts": ["tqdm>4", "setuptools>=41"],
    "matplotlib": ["contourpy"],
}


def wheel(folder, name):
    path = folder / f"{name.replace('-', '_')}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = [f"Requires-Dist: {each}\n" for each in REQUIRES.get(name, [])]
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Name: {name}\n{''.join(lines)}\n")
    return path


@pytest.fixture
def fetched(monkeypatch):
    """Requirements asked of PyPI."""
    asked = []

    def fetch(requirement, python, tags, scratch):
        asked.append(requirement)
        return wheel(scratch, Requirement(requirement).name)

    monkeypatch.setattr(make_wheelhouse, "fetch", fetch)
    for name in ("pointrend-seg", "detectron2"):
        function = {"detectron2": "build_detectron2"}.get(name, "build_this_package")
        monkeypatch.setattr(make_wheelhouse, function, lambda folder, n=name: wheel(folder, n))
    return asked


def make(monkeypatch, output, *args):
    monkeypatch.setattr(sys, "argv", ["make_wheelhouse", "--output", str(output), *args])
    make_wheelhouse.main()
    return (output / "requirements.txt").read_text().splitlines()


def test_gathers_all_but_what_the_target_has(fetched, monkeypatch, tmp_path, capsys):
    lines = make(monkeypatch, tmp_path / "house")
    assert lines == [
        "contourpy",
        "detectron2>=0.6",
        "fvcore<0.1.6,>=0.1,>=0.1.5",
        "matplotlib",
        "opencv-python-headless",
        "pointrend-seg",
        "scripts",
        "setuptools<81,>=41",
        "tqdm>4",
    ]
    assert "fvcore==0.1.5.post20221221" in fetched, "the versions are those of constraints.txt"
    assert len(list((tmp_path / "house").glob("*.whl"))) == len(lines)
    line = (
        "pip install --no-index --no-deps --find-links house --requirement house/requirements.txt"
    )
    assert line in capsys.readouterr().out


def test_what_the_target_has_brings_nothing(fetched, monkeypatch, tmp_path):
    lines = make(monkeypatch, tmp_path / "house", "--have", "opencv-python", "Matplotlib")
    assert not {"contourpy", "matplotlib", "opencv-python-headless"} & set(lines)
    assert "detectron2>=0.6" in lines


def test_without_extras(fetched, monkeypatch, tmp_path):
    lines = make(monkeypatch, tmp_path / "house", "--extras", "")
    assert "scripts" not in lines and "setuptools<81" in lines


def test_pytorch_is_left_out_with_what_it_requires():
    from importlib.metadata import requires

    required = {Requirement(each) for name in ("torch", "torchvision") for each in requires(name)}
    names = {each.name.lower() for each in required if not (each.marker and "extra" in str(each))}
    own = {
        name for name in names if not name.startswith(("nvidia", "cuda", "triton", "setuptools"))
    }
    assert own <= set(PYTORCH)


def test_an_interrupted_run_leaves_the_folder_as_it_was(fetched, monkeypatch, tmp_path):
    first = make(monkeypatch, tmp_path / "house")

    def fail(*_):
        raise SystemExit("no network")

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="no network"):
        patch.setattr(make_wheelhouse, "fetch", fail)
        make(patch, tmp_path / "house", "--extras", "")
    assert (tmp_path / "house" / "requirements.txt").read_text().splitlines() == first
    make(monkeypatch, tmp_path / "house", "--extras", "")
    assert [path.name for path in tmp_path.iterdir()] == ["house"]


def test_another_folder_is_not_replaced(monkeypatch, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit, match="holds something else than wheels; nothing was changed"):
        make(monkeypatch, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_build_for_this_machine_alone_is_refused(monkeypatch, tmp_path):
    def pip(*args):
        folder = Path(args[args.index("--wheel-dir") + 1])
        (folder / "ext-1-cp311-cp311-linux_x86_64.whl").touch()
        return subprocess.CompletedProcess(args, 0, "", "")

    monkeypatch.setattr(make_wheelhouse, "pip", pip)
    with pytest.raises(SystemExit, match="would serve this machine only.*--have"):
        make_wheelhouse.build_wheel("ext==1", tmp_path)


def test_markers_are_the_targets(tmp_path):
    old = Wheelhouse(tmp_path, "3.10", LINUX, set()).pins
    new = Wheelhouse(tmp_path, "3.12", LINUX, set()).pins
    assert (old["pillow"], new["pillow"]) == ("12.3.0", "13.0.0")
    windows = make_wheelhouse.target_environment("3.12", "win_amd64")
    assert (windows["sys_platform"], windows["platform_machine"]) == ("win32", "amd64")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its own tags are the oracle")
def test_platform_tags_are_those_pip_accepts():
    accepted = list(platform_tags())
    newest = next((tag for tag in accepted if tag.startswith("manylinux")), "")
    if not newest.endswith("x86_64"):
        pytest.skip("no glibc on x86-64")
    assert set(make_wheelhouse.platform_tags(newest)) == set(accepted)
    assert make_wheelhouse.platform_tags("macosx_14_0_arm64") == ["macosx_14_0_arm64"]


def test_the_wheel_of_this_package_holds_every_module_and_imports(tmp_path):
    built = make_wheelhouse.build_this_package(tmp_path)
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
