"""Detectron2's Cityscapes code with the import of its main branch, which is broken elsewhere."""

import functools
import importlib.machinery
import os
import pickle
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import detectron2
import detectron2.data.datasets.cityscapes as loader
import numpy as np
import pytest

from cityscapes_tree import write_cityscapes_tree
from pointrend_seg.data import cityscapes
from pointrend_seg.errors import InputError

pytest.importorskip("cityscapesscripts")
needs_shapely = pytest.mark.skipif(find_spec("shapely") is None, reason="needs shapely")

INTERNAL = "deeplearning.projects.cityscapesApi.cityscapesscripts"

LOAD_AND_EVALUATE = """
import multiprocessing, sys
import numpy as np
import torch
from PIL import Image
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from detectron2.structures import Instances
from pointrend_seg.data.cityscapes import check_cityscapes_evaluation, ensure_cityscapes_importable

def evaluate(evaluator, name, predict):
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        evaluator.process([record], [predict(record)])
    return evaluator.evaluate()

def semantic(record):
    labels = torch.from_numpy(np.array(Image.open(record["sem_seg_file_name"]))).long()
    return {"sem_seg": torch.nn.functional.one_hot(labels, 19).permute(2, 0, 1)}

def instances(record):
    file = record["file_name"].replace("leftImg8bit/", "gtFine/")
    ids = np.array(Image.open(file.replace("leftImg8bit", "gtFine_instanceIds")))
    found = Instances(ids.shape)
    found.pred_masks = torch.from_numpy(np.stack([ids == 26000, ids == 24000]))
    found.pred_classes = torch.tensor([2, 0])
    found.scores = torch.tensor([0.9, 0.8])
    return {"instances": found}

def expect_broken(call):
    try:
        call()
    except ModuleNotFoundError as error:
        assert "deeplearning" in str(error), error
    else:
        raise AssertionError("this Detectron2 is not broken")

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    sem, inst = "cityscapes_fine_sem_seg_val", "cityscapes_fine_instance_seg_val"
    record = DatasetCatalog.get(sem)[0]
    expect_broken(lambda: DatasetCatalog.get(inst))
    broken = CityscapesSemSegEvaluator(sem)
    broken.reset()
    expect_broken(lambda: broken.process([record], [semantic(record)]))
    ensure_cityscapes_importable(instances=True)
    check_cityscapes_evaluation()
    found = [sorted(a["category_id"] for a in r["annotations"]) for r in DatasetCatalog.get(inst)]
    assert found == [[0, 2], [0, 2]], found
    result = evaluate(CityscapesSemSegEvaluator(sem), sem, semantic)["sem_seg"]
    assert result["IoU"] == 100.0, result
    result = evaluate(CityscapesInstanceEvaluator(inst), inst, instances)["segm"]
    assert result["AP"] == 100.0, result
    print("all good")
"""

RUN_PICKLED = """
import pickle, sys
parse, files = pickle.load(open(sys.argv[1], "rb"))
assert not any(name.startswith("deeplearning") for name in sys.modules)
print(len(parse(files)["annotations"]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_cityscapes_tree(root)
    return root


@pytest.fixture(scope="module")
def broken_detectron2(tmp_path_factory):
    """A folder with a copy of Detectron2 whose Cityscapes imports are those of its main branch."""
    folder = tmp_path_factory.mktemp("broken")
    source = Path(detectron2.__file__).parent
    skip = shutil.ignore_patterns("__pycache__", "model_zoo")
    shutil.copytree(source, folder / "detectron2", ignore=skip)
    (folder / "detectron2/model_zoo").mkdir()
    (folder / "detectron2/model_zoo/__init__.py").touch()
    for file in ("data/datasets/cityscapes.py", "evaluation/cityscapes_evaluation.py"):
        path = folder / "detectron2" / file
        text, count = re.subn(
            rf"(from|import) (?:{re.escape(INTERNAL)}|cityscapesscripts)\.",
            rf"\1 {INTERNAL}.",
            path.read_text(encoding="utf-8"),
        )
        assert count >= 3
        path.write_text(text, encoding="utf-8")
    return folder


def run(script, argument, broken_detectron2, tree, tmp_path):
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    path = os.pathsep.join([str(broken_detectron2), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(argument)],
        cwd=tmp_path,  # the instance evaluation writes matches.json where it runs
        env=os.environ | {"PYTHONPATH": path, "DETECTRON2_DATASETS": str(tree)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1]


@needs_shapely
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("cityscapes_scripts")
def test_data_sets_and_evaluators_of_a_broken_detectron2(broken_detectron2, tree, tmp_path):
    assert run(LOAD_AND_EVALUATE, "fork", broken_detectron2, tree, tmp_path) == "all good"


@needs_shapely
@pytest.mark.slow
@pytest.mark.usefixtures("cityscapes_scripts")
def test_the_same_with_spawned_processes(broken_detectron2, tree, tmp_path):
    assert run(LOAD_AND_EVALUATE, "spawn", broken_detectron2, tree, tmp_path) == "all good"


@needs_shapely
def test_a_fresh_process_can_run_what_the_pool_sends_it(broken_detectron2, tree, tmp_path):
    cityscapes.ensure_cityscapes_importable(instances=True)
    images, labels = (str(tree / "cityscapes" / kind) for kind in ("leftImg8bit", "gtFine"))
    files = loader._get_cityscapes_files(f"{images}/val", f"{labels}/val")[0]
    sent = tmp_path / "task.pickle"
    sent.write_bytes(pickle.dumps((FilesToDict(), files)))
    assert run(RUN_PICKLED, sent, broken_detectron2, tree, tmp_path) == "2"


class FilesToDict:
    """Pickles as the function that Detectron2's pool sends, with its options."""

    def __reduce__(self):
        parse = functools.partial(
            loader._cityscapes_files_to_dict, from_json=True, to_polygons=True
        )
        return parse.__reduce__()


@pytest.fixture
def clean_imports(monkeypatch):
    """Undoes what imports of `deeplearning` leave behind."""
    for name in list(sys.modules):
        if name.split(".")[0] == "deeplearning":
            monkeypatch.delitem(sys.modules, name)
    yield
    for name in list(sys.modules):
        if name.split(".")[0] == "deeplearning":
            del sys.modules[name]


def test_modules_are_the_public_ones_not_copies(clean_imports):
    cityscapes.ensure_cityscapes_importable()
    import cityscapesscripts.helpers.labels as public

    internal = importlib.import_module(f"{INTERNAL}.helpers.labels")
    assert internal is public
    assert public.__spec__.name == public.__name__ == "cityscapesscripts.helpers.labels"


def test_unknown_modules_stay_unknown(clean_imports):
    cityscapes.ensure_cityscapes_importable()
    for name in (f"{INTERNAL}.nothing", "deeplearning.other", "deeplearning.projects.other"):
        with pytest.raises(ModuleNotFoundError, match=name.rsplit(".", 1)[1]):
            importlib.import_module(name)


def test_a_real_package_of_that_name_wins(clean_imports, tmp_path, monkeypatch):
    helpers = tmp_path.joinpath(*INTERNAL.split("."), "helpers")
    helpers.mkdir(parents=True)
    (helpers / "labels.py").write_text("real = True")
    cityscapes.ensure_cityscapes_importable()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.import_module(f"{INTERNAL}.helpers.labels").real


def test_a_package_that_only_shares_the_first_name_is_kept(clean_imports, tmp_path, monkeypatch):
    (tmp_path / "deeplearning").mkdir()
    (tmp_path / "deeplearning/__init__.py").write_text("own = True")
    (tmp_path / "deeplearning/mine.py").write_text("value = 3")
    cityscapes.ensure_cityscapes_importable()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.import_module("deeplearning.mine").value == 3
    assert importlib.import_module("deeplearning").own
    assert importlib.import_module(f"{INTERNAL}.helpers.labels").trainId2label[0].name == "road"


def test_calling_twice_changes_nothing():
    cityscapes.ensure_cityscapes_importable()
    finders = list(sys.meta_path)
    cityscapes.ensure_cityscapes_importable()
    assert sys.meta_path == finders


@pytest.mark.parametrize(
    ("package", "instances"), [("cityscapesscripts", False), ("shapely", True)]
)
def test_missing_package_names_the_extra(monkeypatch, package, instances):
    real = cityscapes.find_spec
    monkeypatch.setattr(cityscapes, "find_spec", lambda n: None if n == package else real(n))
    with pytest.raises(InputError) as caught:
        cityscapes.ensure_cityscapes_importable(instances=instances)
    assert f"needs the package {package}, which is not installed" in str(caught.value)
    assert 'pip install "pointrend-seg[cityscapes]"' in str(caught.value)


def test_numpy_without_in1d(monkeypatch, tmp_path):
    monkeypatch.delattr(np, "in1d", raising=False)
    monkeypatch.setattr(np, "__version__", "2.4.0")
    script = tmp_path / "eval.py"
    spec = importlib.machinery.ModuleSpec("eval", None, origin=str(script))
    real = cityscapes.find_spec
    monkeypatch.setattr(cityscapes, "find_spec", lambda n: spec if "evalPixel" in n else real(n))
    script.write_text("mask = np.in1d(a, b)")
    with pytest.raises(InputError, match=r"NumPy 2\.4\.0 no longer has.*'numpy<2\.4'"):
        cityscapes.check_cityscapes_evaluation()
    script.write_text("mask = np.isin(a, b)")
    cityscapes.check_cityscapes_evaluation()


def test_numpy_with_in1d(monkeypatch):
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    cityscapes.check_cityscapes_evaluation()
