"""The style of docstrings and names, as far as it can be checked; docs are in CONTRIBUTING.md."""

import ast
from pathlib import Path

import pytest

import pointrend_seg

PACKAGE = Path(pointrend_seg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py")) + sorted((PACKAGE.parents[1] / "tools").glob("*.py"))
# A function's docstring begins with what it does: "Return …", "Load …".
NO_VERBS = {"The", "A", "An", "As", "Of", "See", "What", "Which", "Whether", "Where", "How", "Same"}


def functions(tree):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return (node for node in ast.walk(tree) if isinstance(node, kinds))


def is_property(function):
    return any("property" in ast.unparse(each) for each in function.decorator_list)


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-2:]))
def test_functions_say_what_they_do(file):
    for function in functions(ast.parse(file.read_text())):
        docstring = ast.get_docstring(function)
        if docstring and function.name != "__init__" and not is_property(function):
            assert docstring.split()[0] not in NO_VERBS, (function.name, docstring[:60])


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-2:]))
def test_names_say_what_a_thing_is(file):
    """`part_logits`, not `of_part`."""
    tree = ast.parse(file.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {function.name for function in functions(tree)}
    assert not {name for name in names if name.lstrip("_").startswith("of_")}
