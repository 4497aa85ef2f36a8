"""Command lines in the documents are ones that the tools understand."""

import re
import shlex
from pathlib import Path

import pytest

from pointrend_seg.config.errors import check_pairs
from tool_runs import REPOSITORY, parse

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *PAGES]
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
# What a reader puts in by hand.
PLACEHOLDERS = re.compile(r"\[KEY VALUE \.\.\.\]|^CONFIG$|/path/to/.*|^my_.*")


def commands():
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.replace("[KEY VALUE ...]", ""), comments=True)
                while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield document.name, words


COMMANDS = list(commands())


@pytest.mark.parametrize(
    ("name", "words"),
    [(name, words) for name, words in COMMANDS if words[0] in ("python", "python3")],
    ids=lambda value: value if isinstance(value, str) else Path(value[1]).stem,
)
def test_tools_and_their_options(name, words, monkeypatch):
    path = REPOSITORY / words[1]
    assert path.exists(), words
    monkeypatch.setattr("sys.argv", words[1:])
    try:
        args = parse(path.stem, words[2:], monkeypatch)
    except SystemExit as stopped:
        assert stopped.code == 0 and "--help" in words, words
        return
    config = getattr(args, "config_file", None)
    if config and not PLACEHOLDERS.match(config) and not config.startswith("output/"):
        assert (REPOSITORY / config).exists(), words
    if path.stem != "lazyconfig_train_net":  # which takes key=value
        check_pairs(getattr(args, "opts", None) or [])


def test_make_targets():
    used = {(name, words[1]) for name, words in COMMANDS if words[0] == "make" and words[1:]}
    assert {target for _, target in used} <= TARGETS, used
    assert len(used) > 3


def test_anchors():
    """Links within and between the documents lead to a heading that is there."""
    for document in DOCUMENTS:
        for file, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", document.read_text()):
            target = document.parent / file if file else document
            headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in slugs, (document.name, file, anchor)


def test_every_page_is_in_the_index():
    index = (REPOSITORY / "docs/index.md").read_text()
    for document in PAGES:
        assert document.name == "index.md" or f"({document.name})" in index, document.name
