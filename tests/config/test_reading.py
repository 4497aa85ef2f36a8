"""Config files are data: what loads as in Detectron2, and what is refused."""

import os
import re
import time
from pathlib import Path

import detectron2
import pytest
import yaml
from detectron2.config import CfgNode, get_cfg

from pointrend_seg import InputError, add_pointrend_config, adopt_config
from pointrend_seg.config.reading import merge_config_file, read_config_file
from pointrend_seg.engine import load_config

ZOO = Path(detectron2.__file__).parent / "model_zoo" / "configs"
OURS = Path(__file__).resolve().parents[2] / "configs"
CONFIGS = sorted([*ZOO.rglob("*.yaml"), *OURS.rglob("*.yaml")])


def config():
    cfg = get_cfg()
    add_pointrend_config(cfg)
    return cfg


def written(tmp_path, text, name="config.yaml"):
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


@pytest.fixture
def refuse(tmp_path):
    """Check that a config file is refused, quickly, and return the message."""

    def refuse(text, name="config.yaml", **how):
        path = written(tmp_path, text, name)
        start = time.monotonic()
        with pytest.raises(InputError) as caught:
            load_config(path, **how)
        assert time.monotonic() - start < 10
        return str(caught.value)

    return refuse


def test_configs_of_the_model_zoo_and_ours_load_as_in_detectron2():
    """All values, also Base-RetinaNet.yaml's, which are an expression."""
    assert len(CONFIGS) > 100
    for path in CONFIGS:
        expected = CfgNode.load_yaml_with_base(str(path), allow_unsafe=True)
        assert read_config_file(str(path)) == expected, path


@pytest.mark.parametrize("path", ["Base-RetinaNet.yaml", "Detectron1-Comparisons/README.md"])
def test_a_merged_config_is_detectron2s(path, tmp_path):
    """Also one of version 1, which is upgraded."""
    path = str(ZOO / path)
    if path.endswith(".md"):
        path = written(tmp_path, "VERSION: 1\nMODEL: {WEIGHT: x.pkl, MASK_ON: true}\n")
    cfg, theirs = config(), config()
    merge_config_file(cfg, path)
    theirs.merge_from_file(path)
    assert cfg == theirs and cfg.dump() == theirs.dump() and cfg != config()


@pytest.mark.parametrize(
    "sizes",
    ['"(640, 672)"', "[640, 672]", "!!python/tuple [640, 672]", "(640, 672)", "\n  - 640\n  - 672"],
)
def test_tuples(sizes, tmp_path):
    path = written(tmp_path, f"INPUT:\n MIN_SIZE_TRAIN: {sizes}\nMODEL: {{DEVICE: cpu}}\n")
    assert load_config(path).INPUT.MIN_SIZE_TRAIN == (640, 672)


def test_what_is_dumped_loads_again(tmp_path):
    cfg = load_config(str(OURS / "quick" / "pointrend_rcnn_R_18_FPN.yaml"), ["MODEL.DEVICE", "cpu"])
    cfg.DATASETS.CUSTOM = [{"name": "a\u2028b", "images": "x", "annotations": "y.json"}]
    again, theirs = config(), config()
    path = written(tmp_path, cfg.dump())
    merge_config_file(again, path)
    theirs.merge_from_file(path)
    assert again == theirs
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    unsafe = yaml.dump({"INPUT": {"MIN_SIZE_TRAIN": (1, 2)}})
    assert "!!python/tuple" in unsafe
    merge_config_file(again, written(tmp_path, unsafe))
    assert again.INPUT.MIN_SIZE_TRAIN == (1, 2)


def test_bases(tmp_path, monkeypatch):
    """Relative, absolute, from the home folder, several; a base of a base; as Detectron2 merges."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home", "deep", "other"):
        (tmp_path / name).mkdir()
    written(tmp_path, "A: {x: 1, y: [1]}\nB: 1\n", "home/base.yaml")
    written(tmp_path, "_BASE_: ~/base.yaml\nA: {x: 2, z: 2}\n", "other/middle.yaml")
    written(tmp_path, "B: 3\nC: {c: 3}\n", "deep/more.yaml")
    absolute = tmp_path / "deep" / "more.yaml"
    path = written(
        tmp_path, f"_BASE_: [../other/middle.yaml, {absolute}]\nA: {{x: 4}}\n", "deep/leaf.yaml"
    )
    expected = {"A": {"x": 4, "y": [1], "z": 2}, "B": 3, "C": {"c": 3}}
    assert read_config_file(path) == expected == CfgNode.load_yaml_with_base(path)


@pytest.mark.parametrize(
    "tag",
    ["object/apply:os.system [touch marker]", "object/apply:eval ['open(\"marker\", \"w\")']",
     "object/new:os.system [touch marker]", "name:os.system", "module:antigravity",
     "object:os.system {}", "object/apply:eval [1]", "object/apply:eval x",
     "object/apply:subprocess.check_output [[touch, marker]]"],
)  # fmt: skip
@pytest.mark.parametrize("route", ["config", "base", "adopt_config"])
def test_code_is_not_run(tag, route, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, f"VERSION: 2\nMODEL:\n  WEIGHTS: !!python/{tag}\n", "evil.yaml")
    written(tmp_path, "_BASE_: evil.yaml\n", "leaf.yaml")
    read = adopt_config if route == "adopt_config" else load_config
    with pytest.raises(InputError, match="evil.yaml is not read: it has !!python/.* in line 3"):
        read("leaf.yaml" if route == "base" else "evil.yaml")
    assert not Path("marker").exists()


def test_the_attack_is_a_real_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, "MODEL:\n  WEIGHTS: !!python/object/apply:os.system [touch marker]\n")
    CfgNode.load_yaml_with_base(path, allow_unsafe=True)
    assert Path("marker").exists()


def test_a_tag_cannot_write_to_the_terminal(refuse):
    text = refuse("A: !!python/object/apply:%1b[31m%0aos []\n")
    assert text.isprintable() and "\\x1b" in text


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "more than 50,000 values"),
        (MERGES, "more than 50,000 values"),
        ("A: " + "[" * 100_000, "nested too deeply"),
        ("A: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("A: " + "{a: " * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ("A: &a [*a]", "a value contains itself"),
        ("A: &a {b: *a}", "a value contains itself"),
        ("A: " + "9" * 5000, "a number has 5000 digits"),
        ("A: " + "1:" * 100_000 + "1", "a number has 200001 digits"),
        ("A: '" + "-" * 50_000 + "1'", "The value of A in .* is too long or nested"),
        ("A: {B: '" + "1" + "+1" * 50_000 + "'}", "The value of B in .* is too long or nested"),
        ("A: [" + "1," * 500_000 + "]", "more than 50,000 values"),
        ("~: 1", "its key None is no text"),
        ("MODEL: {1: 2}", "its key 1 is no text"),
        ("A: [1", "is no YAML: expected ',' or ']', but got '<stream end>' in line 1, column 6"),
        ("A: 1\nA", "is no YAML: could not find expected ':' in line 2, column 2"),
        ("A: \x00", "is no YAML: ReaderError: unacceptable character"),
        ("A: " + "x" * 2**20, "larger than 1 MB"),
        ("", "config.yaml is empty"),
        ("# nothing", "config.yaml is empty"),
        ("[1, 2]", "holds list '.1, 2.'. A config is a mapping"),
        ("text", "holds str 'text'"),
        ("A: !!timestamp x", "is not read: AttributeError"),
        ("A: !secret x", "it has !secret in line 1"),
        ("VERSION: 3\n", "VERSION is 3 in .* knows the versions 1 to 2"),
        ("VERSION: x\n", "VERSION is 'x'"),
        ("_BASE_: config.yaml\n", "config.yaml includes itself with _BASE_"),
        ("_BASE_: ./../{here}/config.yaml\n", "config.yaml includes itself with _BASE_"),
        ("_BASE_: [{bases}]\n", "more than 100 _BASE_ files"),
        ("_BASE_: gone.yaml\n", "gone.yaml, which .*config.yaml names in _BASE_, does not exist"),
        ("_BASE_: [1]\n", "_BASE_ in .* has 1. Write the path"),
        ("_BASE_:\n", "_BASE_ in .* has None. Write the path"),
        ("_BASE_: empty.yaml\nVERSION: {a: 1}", "VERSION has keys of its own, but it is 2"),
        ("_BASE_: /dev/zero\n", "/dev/zero, which .* does not exist"),
        ("_BASE_: lazy.py\n", "lazy.py is Python code .a LazyConfig., which is not run"),
    ],
)  # fmt: skip
def test_bombs_and_odd_files_end_in_one_sentence(text, message, refuse, tmp_path):
    written(tmp_path, "VERSION: 2\n", "empty.yaml")
    written(tmp_path, "from os import system", "lazy.py")
    text = text.replace("{here}", tmp_path.name).replace("{bases}", "empty.yaml, " * 101)
    found = refuse(text)
    assert re.search(message, found), found
    assert "\n" not in found


def test_a_lazy_config_is_refused(refuse):
    assert "Give a YAML config" in refuse("open('marker', 'w')", "config.py")


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Make `PathManager` fetch addresses from a folder; return the list of what was fetched."""
    addresses = []

    def fetch(path, *args, **kwargs):
        addresses.append(path)
        return str(tmp_path / "there" / os.path.basename(path))

    (tmp_path / "there").mkdir()
    written(tmp_path, "_BASE_: base.yaml\nMODEL: {DEVICE: cpu}\n", "there/leaf.yaml")
    written(tmp_path, "SOLVER: {MAX_ITER: 7}\n", "there/base.yaml")
    for name in ("get_local_path", "open", "isfile", "exists"):
        monkeypatch.setattr(f"detectron2.utils.file_io.PathManager.{name}", fetch)
    return addresses


ADDRESSES = ["http://h/leaf.yaml", "https://h/leaf.yaml", "s3://b/leaf.yaml", "detectron2://a/leaf.yaml",
             "catalog://x/leaf.yaml", "ftp://h/leaf.yaml", "file:///a/leaf.yaml"]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_fetched_only_where_a_flag_asks(address, fetched, tmp_path):
    local = written(tmp_path, f"_BASE_: {address}\n")
    for path in (address, local):
        with pytest.raises(InputError, match="is not fetched. Download it .*--allow-remote-config"):
            load_config(path)
    assert not fetched
    for path in (address, local):
        assert load_config(path, allow_remote=True).SOLVER.MAX_ITER == 7
    assert fetched == [address, address.replace("leaf", "base")] * 2


def test_an_address_that_cannot_be_fetched(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("detectron2.utils.file_io.PathManager.get_local_path", fail)
    with pytest.raises(InputError, match=r"http://h/x.yaml cannot be fetched \(OSError: no route"):
        load_config("http://h/x.yaml", allow_remote=True)


def test_an_address_cannot_lead_out_of_the_cache(fetched):
    with pytest.raises(InputError, match="is not fetched, because its path has '..'"):
        load_config("http://h/../../x.yaml", allow_remote=True)
    assert not fetched


@pytest.mark.parametrize(
    "value", ["-" * 50_000 + "1", "1" + "+1" * 50_000, "(" * 90_000, "[1," * 150]
)
def test_values_of_the_command_line_cannot_exhaust_a_stack(value):
    """Too many parentheses are a syntax error for Python, so they are a string."""
    with pytest.raises(InputError) as caught:
        load_config("", ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", value])
    assert len(str(caught.value).replace(value, "")) < 300
