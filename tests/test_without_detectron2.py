"""Where PyTorch alone is installed, `points` works and the rest says what is missing."""

import json
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pointrend_seg

SENTENCE = " needs Detectron2, which is not installed: install it as docs/installation.md says."


def closure(name):
    """Names of the distributions that a requirement brings with it, its own included."""
    waiting, seen = [Requirement(name)], set()
    while waiting:
        wanted = waiting.pop()
        key = (wanted.name, frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        for line in distribution(wanted.name).requires or ():
            required = Requirement(line)
            extras = ("", *wanted.extras)
            if not required.marker or any(required.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(required)
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment of this package, PyTorch and what PyTorch requires."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    for there in map(distribution, closure("torch")):
        for name in {file.parts[0] for file in there.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(there.locate_file(name))
    (site / "pointrend_seg").symlink_to(Path(pointrend_seg.__file__).parent)
    return folder / "bin" / "python"


def run(python, code):
    """What code prints, as JSON, where no variable and no folder of this process reaches it."""
    command = [str(python), "-I", "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_points(python):
    """A half plane is found to the pixel from its coarse map."""
    code = """
import importlib, json, pkgutil
from importlib.util import find_spec
import torch
import pointrend_seg.points as points

def half_plane(coords):  # (N, P, 2) to (N, 1, P)
    return (coords[..., 0] - 0.4).unsqueeze(1)

for module in pkgutil.iter_modules(points.__path__, "pointrend_seg.points."):
    importlib.import_module(module.name)
centres = points.regular_grid(8, torch.device("cpu"))
coarse = half_plane(centres).view(1, 1, 8, 8)
fine = points.subdivide(
    coarse, num_steps=3, num_points=256, predict=half_plane,
    uncertainty=lambda logits: -logits[:, 0].abs(),
)
expected = (torch.arange(64) + 0.5) / 64 > 0.4
others = ("numpy", "torchvision", "detectron2", "fvcore", "PIL", "cv2", "pycocotools")
print(json.dumps({
    "file": points.__file__,
    "others": [name for name in others if find_spec(name)],
    "right": ((fine[0, 0] > 0) == expected).all().item(),
    "reading": (points.sample_points(coarse, centres)[0, 0] - coarse.flatten()).abs().max().item(),
}))
"""
    found = run(python, code)
    assert Path(found["file"]).is_relative_to(python.parents[1])
    assert found["others"] == []
    assert found["right"] and found["reading"] < 1e-6


def test_what_needs_detectron2_says_so(python):
    """The rest of the package root is there, and a name that exists nowhere is just that."""
    statements = {
        "pointrend_seg.Predictor": "pointrend_seg.Predictor",
        "pointrend_seg.add_pointrend_config": "pointrend_seg.add_pointrend_config",
        "pointrend_seg.PointRendInstanceHead": "from pointrend_seg import PointRendInstanceHead",
        "pointrend_seg.modeling": "import pointrend_seg.modeling",
    }
    code = f"""
import json, pointrend_seg
messages = {{}}
for name, statement in {statements!r}.items():
    try:
        exec(statement)
    except ImportError as error:
        messages[name] = str(error)
assert issubclass(pointrend_seg.InputError, ValueError)
assert not hasattr(pointrend_seg, "Prediktor")
print(json.dumps(messages))
"""
    assert run(python, code) == {name: name + SENTENCE for name in statements}
