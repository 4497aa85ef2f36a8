"""Imports run downward: see docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pointrend_seg

PACKAGE = Path(pointrend_seg.__file__).parent
# From the bottom up; a module may import from its own layer's modules above it in the list of
# that layer, and from every layer before. Heads never import one another.
LAYERS = [
    {"errors", "scalars", "suggestions"},
    {"points", "registry", "command_line", "losses", "upsampling", "evaluation.boundary"},
    {"frames", "subdivision", "evaluation.confusion"},
    {"config", "sampling", "point_heads", "implicit_point_head", "point_labels", "box_points"},
    {"config_errors"},
    {"coarse_semantic", "coarse_head", "semantic_checks", "mask_checks", "checkpoint_names"},
    {"mask_resolution"},
    {"plain_path", "fast_path"},
    {"semantic_head", "mask_head", "implicit_mask_head"},
    {"tracing"},
    {"checkpoint", "inspection", "visualization", "data"},
    {"drawing"},
    {"evaluation"},
    {"report"},
    {"engine"},
    {"benchmark", "prediction", "dry_run"},
    {"training_pictures"},
]
KNOWS_NOTHING_OF_DETECTRON2 = {
    "points",
    "frames",
    "upsampling",
    "subdivision",
    "losses",
    "evaluation/boundary",
    "evaluation/confusion",
}


def modules():
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path):
    """Absolute names of what a module imports, also within its functions."""
    package = ["pointrend_seg", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *filter(None, [node.module])])


def layer(name):
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    for number, names in enumerate(LAYERS):
        if name.split(".")[0] in names:
            return number
    raise AssertionError(f"{name} is in no layer: add it to LAYERS")


def test_nothing_imports_from_the_package_root():
    for path in modules():
        assert "pointrend_seg" not in set(imports(path)), path


def test_imports_run_downward():
    for path in modules():
        own = layer(name_of(path).removesuffix(".__init__"))
        for name in imports(path):
            if name.startswith("pointrend_seg."):
                other = layer(name.removeprefix("pointrend_seg."))
                assert other <= own, f"{path} imports {name}"


def test_heads_do_not_import_one_another():
    heads = ("semantic_head", "mask_head", "implicit_mask_head")
    for head in heads:
        others = {f"pointrend_seg.{other}" for other in heads if other != head}
        assert not others & set(imports(PACKAGE / f"{head}.py")), head


def test_the_ground_floor_knows_nothing_of_detectron2():
    for name in KNOWS_NOTHING_OF_DETECTRON2:
        used = set(imports(PACKAGE / f"{name}.py"))
        assert not any(module.split(".")[0] in ("detectron2", "fvcore") for module in used), name


def test_importing_touches_no_cuda_and_no_optional_package():
    code = (
        "import sys, torch, pointrend_seg, pointrend_seg.engine\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert 'cityscapesscripts' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_both_packages_in_one_process_in_either_order():
    """fvcore's registry refuses a second registration of a name."""
    names = ["pointrend_seg", "detectron2.projects.point_rend"]
    for first, second in (names, names[::-1]):
        code = f"import {first}, {second}"
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
