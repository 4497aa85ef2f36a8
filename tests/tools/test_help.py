"""The examples in `--help` are command lines that can be pasted."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from pointrend_seg.config.errors import check_pairs
from tool_runs import REPOSITORY, parse

TOOLS = REPOSITORY / "tools"
STARTERS = {"python", "python3", "torchrun"}


def examples(name):
    """The commands in a tool's docstring, which its help shows, each as words."""
    text = importlib.import_module(name).__doc__
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        words = shlex.split(line) if " tools/" in line else []
        while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
            words.pop(0)
        found += [words] if words and words[0] in STARTERS else []
    return found


NAMES = [
    path.stem for path in sorted(TOOLS.glob("*.py")) if path.stem not in ("startup", "demo_steps")
]
WITHOUT_PARSER = {
    *("demo", "demo_instance", "demo_micrograph", "demo_panoptic", "demo_point_supervision"),
    "setup_environment",
}
EXAMPLES = [
    (name, words) for name in NAMES if name not in WITHOUT_PARSER for words in examples(name)
]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"setup_environment"}))
def test_every_tool_has_an_example(name):
    assert examples(name), name


@pytest.mark.parametrize(
    ("name", "words"), EXAMPLES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EXAMPLES)]
)
def test_an_example_can_be_pasted(name, words, monkeypatch):
    assert not re.search(r"[…<>\[\]|&;]", " ".join(words)), words  # nothing for a shell or a reader
    start = next(n for n, word in enumerate(words) if word.startswith("tools/"))
    monkeypatch.setattr("sys.argv", words[start:])
    args = parse(Path(words[start]).stem, words[start + 1 :], monkeypatch)
    config = getattr(args, "config_file", None)
    if config and not config.startswith("output/"):
        assert (REPOSITORY / config).exists(), words
    if name != "lazyconfig_train_net":  # which takes key=value
        check_pairs(getattr(args, "opts", None) or [])


@pytest.mark.parametrize(
    "name", [n for n in NAMES if hasattr(importlib.import_module(n), "parser")]
)
def test_help_shows_the_examples_as_they_are(name):
    shown = importlib.import_module(name).parser().format_help()
    shown = shown.replace("\\\n", " ")
    for words in examples(name):
        assert re.search(r"\s+".join(map(re.escape, words[1:])), shown.replace("'", "")), words
