"""The Detectron2 wheel, built from a small wheel that carries it as the real one does."""

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

import build_detectron2_wheel as builder

CARRIED = {
    "LabGym/__init__.py": "raise SystemExit('not to be taken')",
    "LabGym/detectron2/": "",
    "LabGym/detectron2/__init__.py": "from LabGym.detectron2.layers import ops\nX = ops.X\n",
    "LabGym/detectron2/layers/__init__.py": "",
    "LabGym/detectron2/layers/ops.py": "import LabGym.detectron2 as d\nX = 7\n",
    "LabGym/detectron2/model_zoo/configs/base.yaml": "VERSION: 2\n",
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
            "detectron2/model_zoo/configs/base.yaml",
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
    assert (name, version.public, version.local) == ("detectron2", "0.6", "labgym3.1.2")
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
    code = (
        "import detectron2, importlib.metadata as m; print(detectron2.X, m.version('detectron2'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert result.stdout.decode().split() == ["7", builder.VERSION], result.stderr


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
