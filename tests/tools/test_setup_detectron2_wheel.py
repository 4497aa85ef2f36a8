"""The Detectron2 wheel, built from a small wheel that carries it as the real one does."""

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from importlib.metadata import version

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

import build_detectron2_wheel as builder

# The lines of the real module that are changed, among others.
MODEL_ZOO = """\
import os
import pkg_resources
def get_config_file(config_path):
    cfg_file = pkg_resources.resource_filename(
        "detectron2.model_zoo", os.path.join("configs", config_path)
    )
    return cfg_file
"""
CARRIED = {
    "LabGym/__init__.py": "raise SystemExit('not to be taken')",
    "LabGym/detectron2/": "",
    "LabGym/detectron2/__init__.py": "from LabGym.detectron2.layers import ops\nX = ops.X\n",
    "LabGym/detectron2/layers/__init__.py": "",
    "LabGym/detectron2/layers/ops.py": "import LabGym.detectron2 as d\nX = 7\n",
    "LabGym/detectron2/model_zoo/__init__.py": "from .model_zoo import get_config_file\n",
    "LabGym/detectron2/model_zoo/model_zoo.py": MODEL_ZOO,
    "LabGym/detectron2/model_zoo/configs/COCO/base.yaml": "VERSION: 2\n",
    "LabGym-3.1.2.dist-info/METADATA": "Name: LabGym\n",
}


@pytest.fixture
def carrier(tmp_path):
    path = tmp_path / "LabGym-3.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in CARRIED.items():
            archive.writestr(name, text)
    return path


def build(carrier, output):
    return builder.build(output, carrier, hashlib.sha256(carrier.read_bytes()).hexdigest())


def test_takes_the_one_folder_and_gives_it_its_name_back(carrier, tmp_path):
    with zipfile.ZipFile(build(carrier, tmp_path / "out")) as archive:
        code = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert code == [
            "detectron2/__init__.py",
            "detectron2/layers/__init__.py",
            "detectron2/layers/ops.py",
            "detectron2/model_zoo/__init__.py",
            "detectron2/model_zoo/configs/COCO/base.yaml",
            "detectron2/model_zoo/model_zoo.py",
        ]
        assert archive.read("detectron2/__init__.py").startswith(b"from detectron2.layers import")
        assert not any(b"LabGym.detectron2" in archive.read(name) for name in code)


def test_record_lists_every_file_with_its_hash_and_size(carrier, tmp_path):
    with zipfile.ZipFile(build(carrier, tmp_path / "out")) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith("RECORD"))
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            data = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
            assert (digest, size) == (
                ("", "") if name == record else (f"sha256={expected.rstrip('=')}", str(len(data)))
            )


def test_the_version_says_where_it_came_from_and_satisfies_the_requirement(carrier, tmp_path):
    name, version, _, _ = parse_wheel_filename(build(carrier, tmp_path / "out").name)
    assert (name, version.public, version.local) == ("detectron2", "0.6", "labgym3.1.2.p1")
    assert version in SpecifierSet(">=0.6")


def test_the_same_bytes_every_time(carrier, tmp_path):
    first, second = (build(carrier, tmp_path / name) for name in "ab")
    os.utime(carrier, (0, 0))
    assert first.read_bytes() == second.read_bytes() == build(carrier, tmp_path / "c").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first.name]
    with zipfile.ZipFile(first) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_pip_installs_it(carrier, tmp_path):
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    wheel = build(carrier, tmp_path / "out")
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True)
    code = "import detectron2 as d, importlib.metadata as m; print(d.X, m.version('detectron2'))"
    assert run_without_pkg_resources(code, target).split() == ["7", builder.VERSION]
    code = "from detectron2.model_zoo import *; print(get_config_file('COCO/base.yaml'))"
    path = run_without_pkg_resources(code, target).strip()
    assert path == str(target / "detectron2/model_zoo/configs/COCO/base.yaml")


def run_without_pkg_resources(code, folder=""):
    """Run code where pkg_resources cannot be imported, as with setuptools 82; return its output."""
    code = f"import sys; sys.modules['pkg_resources'] = None; {code}"
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_this_package_needs_no_pkg_resources():
    code = (
        "import pointrend_seg, pointrend_seg.engine; from detectron2.config import get_cfg; "
        "cfg = get_cfg(); pointrend_seg.add_pointrend_config(cfg); "
        "print('POINT_HEAD' in cfg.MODEL)"
    )
    assert run_without_pkg_resources(code).split() == ["True"]


@pytest.mark.skipif(version("detectron2") != builder.VERSION, reason="another Detectron2 is used")
def test_the_installed_model_zoo_needs_no_pkg_resources():
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
    code = f"from detectron2 import model_zoo; print(model_zoo.get_config({name!r}).VERSION)"
    assert run_without_pkg_resources(code).split() == ["2"]


@pytest.mark.parametrize("code", ["import importlib.resources\n", 2 * MODEL_ZOO])
def test_another_model_zoo_is_refused(code):
    with pytest.raises(SystemExit, match="model_zoo.py is not the file this script changes"):
        builder.without_pkg_resources(code.encode())


def test_another_hash_is_refused_and_nothing_is_written(carrier, tmp_path):
    with pytest.raises(SystemExit, match=f"expected sha256 {builder.SHA256}, got [0-9a-f]{{64}}"):
        builder.build(tmp_path / "out", carrier)
    assert not (tmp_path / "out").exists()


def test_a_wheel_without_the_folder_is_refused(tmp_path):
    path = tmp_path / "other-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(SystemExit, match="has no folder LabGym/detectron2/"):
        build(path, tmp_path / "out")


def test_without_network_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SystemExit, match="could not be downloaded from PyPI.*Without network"):
        builder.build(tmp_path / "out")
    assert not (tmp_path / "out").exists()
