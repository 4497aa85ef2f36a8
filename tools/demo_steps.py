"""Steps that the demos share: the environment, synthetic data, training that can be continued."""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "configs" / "quick"
BOXES = QUICK / "faster_rcnn_R_18_FPN.yaml"  # backbone and boxes, from which models of masks start
# Images at half their size, so that several trainings take minutes; the schedule of BOXES on them.
HALF_SIZE = (
    *("INPUT.MIN_SIZE_TRAIN", "(160,)", "INPUT.MAX_SIZE_TRAIN", "240"),
    *("INPUT.MIN_SIZE_TEST", "160", "INPUT.MAX_SIZE_TEST", "240"),
)
SHORT_START = ("SOLVER.MAX_ITER", "300", "SOLVER.STEPS", "(220, 270)")


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def prepare(output: Path) -> None:
    """Set the environment of this process and its children.

    Call it before importing Detectron2, which reads DETECTRON2_DATASETS on import.
    """
    os.environ["DETECTRON2_DATASETS"] = str(output / "datasets")
    # Spinning threads make training several times slower if other processes use the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_data(root: Path, *, layout: str, train: int, val: int, seed: int) -> None:
    """Write synthetic data below ``root``, unless it is there already."""
    command = [sys.executable, str(ROOT / "tools" / "make_synthetic_data.py")]
    command += ["--layout", layout, "--output", str(root), "--seed", str(seed)]
    subprocess.run([*command, "--train", str(train), "--val", str(val)], check=True)


def train(
    output: Path, config: Path, opts: tuple[str, ...] = (), data: tuple[str, ...] = ()
) -> float | None:
    """Train, continue an interrupted training of the same config, or do nothing if it is done.

    Args:
        opts: KEY, VALUE, KEY, VALUE, …, as for train_net.py.
        data: options of train_net.py that name data sets.

    Returns:
        seconds of training and evaluation; None if they were interrupted.
    """
    from pointrend_seg.engine.config_loading import load_config

    stamp, done = output / "config.sha256", output / "seconds.json"
    text = load_config(str(config), list(opts)).dump()
    digest = hashlib.sha256("\n".join([text, *data]).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        stamp.write_text(digest)
    if done.exists():
        print(f"{output}: is there already")
        return json.loads(done.read_text())
    interrupted = (output / "last_checkpoint").exists()
    start = time.monotonic()
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--resume"]
    command += ["--config-file", str(config), *data, *opts, "OUTPUT_DIR", str(output)]
    subprocess.run(command, check=True)
    seconds = None if interrupted else round(time.monotonic() - start)
    done.write_text(json.dumps(seconds))
    return seconds


def read_scores(output: Path) -> dict[str, float]:
    """Read box, mask and Boundary AP of the final evaluation from metrics.json."""
    last = json.loads((output / "metrics.json").read_text().splitlines()[-1])
    return {task: last[f"{task}/AP"] for task in ("bbox", "segm", "boundary")}


def folder_name(title: str) -> str:
    """Return e.g. mask_rcnn for Mask R-CNN."""
    return title.lower().replace(" ", "_").replace("-", "")


def draw_instances(
    file: Path, output: Path, config: Path, titles: list[str], note: str, count: int = 2
) -> None:
    """Draw validation images, each above the object whose mask gains most from model to model.

    Args:
        output: folder with the outputs of the models, see `folder_name`.
        config: names the validation data.
        titles: of the models; the gain is that of the last over the first.
        note: stands above the images.
    """
    from detectron2.utils.colormap import colormap
    from PIL import Image

    from pointrend_seg.data.images.reader import ImageReader
    from pointrend_seg.drawing import primitives as vis
    from pointrend_seg.engine.config_loading import load_config
    from pointrend_seg.files.atomic import replaces
    from pointrend_seg.report.comparison import InstanceComparison

    cfg = load_config(str(config))
    name = cfg.DATASETS.TEST[0]
    models = [
        InstanceComparison(cfg, name, output / folder_name(title) / "inference" / name)
        for title in titles
    ]
    records, colors = models[0].records, colormap(rgb=True)[::4]
    rows = []
    for number in [n for n, r in enumerate(records) if len(r["annotations"]) > 3][:count]:
        image = ImageReader().read(records[number]["file_name"])
        truth = models[0].objects(number)[0]
        objects = [truth, *(model.objects(number)[1] for model in models)]
        masks = [each.masks.numpy() for each in objects]
        drawn = [
            vis.draw_masks(image, own, colors[each.classes])
            for own, each in zip(masks, objects, strict=True)
        ]
        window = vis.largest_mask_gain(masks[0], masks[1], masks[-1])
        pictures = [image, *drawn]
        rows.append(pictures)
        rows.append([vis.enlarge(picture[window], *image.shape[:2]) for picture in pictures])
    with replaces(file) as part:
        Image.fromarray(vis.tile(rows, [note, "ground truth", *titles])).save(part, optimize=True)


def run_demo(run: Callable[[Path], None], description: str, default: str) -> None:
    """Parse the command line of a demo and run it; exit with the status of a step that fails."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path(default), help=f"output folder (default {default})"
    )
    output = parser.parse_args().output.resolve()
    prepare(output)
    from pointrend_seg.command_line.running import run_tool

    def run_steps() -> None:
        try:
            run(output)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)

    run_tool(run_steps)
