"""The layers of the package: see docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pointrend_seg

PACKAGE = Path(pointrend_seg.__file__).parent
# What each package may import of this one, besides itself and `errors`. There are no circles.
MAY_IMPORT = {
    "files": set(),
    "points": set(),
    "structures": {"points"},
    "config": set(),
    "modeling": {"structures", "points", "config"},
    "checkpoint": {"config", "files"},
    "data": {"structures", "config", "files"},
    "evaluation": {"structures", "data", "files"},
    "drawing": {"data"},
    "report": {"evaluation", "structures", "drawing", "data", "files"},
    "tiling": {"structures", "modeling", "data", "evaluation", "files"},
    "test_time": {"config", "modeling", "data", "tiling"},
    "engine": {
        *("config", "modeling", "checkpoint", "data", "evaluation", "tiling", "report", "files"),
        "test_time",
    },
    "prediction": {
        *("engine", "tiling", "config", "modeling", "structures", "data", "drawing"),
        *("evaluation", "files", "test_time"),
    },
    "benchmark": {"config", "structures", "evaluation", "files"},
    "compat": {"checkpoint", "config", "modeling", "points", "structures", "data"},
    "command_line": {"engine", "files"},
}
NEEDS_TORCH_ALONE = ("errors.py", "points")
KNOWS_ARGPARSE = "command_line"


def modules(*places):
    """The modules of some packages or files, of all by default."""
    for place in places or (".",):
        found = PACKAGE / place
        yield from found.rglob("*.py") if found.is_dir() else [found]


def imports(path):
    """Absolute names of what a module imports, also within its functions."""
    package = ["pointrend_seg", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *filter(None, [node.module])]
            # `from . import module` names modules
            yield from (
                (".".join([*base, a.name]) for a in node.names)
                if base == ["pointrend_seg"]
                else [".".join(base)]
            )


def test_nothing_but_errors_lies_in_the_root():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "errors.py"}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == MAY_IMPORT.keys()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_what_a_package_imports(package):
    allowed = {"errors", package} | MAY_IMPORT[package]
    for path in modules(package):
        for name in imports(path):
            if name.split(".")[0] == "pointrend_seg":
                assert name.split(".")[1] in allowed, f"{path} imports {name}"


def test_points_need_torch_alone():
    for path in modules(*NEEDS_TORCH_ALONE):
        outside = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names
        assert outside <= {"torch", "pointrend_seg"}, path


def test_only_the_command_line_knows_argparse():
    for path in modules():
        if KNOWS_ARGPARSE not in path.parts:
            assert "argparse" not in set(imports(path)), path


def test_heads_do_not_import_one_another():
    heads = ("semantic_head", "instance_head", "implicit_head")
    for head in heads:
        others = {f"pointrend_seg.modeling.{other}" for other in heads if other != head}
        assert not others & set(imports(PACKAGE / "modeling" / f"{head}.py")), head


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
