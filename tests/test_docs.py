"""The examples of the documents run, and their links lead somewhere."""

import importlib.util
import re
import textwrap
from pathlib import Path

import pytest
import torch
from detectron2.modeling import (
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    build_model,
)
from PIL import Image

from mask_inputs import (
    assert_finite_with_gradients,
    detections,
    features,
    losses_of,
    mask_head,
    masks_of,
    proposals,
    with_points,
)
from pointrend_seg import POINT_HEAD_REGISTRY
from pointrend_seg.modeling.samplers import POINT_SAMPLER_REGISTRY
from small_configs import IMPLICIT_OPTS, small_semantic_cfg

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "projects" / "pointrend_seg"
SUB_PACKAGES = "|".join(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
NODE = "MODEL.SEM_SEG_POINT_HEAD"


def examples(name):
    text = (REPOSITORY / name).read_text()
    blocks = re.findall(r"^ *```python\n(.*?)```", text, flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def train_and_predict(opts):
    model = build_model(small_semantic_cfg(opts=opts))
    inputs = [{"image": torch.rand(3, 64, 96), "sem_seg": torch.randint(0, 5, (64, 96))}] * 2
    losses = model(inputs)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        assert model.eval()(inputs)[0]["sem_seg"].shape == (5, 64, 96)
    return losses


def test_the_python_of_the_readme(monkeypatch):
    (code,) = examples("README.md")
    monkeypatch.chdir(REPOSITORY)
    names = {}
    exec(code, names)
    assert type(names["model"].sem_seg_head).__name__ == "PointRendSemanticHead"


def test_the_python_of_the_quick_start(monkeypatch):
    (code,) = examples("docs/quick-start.md")
    monkeypatch.chdir(REPOSITORY)
    names = {}
    exec(code, names)
    assert type(names["model"].sem_seg_head).__name__ == "PointRendSemanticHead"


def test_the_python_of_predicting(tmp_path, monkeypatch):
    blocks = examples("docs/predicting.md")
    assert len(blocks) == 3
    config = small_semantic_cfg(opts=("DATASETS.TRAIN", "()", "DATASETS.TEST", "()"))
    torch.save({"model": build_model(config).state_dict()}, tmp_path / "model.pth")
    names = {"config": config, "weights": tmp_path / "model.pth"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 60)).save("images/a.png")
    blocks[2] = blocks[2].replace(', "clip.mp4"', "")
    for code in blocks:
        exec(code, names)
    assert names["output"]["sem_seg"].shape == (5, 60, 80)
    assert (tmp_path / "found.jpg").exists() and (tmp_path / "drawn/a.jpg").exists()
    assert len(names["annotations"]) == len(names["parts"]) > 0 and names["errors"] == []


def test_the_python_of_moving_over():
    adopting, imports = examples("docs/moving-over.md")
    names = {}
    exec(adopting, names)
    exec(imports, {})
    assert names["cfg"].MODEL.ROI_MASK_HEAD.NAME == "PointRendInstanceHead"


def test_the_sampler_of_the_docs():
    code, _ = examples("docs/samplers.md")
    try:
        exec(code, {"__name__": "example"})
        train_and_predict((f"{NODE}.SAMPLER", "MostUncertainCells"))
    finally:
        POINT_SAMPLER_REGISTRY._obj_map.pop("MostUncertainCells", None)


def test_the_mask_head_of_the_docs_that_trains_from_points():
    """Its losses are those that our own head has of such points."""
    _, code = examples("docs/samplers.md")
    losses = []
    try:
        exec(code, {"__name__": "example"})
        for name in ("ImplicitHeadOfPoints", "ImplicitPointRendInstanceHead"):
            head = mask_head((*IMPLICIT_OPTS, "MODEL.ROI_MASK_HEAD.NAME", name))
            images = with_points(3, 0, 2)
            losses.append(losses_of(head, features(3), images))
            assert_finite_with_gradients(losses[-1], head)
            none = losses_of(head, features(), with_points(0, 0))
            assert not any(none.values())
        assert losses[0] == losses[1]
    finally:
        ROI_MASK_HEAD_REGISTRY._obj_map.pop("ImplicitHeadOfPoints", None)


def test_the_coarse_head_of_the_docs():
    """It has no loss of its own, so the cross entropy of its upsampled logits is taken."""
    (code,) = examples("docs/coarse-heads.md")
    try:
        exec(code, {"__name__": "example"})
        name = (f"{NODE}.COARSE_SEM_SEG_HEAD_NAME", "LinearHead")
        losses = train_and_predict((*name, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["p3"]))
        assert set(losses) == {"loss_sem_seg", "loss_sem_seg_point"}
    finally:
        SEM_SEG_HEADS_REGISTRY._obj_map.pop("LinearHead", None)


def test_the_point_head_of_contributing():
    """It serves both branches, and the fast readers leave it alone."""
    (code,) = examples("CONTRIBUTING.md")
    try:
        exec(code, {"__name__": "example"})
        train_and_predict((f"{NODE}.NAME", "LinearPointHead"))
        head = mask_head(("MODEL.POINT_HEAD.NAME", "LinearPointHead"))
        assert_finite_with_gradients(losses_of(head, features(), proposals(3, 0)), head)
        assert masks_of(head, features(), detections(2, 3)).shape == (5, 1, 224, 224)
    finally:
        POINT_HEAD_REGISTRY._obj_map.pop("LinearPointHead", None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_exist(document):
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target
    for path in re.findall(r"`((?:configs|tools|tests|docs|projects)/[\w./-]+\w)`", text):
        assert (REPOSITORY / path).exists(), path
    for path in re.findall(rf"`((?:{SUB_PACKAGES})/[\w./]*)`", text):
        assert (PACKAGE / path).exists(), path


def test_modules_that_the_changelog_names_exist():
    unreleased = (REPOSITORY / "CHANGELOG.md").read_text().split("\n## ")[1]
    rows = re.findall(r"^\| `.*\| (.*) \|$", unreleased, re.MULTILINE)
    modules = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    for name in modules:
        assert importlib.util.find_spec(f"pointrend_seg.{name}"), name
