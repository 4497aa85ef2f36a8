"""Endless trials of each kind of input; the same seed gives the same ones."""

import base64
import copy
import io
import itertools
import json
import os
import pickle
import random
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

import check_data
import convert_data
import inspect_checkpoint
import make_point_labels
import make_synthetic_data
import predict
import train_net
import visualize_data
import visualize_results
from pointrend_seg.command_line.running import FoundProblems
from pointrend_seg.config import adopt_config
from pointrend_seg.config.detectron2_keys import detectron2_keys
from pointrend_seg.config.keys import KEYS
from pointrend_seg.config.tree import value_of
from pointrend_seg.data.images.reader import ImageReader
from pointrend_seg.data.images.tiff import read_georeference
from pointrend_seg.data.survey.images import ImageSurvey, survey_image
from pointrend_seg.engine import load_config
from pointrend_seg.errors import InputError
from pointrend_seg.prediction import Predictor
from values import any_value, change
from world import World

Trial = tuple[str, Callable[[], object]]
# A value that makes a run long, not wrong: it is loaded and not run.
_MOST_WORK = 300
_NOT_RUN = ("DATALOADER.NUM_WORKERS", "SOLVER.MAX_ITER", "MODEL.DEVICE")


def _folder(world: World, number: int) -> Path:
    """Return an empty folder for a trial; forget files and data sets of those before."""
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in ("custom_train", "custom_val"):
            catalog.pop(name, None)
    for before in world.work.iterdir():
        if before.name.isdigit():
            shutil.rmtree(before, ignore_errors=True)
    folder = world.work / str(number)
    folder.mkdir()
    return folder


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)


# --- configs ---------------------------------------------------------------------------------


def config_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Change one key, or two, of a config that trains, and train an iteration with it."""
    known = {**detectron2_keys(), **KEYS}
    keys = [name for name in known if not name.startswith("DATASETS.")]
    nodes = sorted({name.rpartition(".")[0] for name in keys} - {""})
    number = 0
    while True:
        number += 1
        task = rng.choice(("semantic", "instance"))
        names = rng.sample(keys, rng.choice((1, 1, 1, 2)))
        names += [rng.choice(nodes)] * (rng.random() < 0.05)
        values = {name: change(_value(world.cfgs[task], name), rng) for name in names}
        in_python = rng.random() < 0.2
        yield f"config {task} {values}", _train_with(world, number, task, values, in_python)


def _value(cfg: CfgNode, name: str) -> Any:
    value = value_of(cfg, name)
    return 1 if isinstance(value, CfgNode) else value


def _train_with(
    world: World, number: int, task: str, values: dict[str, Any], in_python: bool
) -> Callable[[], object]:
    def run() -> None:
        if in_python:
            cfg = world.cfgs[task].clone()
            for name, value in values.items():
                node, _, leaf = name.rpartition(".")
                (value_of(cfg, node) if node else cfg)[leaf] = value
            adopt_config(cfg)
            return
        opts = [str(part) for pair in values.items() for part in pair]
        config = str(world.configs[task])
        load_config(config, opts)
        is_long = any(abs(each) > _MOST_WORK for each in _numbers(list(values.values())))
        if is_long or values.keys() & set(_NOT_RUN):
            return
        if "OUTPUT_DIR" not in values:
            opts += ["OUTPUT_DIR", str(_folder(world, number))]
        train_net.run(["--config-file", config, *world.data(task), *opts])

    return run


# --- YAML ------------------------------------------------------------------------------------

_SHAPES = (
    *(
        "",
        "\n",
        "[]",
        "[1, 2]",
        "7",
        "foo",
        "null",
        "true",
        "{}",
        "---\n---\n",
        "- a\n- b",
        "2020-01-01",
    ),
    *("MODEL:", "MODEL: null", "MODEL: 7", "MODEL: []", "MODEL: [a: 1]", "MODEL: foo", "SOLVER:\n"),
    *("1: 2", "null: 1", "[1, 2]: 3", "? {a: 1}\n: 2", "true: 1", "2020-01-01: 1", "1.5: x"),
    *("MODEL: {1: 2}", "MODEL: {null: 2}", "MODEL: {MASK_ON: {A: 1}}", "MODEL: {RPN: [1]}"),
    *("MODEL:\n\tMASK_ON: True", "A: &a [*a]", "A: &a\n  B: *a", "SEED: &s 1\nVIS_PERIOD: *s"),
    *("_BASE_: 1", "_BASE_: null", "_BASE_: []", "_BASE_: ''", "_BASE_: [1]", "_BASE_: self.yaml"),
    *("_BASE_: {a: b}", "_BASE_: .", "_BASE_: /", "_BASE_: [self.yaml]", "_BASE_: true"),
    *(
        "_BASE_: gone.yaml",
        "_BASE_: '~'",
        "_BASE_: [[x]]",
        "VERSION: foo",
        "VERSION: 1",
        "VERSION: 9",
    ),
    *("VERSION: null", "VERSION: [2]", "VERSION: 1.5", "VERSION: true", "VERSION: {A: 1}"),
    *(
        "SEED: 2020-01-01",
        "SEED: !!set {a, b}",
        "SEED: !!binary aGk=",
        "SEED: !!python/object:x {}",
    ),
    *(
        "SEED: 1\nSEED: 2",
        "SEED: !!float nan",
        "SEED: .inf",
        "SEED: 0x10",
        "SEED: 1_000",
        "SEED: 1:30",
    ),
    *("SEED: !!int foo", "SEED: !foo 1", "%YAML 9.9\n---\nSEED: 1", "SEED: '\0'", 'SEED: "\\x00"'),
    *(
        "[" * 3000,
        "{a: " * 3000,
        "a:\n" + "".join(" " * k + "a:\n" for k in range(1, 300)),
        "SEED: @",
    ),
    *("DATASETS: {CUSTOM: 1}", "DATASETS: {CUSTOM: [1]}", "DATASETS: {CUSTOM: [{name: 1}]}"),
    *("DATASETS: {CUSTOM: [{name: a, images: b, annotations: c, classes: {a: 1}}]}",),
    *("DATASETS: {CUSTOM: [{name: a, images: b, annotations: c.json, classes: [1, [2], null]}]}",),
    *("DATASETS: {CUSTOM: [{name: a, images: b, annotations: c, ignore_value: x, classes: [k]}]}",),
    *("DATASETS: {CUSTOM: [{name: a, images: b, annotations: c, ignore_color: x, classes: [k]}]}",),
    *("DATASETS: {CUSTOM: [{name: [1], images: {}, annotations: null}]}", "DATASETS: {TRAIN: a}"),
    *("DATASETS: {CUSTOM: [{[1]: 2}]}", "DATASETS: {TRAIN: [1]}", "DATASETS: {TRAIN: [[a]]}"),
)
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7")


def yaml_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Load YAML of every shape, and a good file with spoiled text."""
    text = world.configs["instance"].read_text()
    number = 0
    while True:
        content: bytes
        if number < len(_SHAPES):
            content = _SHAPES[number].encode()
        elif rng.random() < 0.3:
            content = (
                rng.choice(_SHAPES) + rng.choice(("", "\n", " ")) + rng.choice(_SHAPES)
            ).encode()
        else:
            content = _spoil_text(text, rng)
        number += 1
        yield f"yaml {number} {content[-200:]!r}", _load(world, number, content)


def _load(world: World, number: int, content: bytes) -> Callable[[], object]:
    def run() -> None:
        file = _folder(world, number) / "self.yaml"
        file.write_bytes(content)
        load_config(str(file))
        adopt_config(str(file))

    return run


def _spoil_text(text: str, rng: random.Random) -> bytes:
    lines = text.split("\n")
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(lines))
        line, how = lines[place], rng.randrange(8)
        if how == 0:
            del lines[place]
        elif how == 1:
            lines.insert(place, rng.choice(lines))
        elif how == 2:
            lines[place] = line.replace("  ", rng.choice(("\t", "", "    ", "- ")), 1)
        elif how == 3:
            lines[place] = line.partition(":")[0] + ": " + str(any_value(rng))
        elif how == 4:
            lines[place] = line.partition(":")[0] + ":"
        elif how == 5:
            lines[place] = line[: rng.randrange(len(line) + 1)]
        elif how == 6:
            lines[place] = line.replace(":", rng.choice(("", " :", "::", "=", ": &a", ": *a")), 1)
        else:
            lines[place] = line + rng.choice("[]{}\"'#&*!|>%@`,?:-\0\x07é☃")
        lines = lines or [""]
    spoiled = "\n".join(lines)
    if rng.random() < 0.1:
        return spoiled.encode(rng.choice(_ENCODINGS), errors="replace")
    data = bytearray(spoiled.encode(errors="replace"))
    if rng.random() < 0.2 and data:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


# --- COCO JSON -------------------------------------------------------------------------------


def coco_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil values of an annotation file, and give it to training, evaluation and tools."""
    number = 0
    while True:
        number += 1
        content = copy.deepcopy(world.content)
        told = [
            rng.choice((_spoil, _spoil, _spoil_everywhere))(content, rng)
            for _ in range(rng.choice((1, 1, 1, 2)))
        ]
        if rng.random() < 0.03:
            content = any_value(rng)
            told = ["everything"]
        text = json.dumps(content)
        if rng.random() < 0.05:
            text = text[: rng.randrange(len(text))]
        if rng.random() < 0.02:
            text = rng.choice(("", "[" * 100000, "\0", "NaN", '{"images": ' * 5000, "1" * 5000))
        use = rng.choice((_agree, _agree, _check, _look, _train, _evaluate, _make_points))
        opts = rng.choice(((), ("INPUT.POINT_SUP", "True")))
        yield f"coco {use.__name__} {opts} {told}", _use_coco(world, number, text, use, opts)


def _use_coco(
    world: World,
    number: int,
    text: str,
    use: Callable[[World, Path, list[str]], None],
    opts: tuple[str, ...],
) -> Callable[[], object]:
    def run() -> None:
        folder = _folder(world, number)
        file = folder / "coco.json"
        file.write_text(text)
        use(world, folder, [*world.data("instance", coco=file), *opts])

    return run


def _agree(world: World, folder: Path, data: list[str], task: str = "instance") -> None:
    """What one tool refuses, all refuse; what they accept can be trained on and scored.

    The stated size of an image is compared with the file by what opens it, which training does
    for one of them only here.
    """
    train = _refusal(_train, world, folder, data, task)
    evaluation = _refusal(_evaluate, world, folder, data, task)
    dry_run = _refusal(_dry_run, world, folder, data, task)
    check = _refusal(_check, world, folder, ["--json", str(folder / "found.json"), *data], task)
    if check and (folder / "found.json").exists():
        findings = json.loads((folder / "found.json").read_text())["findings"]
        errors = [each for each in findings if each["severity"] == "error"]
        check = str([each["examples"] for each in errors])
        if all(", stated " in example for each in errors for example in each["examples"]):
            return
    if "NUM_CLASSES is" in train:  # what does not fit the config is no fault of the data
        raise InputError(train)
    refusals = {"train": train, "evaluate": evaluation, "dry run": dry_run, "check": check}
    if not evaluation and ("files of test sets" in train or "has no annotations" in train):
        del refusals["evaluate"]  # which predicts for a test set
    if not evaluation and "INPUT.POINT_SUP" in data and re.search(_OF_POINTS, train):
        del refusals["evaluate"]  # which needs no points
    if len({bool(each) for each in refusals.values()}) > 1:
        raise AssertionError(f"the tools disagree: {refusals}")
    if train:
        raise InputError(train)


# Parts of the sentences about labelled points.
_OF_POINTS = "point_coords|point_labels|the point |the points|point label|lists of points"


def _refusal(use: Callable, world: World, folder: Path, data: list[str], task: str) -> str:
    try:
        use(world, folder, data, task)
    except (InputError, FoundProblems) as error:
        return str(error)
    return ""


def _dry_run(world: World, folder: Path, data: list[str], task: str = "instance") -> None:
    config = str(world.configs[task])
    opts = ["--dry-run", "--num-gpus", "1"]
    train_net.run(["--config-file", config, *opts, *data, "OUTPUT_DIR", str(folder / "dry")])


def _check(world: World, folder: Path, data: list[str], task: str = "instance") -> None:
    check_data.main(["--workers", "1", *data])


def _make_points(world: World, folder: Path, data: list[str]) -> None:
    make_point_labels.main([str(folder / "coco.json"), "--points", "3"])


def _look(world: World, folder: Path, data: list[str], task: str = "instance") -> None:
    config = str(world.configs[task])
    visualize_data.main(["--config-file", config, "--output", str(folder / "drawn"), *data])


def _train(world: World, folder: Path, data: list[str], task: str = "instance") -> None:
    config = str(world.configs[task])
    train_net.run(["--config-file", config, *data, "OUTPUT_DIR", str(folder / "out")])


def _evaluate(world: World, folder: Path, data: list[str], task: str = "instance") -> None:
    opts = ["MODEL.WEIGHTS", str(world.weights[task]), "OUTPUT_DIR", str(folder / "out")]
    train_net.run(["--config-file", str(world.configs[task]), "--eval-only", *data, *opts])


def _spoil(content: Any, rng: random.Random) -> str:
    """Change one value at a random place within nested lists and dicts; return where."""
    path = []
    while True:
        places = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not places:
            return "nothing"
        place = rng.choice(places)
        path.append(str(place))
        below = content[place]
        if isinstance(below, dict | list) and below and rng.random() < 0.85:
            content = below
            continue
        how = rng.randrange(6)
        if how == 0:
            del content[place]
        elif how == 1 and isinstance(content, list):
            content.append(copy.deepcopy(below))
        elif how == 2:
            content[place] = any_value(rng)
        else:
            content[place] = change(below, rng)
        return ".".join(path)


# Values that annotation tools write, and that other tools stumble over.
_WRITTEN: dict[str, tuple] = {
    "iscrowd": (None, False, True, "0", "1", 1, 2, 0.0, float("nan"), []),
    "area": (0, None, -1, float("nan"), float("inf"), "12", "", "big", [], True),
    "ignore": (None, 0, 1, False, "0", 0.0),
    "id": (None, 1, 1.0, "1", "a", True),
    "image_id": (0, 1.0, "1", "01", None, "a", 10**30, True),
    "category_id": (1.0, "1", "cat", 0, None, True, 2**60),
    "bbox": ([0, 0, 0, 0], [0.1, 0.1, 0.5, 0.5], [8, 8, 40, 40], [], None, [8, 8, -3, 4], "8"),
    "segmentation": (
        *([], None, {}, [[]], [[8, 8]], [[8, 8, 40, 40]], [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]),
        *([8, 8, 40, 8, 40, 40], [[[8, 8], [40, 8], [40, 40]]], [[90, 8, 99, 8, 99, 40]]),
        {"size": [48, 64], "counts": [100, 500]},
        {"size": [48.0, "64"], "counts": [100, 500, 2472]},
        {"size": [64, 48], "counts": [100, 500, 2472]},
        {"size": [48, 64], "counts": "T3d?l]2"},
        {"size": [48, 64], "counts": "T3d?"},
        {"size": [48, 64], "counts": ""},
    ),
    "point_coords": (
        *(None, [], [[8, 8]], [[0.1, 0.2]] * 3, [[70, 8]] * 3, [[float("nan"), 8]] * 3, "8,8"),
        *([8, 8, 9], [[8, 8, 1]] * 3, [[8.5, "9"]] * 3, [[True, 8]] * 3, [[-1, 50]] * 3, {}),
    ),
    "point_labels": (
        *(None, [], [1], [0, 0, 0], [1, 1, 1], [1, 0, 2], [1, 0, -1], [True, False, 1.0]),
        *(["1", "0", "1"], [1, 0, float("nan")], 1, {"0": 1}, [[1], [0], [1]]),
    ),
    "height": (48.0, "48", 0, None, "48px", 48.5, 10**9, 47),
    "width": (64.0, "64", 0, None, -64, True, 65),
    "file_name": (None, "", "gone.png", "0.png", "../coco.json", 7, "\udcff.png"),
    "name": (7, None, "", "cat", ["cat"], True, "\ud800", "no", "ä b\t"),
    "color": ([200, 30, 30, 255], [0.5, 0.1, 1], "#fff", "red", "reddish", [1], None, [300, 0, 0]),
}


def _spoil_everywhere(content: Any, rng: random.Random) -> str:
    """Change a key of all entries of a list, or of a part of them; return what."""
    lists = [content.get(each) for each in ("images", "annotations", "categories")]
    lists = [each for each in lists if isinstance(each, list) and each]
    if not lists:
        return "nothing"
    entries = [each for each in rng.choice(lists) if isinstance(each, dict)]
    keys = sorted({key for each in entries for key in each} | {"ignore", "color"})
    key, share = rng.choice(keys), rng.choice((1, 1, 0.5))
    value, other = rng.choice(_WRITTEN.get(key, (None, 7, [], "a"))), rng.random() < 0.1
    for entry in entries:
        if rng.random() < share and other:
            entry[key.title()] = entry.pop(key, None)
        elif rng.random() < share:
            entry[key] = copy.deepcopy(value)
    return f"{key} = {'another case' if other else value!r} in {share}"


# --- panoptic JSON and PNG -------------------------------------------------------------------


def panoptic_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil a panoptic JSON file or one of its PNGs, and give it to training and tools."""
    number = 0
    while True:
        number += 1
        content, png, told = copy.deepcopy(world.panoptic_content), None, []
        if rng.random() < 0.7:
            told = [rng.choice((_spoil, _spoil, _spoil_everywhere))(content, rng)]
        if not told or rng.random() < 0.1:
            png, how = _spoil_png(world, rng)
            told.append(how)
        text = json.dumps(content)
        if rng.random() < 0.03:
            text = text[: rng.randrange(len(text))]
        use = rng.choice((_agree, _agree, _check, _look, _train, _evaluate))
        yield f"panoptic {use.__name__} {told}", _use_panoptic(world, number, text, png, use)


def _use_panoptic(
    world: World,
    number: int,
    text: str,
    png: bytes | None,
    use: Callable[..., None],
) -> Callable[[], object]:
    def run() -> None:
        folder = _folder(world, number)
        file = folder / "segments.json"
        file.write_text(text)
        shutil.copytree(world.segments, folder / "segments")
        if png is not None:
            (folder / "segments/1.png").write_bytes(png)
        use(world, folder, world.data("panoptic", coco=file), "panoptic")

    return run


def _spoil_png(world: World, rng: random.Random) -> tuple[bytes, str]:
    """Return the bytes of a spoiled panoptic PNG, and what was done."""
    path = world.segments / "1.png"
    pixels = np.asarray(Image.open(path)).copy()
    how = rng.randrange(9)
    told = f"PNG {how}"
    if how == 0:
        pixels[rng.randrange(40), rng.randrange(60)] = rng.choice(((1, 2, 3), (0, 0, 0), (9, 0, 0)))
    elif how == 1:
        pixels[...] = 0
    elif how == 2:
        pixels = pixels[: rng.choice((1, 47))]
    elif how == 3:
        pixels = pixels[..., 0]
    elif how == 4:
        alpha = np.full((*pixels.shape[:2], 1), rng.choice((0, 7, 255)), np.uint8)
        pixels = np.concatenate([pixels, alpha], axis=-1)
    elif how == 5:
        pixels = pixels.astype(np.uint16) * rng.choice((1, 257))
        return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes(), f"{told} 16 bits"
    if how == 6:
        data = bytearray(path.read_bytes())
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data), f"{told} bytes"
    if how == 7:
        return path.read_bytes()[: rng.randrange(200)], f"{told} cut"
    file, image = io.BytesIO(), Image.fromarray(pixels)
    format_ = rng.choice(("JPEG", "GIF", "TIFF", "BMP")) if how == 8 else "PNG"
    as_palette = rng.random() < 0.1 and format_ != "JPEG"
    (image.convert("P") if as_palette else image).save(file, format_)
    return file.getvalue(), f"{told} {format_}"


# --- command lines ---------------------------------------------------------------------------

_ODD = (
    *(
        "",
        " ",
        "-",
        "--",
        "-1",
        "0",
        "1e9",
        "nan",
        "inf",
        "x",
        "1.5",
        "*",
        "[",
        "a b",
        "a\nb",
        "\x1b[31m",
    ),
    *(
        "/",
        ".",
        "..",
        "/dev/null",
        "/proc/self/mem",
        "~",
        "é",
        "\udce9",
        "x" * 300,
        "a=b",
        "None",
        "%",
    ),
)


def command_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil the command lines of the tools."""
    number = 0
    places = _odd_places(world)
    while True:
        number += 1
        folder = str(world.work / str(number))
        tool, main, argv = rng.choice(_commands(world, folder))
        for _ in range(rng.choice((1, 1, 2))):
            argv = _spoil_words(argv, [*_ODD, *places], rng)
        yield f"command {tool} {argv}", _run_command(world, number, main, argv)


def _run_command(
    world: World, number: int, main: Callable[[list[str]], object], argv: list[str]
) -> Callable[[], object]:
    def run() -> None:
        before = os.getcwd()
        os.chdir(_folder(world, number))
        try:
            main(argv)
        finally:
            os.chdir(before)

    return run


def _odd_places(world: World) -> list[str]:
    """Make a pipe, a read-only folder, links that lead nowhere, and files that are no folders."""
    odd = world.work / "odd"
    odd.mkdir()
    os.mkfifo(odd / "pipe")
    os.mkfifo(odd / "pipe.json")
    os.mkfifo(odd / "pipe.png")
    (odd / "read-only").mkdir()
    (odd / "read-only").chmod(0o500)
    (odd / "dangling").symlink_to(odd / "nowhere")
    (odd / "circle").symlink_to(odd / "circle")
    (odd / "empty.json").touch()
    (odd / "binary").write_bytes(bytes(range(256)))
    (odd / "folder.json").mkdir()
    (odd / "folder.png").mkdir()
    names = [*odd.iterdir(), odd / "binary" / "below", world.images, world.images / "0.png"]
    return [*map(str, names), str(world.coco), str(world.labels), str(odd / "gone.json")]


def _commands(world: World, folder: str) -> list[tuple[str, Callable, list[str]]]:
    task = "instance"
    config = ["--config-file", str(world.configs[task])]
    weights, out = str(world.weights[task]), ["--output", f"{folder}/out"]
    data = world.data(task)
    return [
        ("train_net", train_net.run, [*config, *data, "OUTPUT_DIR", f"{folder}/out"]),
        ("train_net", train_net.run, [*config, *data, "--dry-run", "--num-gpus", "1"]),
        (
            "train_net",
            train_net.run,
            [
                *config,
                *data,
                "--eval-only",
                "MODEL.WEIGHTS",
                weights,
                "OUTPUT_DIR",
                f"{folder}/out",
            ],
        ),
        (
            "check_data",
            check_data.main,
            [*data, "--workers", "1", "--json", f"{folder}/found.json"],
        ),
        ("check_data", check_data.main, [*config, "--dataset", "coco_2017_val", "--strict"]),
        ("visualize_data", visualize_data.main, [*config, *out, "--num", "2", *data]),
        ("visualize_results", visualize_results.main, [*config, *out, "--num", "2", "--most", "2"]),
        ("inspect_checkpoint", inspect_checkpoint.main, [weights, *config]),
        (
            "predict",
            predict.main,
            [*config, "--weights", weights, "--input", str(world.images), *out]
            + ["--confidence", "0.5", "--batch-size", "2", "--threads", "1", "--max-size", "64"]
            + ["--export", "geojson", "label-studio", "--simplify", "1"],
        ),
        (
            "make_synthetic_data",
            make_synthetic_data.main,
            ["--layout", "folder", *out, "--train", "1", "--val", "1", "--workers", "1"]
            + ["--height", "64", "--width", "64", "--object-scale", "1"],
        ),
        (
            "convert_data",
            convert_data.main,
            ["--format", "instance-masks", "--images", str(world.images), *out]
            + ["--labels", str(world.labels), "--class", "cell", "--val", "0.4", "--tile", "32"],
        ),
    ]


def _spoil_words(argv: list[str], odd: list[str], rng: random.Random) -> list[str]:
    argv = list(argv) or ["--"]
    place, how = rng.randrange(len(argv)), rng.randrange(8)
    if how == 0:
        del argv[place]
    elif how == 1:
        argv.insert(place, rng.choice(odd))
    elif how == 2:
        argv.insert(place, argv[rng.randrange(len(argv))])
    elif how == 3:
        argv = argv[:place]
    elif how == 4:
        argv.append(rng.choice(("--", "--unknown", "SEED", "SEED=1", "-x", "--debug", "A.B")))
    else:
        values = [n for n, word in enumerate(argv) if not word.startswith("--")] or [place]
        argv[rng.choice(values)] = rng.choice(odd)
    return argv


# --- images ----------------------------------------------------------------------------------


def image_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Put spoiled images between good ones, and predict on them or check them."""
    number = 0
    while True:
        number += 1
        how, task = rng.choice(_IMAGES), rng.choice(("semantic", "instance"))
        seed, use = (
            rng.randrange(2**32),
            rng.choice((_predict_folder, _predict_folder, _check_images, _train_on_images)),
        )
        yield (
            f"image {how.__name__} {seed} {use.__name__} {task}",
            _use_image(world, number, how, seed, use, task),
        )


def _use_image(
    world: World, number: int, how: Callable, seed: int, use: Callable, task: str
) -> Callable[[], object]:
    def run() -> None:
        folder = _folder(world, number)
        shutil.copytree(world.images, folder / "images")
        how(folder / "images" / "1.png", random.Random(seed))
        use(world, folder, task)

    return run


def _predict_folder(world: World, folder: Path, task: str) -> None:
    kind = "labels" if task == "semantic" else "objects"
    argv = ["--config-file", world.configs[task], "--weights", world.weights[task]]
    argv += ["--input", folder / "images", "--output", folder / "out"]
    try:
        predict.main([str(each) for each in argv])
    finally:
        done = {path.stem for path in (folder / "out" / kind).glob("*")}
        assert {"0", "2"} <= done, f"one bad image stopped the folder: {done}"


def _check_images(world: World, folder: Path, task: str) -> None:
    target = world.labels if task == "semantic" else world.coco
    check_data.main(["--workers", "1", "--val-data", str(folder / "images"), str(target)])


def _train_on_images(world: World, folder: Path, task: str) -> None:
    target = world.labels if task == "semantic" else world.coco
    data = [str(folder / "images"), str(target)]
    opts = ["SOLVER.MAX_ITER", "3", "OUTPUT_DIR", str(folder / "out")]
    train_net.run(
        ["--config-file", str(world.configs[task])]
        + ["--train-data", *data, "--val-data", *data, *opts]
    )


def _bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)


def _truncated(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def _random_bytes(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.choice((1, 10, 1000))))


def _of_a_mode(path: Path, rng: random.Random) -> None:
    mode = rng.choice(("1", "L", "P", "LA", "RGBA", "I;16", "RGB"))
    Image.new(mode, rng.choice(((64, 48), (1, 1), (1, 400), (400, 1), (3, 2)))).save(path)


def _of_a_format(path: Path, rng: random.Random) -> None:
    mode, kind = rng.choice(
        (
            ("CMYK", "JPEG"),
            ("F", "TIFF"),
            ("CMYK", "TIFF"),
            ("RGB", "WEBP"),
            ("P", "GIF"),
            ("L", "BMP"),
        )
    )
    path.unlink()
    suffix = rng.choice((".png", ".jpg", ".tif"))
    Image.new(mode, (64, 48)).save(path.with_suffix(suffix), kind)


def _sliver(path: Path, rng: random.Random) -> None:
    long = rng.choice((2000, 20000))
    size = rng.choice(((long, 50), (50, long), (long, 1), (1, long), (long, 3)))
    Image.new("RGB", size).save(path)


def _bomb(path: Path, rng: random.Random) -> None:
    Image.new("1", (20000, 20000)).save(path)


def _animated(path: Path, rng: random.Random) -> None:
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _text(path: Path, rng: random.Random) -> None:
    path.write_text(rng.choice(("", "<html></html>", "{}", "version https://git-lfs", "\0" * 100)))


def _folder_of_this_name(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _dangling(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("gone.png")


def _odd_name(path: Path, rng: random.Random) -> None:
    name = rng.choice(("a\nb.png", "\x1b[31m.png", "é.png", "[a].png", "-x.png", "%s.png", " .png"))
    path.rename(path.with_name(name))


def _undecodable_name(path: Path, rng: random.Random) -> None:
    os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/\xe9\xff.png")


_IMAGES = (
    *(_bytes, _bytes, _truncated, _truncated, _random_bytes, _of_a_mode, _of_a_format, _sliver),
    *(
        _bomb,
        _animated,
        _text,
        _folder_of_this_name,
        _pipe,
        _dangling,
        _odd_name,
        _undecodable_name,
    ),
)


# --- bytes of image files, and arrays -----------------------------------------------------------

_PIXELS = np.random.default_rng(0).integers(0, 4000, (24, 32, 4), dtype=np.uint16)
_PICTURE = Image.fromarray((_PIXELS[:, :, :3] // 16).astype(np.uint8))
_TIFFS = (
    *({"tile": (16, 16)}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}),
    *({}, {"planarconfig": "separate"}, {"rowsperstrip": 5}),
)


def image_file_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil bytes of image files of every format, and read them as training and checks do."""
    number = 0
    while True:
        number += 1
        seed = rng.randrange(2**32)
        use = _give_array if rng.random() < 0.2 else _read_spoiled
        yield f"image file {use.__name__} {seed}", partial(use, world, number, seed)


def _image_file(path: Path, rng: random.Random) -> None:
    """Write a good image of a format that is drawn."""
    how, frames = rng.randrange(4), [_PICTURE, _PICTURE.rotate(180)]
    if how == 0:
        kinds = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF", "TIFF", "TGA")
        _PICTURE.save(path, rng.choice(kinds))
    elif how == 1:
        kind = rng.choice(("PNG", "GIF", "WEBP", "TIFF", "AVIF", "MPO"))
        frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    elif how == 2:
        bands = rng.choice((1, 2, 3, 4, 4, 5))
        values = _PIXELS[:, :, :bands].astype(rng.choice(("u1", "u2", "i2", "u4", "f4", "f8")))
        options = rng.choice(_TIFFS)
        values = np.ascontiguousarray(
            np.moveaxis(values, 2, 0) if "planarconfig" in options and bands > 1 else values
        )
        options = options if bands > 1 else {k: v for k, v in options.items() if k[0] != "p"}
        photometric = "rgb" if bands in (3, 4) else "minisblack"
        tags = [(274, 3, 1, rng.randrange(1, 9), True), (42113, 2, 4, "nan", True)]
        tifffile.imwrite(path, values.squeeze(), photometric=photometric, extratags=tags, **options)
    else:
        suffix = rng.choice((".png", ".ppm", ".pgm", ".jp2", ".hdr", ".pfm", ".tif"))
        values = _PIXELS[:, :, 0] if suffix == ".pgm" else _PIXELS[:, :, :3]
        values = values.astype(np.float32) if suffix in (".hdr", ".pfm") else values
        encoded, content = cv2.imencode(suffix, np.tile(values, (2, 2, 1)[: values.ndim]))
        path.write_bytes(content.tobytes() if encoded else b"")


def _read_spoiled(world: World, number: int, seed: int) -> None:
    rng = random.Random(seed)
    path = _folder(world, number) / rng.choice(("a.png", "a.tif", "a.jpg", "a.gif"))
    _image_file(path, rng)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((0, 1, 1, 2, 5, 20))):
        near = rng.choice((len(data), 40, 400))  # headers matter most
        place = rng.choice((rng.randrange(len(data)), rng.randrange(min(near, len(data)))))
        place = -place if rng.random() < 0.2 else place  # directories lie at the end, too
        data[place] = rng.choice((0, 1, 255, rng.randrange(256)))
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    path.write_bytes(data)
    reader = ImageReader(
        rng.choice(("percentile", "full", "0..4095")), rng.choice(((), (), (3, 2, 1))), 2**22
    )
    for frame in itertools.islice(_refusable(reader.frames(str(path))), 5):
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    found = ImageSurvey()
    size = survey_image(str(path), None, found, reader)
    read_georeference(str(path))
    try:
        image = reader.read(str(path), "BGR")
    except InputError as error:
        assert size is None, f"the check accepts what training refuses: {error}"
        raise
    assert image.shape == (*size, 3), f"check: {size}, training: {image.shape}"
    assert image.shape[:2] == reader.size(str(path)), "the size without decoding"


def _refusable(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    try:
        yield from frames
    except InputError:
        return


def _give_array(world: World, number: int, seed: int) -> None:
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    kinds = ("u1", "u2", ">u2", "i1", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?", "c8")
    sides = [rng.choice((0, 1, 2, 7, 30)) for _ in range(2)]
    shape = rng.choice((sides, [*sides, 1], [*sides, 3], [*sides, 4], [*sides, 2], [3, *sides]))
    with np.errstate(all="ignore"):
        values = draw.normal(*rng.choice(((128, 40), (0.5, 0.2), (0, 1e5), (1e30, 1e38))), shape)
        if rng.random() < 0.2 and values.size:
            values.flat[rng.randrange(values.size)] = rng.choice((np.nan, np.inf, -np.inf))
        values = values.astype(rng.choice(kinds))
    given: Any = values
    how = rng.randrange(4)
    if how == 0 and values.dtype.isnative:
        given = torch.from_numpy(values)
    elif how == 1:
        given = Image.new(rng.choice(("1", "L", "P", "I", "F", "I;16", "LA", "CMYK")), sides)
    elif how == 2:
        given = values[::-1, ::2]
    rule = rng.choice((None, "percentile", "full", "-5..5"))
    key = f"predictor {rule}"
    if key not in world.kept:
        cfg = world.cfgs["semantic"].clone()
        cfg.MODEL.WEIGHTS = str(world.weights["semantic"])
        world.kept[key] = Predictor(cfg, pixel_range=rule)
    pixels = world.kept[key].rgb_pixels(given)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and 0 <= pixels.min() <= pixels.max() <= 255


# --- checkpoints -----------------------------------------------------------------------------


def checkpoint_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil the bytes or the contents of checkpoints, look at them and predict with them."""
    good = world.weights["semantic"].read_bytes()
    number = 0
    while True:
        number += 1
        suffix, seed = rng.choice((".pth", ".pth", ".pkl", ".pt", "")), rng.randrange(2**32)
        use = rng.choice((_inspect, _inspect, _fit, _predict_with))
        yield (
            f"checkpoint {seed} {suffix} {use.__name__}",
            _use_checkpoint(world, number, good, suffix, seed, use),
        )


def _use_checkpoint(
    world: World, number: int, good: bytes, suffix: str, seed: int, use: Callable
) -> Callable[[], object]:
    def run() -> None:
        folder = _folder(world, number)
        file = folder / f"model{suffix}"
        _write_checkpoint(file, good, random.Random(seed))
        use(world, folder, str(file))

    return run


def _write_checkpoint(file: Path, good: bytes, rng: random.Random) -> None:
    how = rng.randrange(4)
    if how == 0:
        data = bytearray(good)
        for _ in range(rng.randrange(1, 20)):
            data[
                rng.choice((rng.randrange(3000), rng.randrange(len(data)), -rng.randrange(1, 3000)))
            ] = rng.randrange(256)
        file.write_bytes(data)
    elif how == 1:
        file.write_bytes(good[: rng.randrange(len(good))])
    elif how == 2:
        content = any_value(rng) if rng.random() < 0.5 else {"model": any_value(rng)}
        (torch.save if rng.random() < 0.5 else pickle_to)(content, file)
    else:
        model = torch.load(file.parents[2] / "semantic.pth", weights_only=True)["model"]
        name = rng.choice(list(model))
        weight = model[name]
        model[name] = rng.choice(
            (any_value(rng), weight[None], weight.half(), weight.numpy(), weight * float("nan"))
        )
        with file.open("wb") as opened:
            (torch.save if rng.random() < 0.7 else pickle.dump)({"model": model}, opened)


def pickle_to(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


def _inspect(world: World, folder: Path, file: str) -> None:
    inspect_checkpoint.main([file])


def _fit(world: World, folder: Path, file: str) -> None:
    inspect_checkpoint.main([file, "--config-file", str(world.configs["semantic"])])


def _predict_with(world: World, folder: Path, file: str) -> None:
    argv = ["--config-file", world.configs["semantic"], "--weights", file]
    argv += ["--input", world.images / "0.png", "--output", folder / "out"]
    predict.main([str(each) for each in argv])


# --- label folders ---------------------------------------------------------------------------


def label_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil label images and class files, and give them to training, evaluation and tools."""
    number = 0
    while True:
        number += 1
        seed, how = rng.randrange(2**32), rng.choice(_spoil_labels())
        use = rng.choice((_check, _look, _train, _evaluate))
        yield (
            f"labels {how.__name__} {seed} {use.__name__}",
            _use_labels(world, number, how, seed, use),
        )


def _spoil_labels() -> tuple[Callable[[Path, random.Random], None], ...]:
    return *_IMAGES, *[_class_file] * 8, *[_values] * 4, *[_label_image] * 12


def _use_labels(
    world: World, number: int, how: Callable, seed: int, use: Callable
) -> Callable[[], object]:
    def run() -> None:
        folder = _folder(world, number)
        labels = folder / "labels"
        shutil.copytree(world.labels, labels)
        how(labels / "1.png", random.Random(seed))
        data = world.data("semantic", labels=labels)
        use(world, folder, data, *(["semantic"] if use is not _check else []))

    return run


def _values(path: Path, rng: random.Random) -> None:
    height, width = rng.choice(((48, 64), (64, 48), (1, 1)))
    kind = rng.choice((np.uint8, np.uint16))
    label = np.full((height, width), rng.choice((0, 2, 3, 7, 254, 255)), kind)
    if kind is np.uint16:
        label += rng.choice((0, 300))
    Image.fromarray(label).save(path)


def _class_file(path: Path, rng: random.Random) -> None:
    if rng.random() < 0.4:
        text = rng.choice(
            (
                *(
                    "",
                    "\n\n",
                    "#",
                    "a",
                    "a\na\na",
                    "1 a\n1 b",
                    "x:1,2::\n",
                    "a:300,0,0::",
                    "7 a #zz",
                    "-1 a",
                ),
                *(
                    "99999999999 a\nb\nc",
                    "a\nb\nc\nd",
                    "\0",
                    "a #12\n",
                    ":::",
                    "a\n" * 400,
                    "0 cat\n1\n2 x",
                ),
            )
        )
        (path.parent / "classes.txt").write_text(text)
        return
    if rng.random() < 0.2:
        (path.parent / "classes.txt").write_bytes(rng.randbytes(30))
        return
    (path.parent / "classes.txt").unlink()
    good: Any = [{"name": n, "id": k, "color": [k, 2, 3]} for k, n in enumerate(("a", "b", "c"))]
    content = {"classes": good, "ignore_value": 255, "ignore_color": "#000000"}
    if rng.random() < 0.3:
        content = rng.choice((good, any_value(rng), [n["name"] for n in good]))
    if isinstance(content, dict | list) and content:
        _spoil(content, rng)
    (path.parent / "classes.json").write_text(json.dumps(content))


# --- labels of other tools -------------------------------------------------------------------


def import_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil labels of other tools and convert them; what is accepted must be a clean data set."""
    number = 0
    while True:
        number += 1
        seed, how = rng.randrange(2**32), rng.choice(list(_IMPORTS))
        yield f"import {how} {seed}", _convert(world, number, how, seed)


def _convert(world: World, number: int, how: str, seed: int) -> Callable[[], object]:
    def run() -> None:
        folder, rng = _folder(world, number), random.Random(seed)
        argv = ["--format", how.partition(" ")[0], "--labels", *_IMPORTS[how](world, folder, rng)]
        argv += rng.choice(([], ["--tile", "32", "--overlap", "5"], ["--link"]))
        try:
            convert_data.main([*argv, "--output", str(folder / "out")])
        except FoundProblems as problems:
            raise AssertionError(f"what was converted is not clean: {problems}") from problems

    return run


def _masks_to_import(world: World, folder: Path, rng: random.Random) -> list[str]:
    shutil.copytree(world.labels, folder / "labels")
    rng.choice((*_IMAGES, _values, _values))(folder / "labels" / "1.png", rng)
    return [str(folder / "labels"), "--images", str(world.images), "--class", "cell"]


def _images_to_import(world: World, folder: Path, rng: random.Random) -> list[str]:
    shutil.copytree(world.images, folder / "images")
    rng.choice(_IMAGES)(folder / "images" / "1.png", rng)
    return [str(world.labels), "--images", str(folder / "images"), "--class", "cell"]


def _labelme_to_import(world: World, folder: Path, rng: random.Random) -> list[str]:
    content = io.BytesIO()
    Image.new("L", (2, 2), 255).save(content, "PNG")
    mask = base64.b64encode(content.getvalue()).decode()
    for number in range(3):
        shapes: list[dict] = [
            {"label": "cat", "shape_type": kind, "points": points, "group_id": None}
            for kind, points in (
                ("polygon", [[8, 8], [40, 8], [40, 40.5]]),
                ("rectangle", [[8, 8], [40, 40]]),
                ("circle", [[20, 20], [25, 20]]),
                ("mask", [[10, 10], [11, 11]]),
            )
        ]
        shapes[3]["mask"], shapes[0]["group_id"] = mask, 1
        file: Any = {"shapes": shapes, "imagePath": f"{number}.png", "version": "5.5.0"}
        file |= {"imageHeight": 48, "imageWidth": 64, "imageData": None}
        if number == 1:
            for _ in range(rng.choice((1, 1, 2))):
                _spoil(file, rng)
        (folder / f"{number}.json").write_text(json.dumps(file))
    return [str(folder), "--images", str(world.images)]


def _yolo_to_import(world: World, folder: Path, rng: random.Random) -> list[str]:
    texts = {"data.yaml": "train: images\nval: images\nnames: {0: cat, 1: dog}\nnc: 2\n"}
    for number in range(3):
        texts[f"labels/{number}.txt"] = "0 0.1 0.2 0.5 0.25 0.3 0.9\n1 0 0 1 0 1 1 0 1\n"
    shutil.copytree(world.images, folder / "images")
    (folder / "labels").mkdir()
    spoiled = rng.choice(("data.yaml", "labels/1.txt"))
    for name, text in texts.items():
        content = _spoil_text(text, rng) if name == spoiled else text.encode()
        (folder / name).write_bytes(content)
    return [str(folder / "data.yaml")]


def _voc_to_import(world: World, folder: Path, rng: random.Random) -> list[str]:
    for name in ("SegmentationObject", "SegmentationClass"):
        shutil.copytree(world.labels, folder / name, ignore=shutil.ignore_patterns("*.txt"))
    path = folder / rng.choice(("SegmentationObject", "SegmentationClass")) / "1.png"
    rng.choice((*_IMAGES, _values))(path, rng)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    text = rng.choice(("0\n1", "0", "0\n2\n1", "", "gone", "0\n0", "\0", "../a"))
    (lists / "train.txt").write_text(text if rng.random() < 0.3 else "0\n1\n")
    return [str(folder), "--images", str(world.images)]


def _xml_to_import(world: World, folder: Path, rng: random.Random) -> list[str]:
    points = "".join(
        f"<{axis}{k}>{value}</{axis}{k}>"
        for k, (x, y) in enumerate(((9, 9), (41, 9), (41, 30)), start=1)
        for axis, value in (("x", x), ("y", y))
    )
    text = (
        "<annotation>\n<size>\n<width>64</width>\n<height>48</height>\n</size>\n<object>\n"
        f"<name>cat</name>\n<polygon>\n{points}\n</polygon>\n</object>\n</annotation>"
    )
    (folder / "Annotations").mkdir()
    for number in range(3):
        content = _spoil_text(text, rng) if number == 1 else text.encode()
        (folder / "Annotations" / f"{number}.xml").write_bytes(content)
    return [str(folder), "--images", str(world.images)]


_IMPORTS: dict[str, Callable[[World, Path, random.Random], list[str]]] = {
    "instance-masks": _masks_to_import,
    "instance-masks images": _images_to_import,
    "labelme": _labelme_to_import,
    "yolo": _yolo_to_import,
    "voc": _voc_to_import,
    "voc xml": _xml_to_import,
}


def _label_image(path: Path, rng: random.Random) -> None:
    """Write a label image of some mode, format and palette, whose values may be classes."""
    size = rng.choice(((48, 64), (48, 64), (48, 64), (64, 48), (1, 1)))
    seed = np.random.default_rng(rng.randrange(2**32))
    top = rng.choice((1, 2, 3, 3, 256))
    values = seed.integers(0, top, size) * rng.choice((1, 1, 1, 255, 85, 257))
    how = rng.randrange(8)
    suffix = rng.choice((".png", ".png", ".tif", ".bmp", ".jpg", ".webp"))
    kind = rng.choice((np.uint8, np.uint16, np.int32, np.float32, bool))
    image = Image.fromarray(values.astype(kind))
    if how == 0:
        image = Image.fromarray(values.astype(np.uint8))
        image.putpalette(rng.randbytes(3 * rng.randrange(1, 257)))
    elif how == 1:
        channels = rng.choice((2, 3, 4))
        image = Image.fromarray(np.dstack([values.astype(np.uint8)] * channels))
    elif how == 2:
        image = Image.fromarray(values.astype(np.float32) + rng.choice((0, 0.5, float("nan"))))
        suffix = ".tif"
    path.unlink()
    exif = Image.Exif()
    exif[0x0112] = rng.choice((1, 1, 1, 0, 3, 6, 9))
    file = path.with_suffix(suffix)
    try:
        image.save(file, exif=exif) if suffix not in (".bmp",) else image.save(file)
    except (OSError, ValueError):  # not every format takes every mode
        image.convert("RGB").save(file)
    if rng.random() < 0.2:
        _bytes(file, rng)


# --- class files -----------------------------------------------------------------------------

_CLASS_TEXTS = (
    ("classes.txt", "cat\ndog\nhen\n"),
    ("classes.txt", "0 cat\n1 dog\n2 hen"),
    ("classes.txt", "2: cat\n1: dog\n0: hen"),
    ("classes.txt", "cat,0\ndog,1\nhen,2\n"),
    ("classes.txt", "1 cat #010203\n0 dog #040506\n2 hen #070809"),
    ("classes.txt", "1 2 3 cat\n4 5 6 dog\n7 8 9 hen"),
    ("classes.txt", '"cat, tom"\n"dog"\nhen # of birds\n'),
    (
        "labelmap.txt",
        "# label:color_rgb:parts:actions\ncat:0,0,0::\ndog:1,2,3:a,b:\nhen:9,9,9::x",
    ),
    ("_classes.csv", "Pixel Value, Class\n0, cat\n1, dog\n2, hen\n"),
    ("class_dict.csv", "name,r,g,b\ncat,1,2,3\ndog,4,5,6\nhen,7,8,9"),
    ("data.yaml", "train: a\nval: b\nnc: 3\nnames:\n  0: cat\n  1: dog\n  2: hen\n"),
    ("classes.yaml", "- cat\n- dog\n- {name: hen, color: '#010203'}\n"),
    ("classes.json", '{"classes": [{"name": "cat", "id": 0, "color": [1, 2, 3]}, "dog"]}'),
    ("classes.json", '{"0": "cat", "1": "dog", "2": "hen"}'),
)
_PIECES = (
    *("0", "-1", "255", "1.5", "\t", ",", ":", ";", "=", "|", "#", "# ", "#12", "#010203"),
    *("\r", "\n", '"', "'", "name", "id", "class", "Pixel Value", "[", "{", "- ", "\0"),
    *("\u2028", "é", " ", "nan", "null"),
)


def class_file_trials(world: World, rng: random.Random) -> Iterator[Trial]:
    """Spoil the text of class files of all formats, and give them to tools."""
    number = 0
    while True:
        number += 1
        name, text = rng.choice(_CLASS_TEXTS)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            place = rng.randrange(len(text) + 1)
            cut = place + rng.choice((0, 0, 1, 5))
            text = text[:place] + rng.choice(_PIECES) * rng.choice((0, 1, 1, 2)) + text[cut:]
        content = text.encode(errors="replace")
        if rng.random() < 0.1:
            content = text.encode(rng.choice(_ENCODINGS), errors="replace")
        if rng.random() < 0.05:
            content = _spoil_text(text, rng)
        use = rng.choice((_check, _check, _train))
        yield (
            f"class file {use.__name__} {name} {content!r}",
            _use_class_file(world, number, name, content, use),
        )


def _use_class_file(
    world: World, number: int, name: str, content: bytes, use: Callable
) -> Callable[[], object]:
    def run() -> None:
        folder = _folder(world, number)
        labels = folder / "labels"
        shutil.copytree(world.labels, labels)
        (labels / "classes.txt").unlink()
        (labels / name).write_bytes(content)
        data = world.data("semantic", labels=labels)
        use(world, folder, data, *(["semantic"] if use is not _check else []))

    return run


KINDS: dict[str, Callable[[World, random.Random], Iterator[Trial]]] = {
    "config values": config_trials,
    "YAML": yaml_trials,
    "COCO JSON": coco_trials,
    "panoptic JSON and PNG": panoptic_trials,
    "command lines": command_trials,
    "images": image_trials,
    "image files": image_file_trials,
    "checkpoints": checkpoint_trials,
    "label folders": label_trials,
    "class files": class_file_trials,
    "labels of other tools": import_trials,
}
