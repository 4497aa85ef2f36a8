"""Writing a folder of many files whole or not at all, and knowing it again."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ...errors import InputError

MANIFEST = "synthetic.json"


def write_tree(
    target: Path,
    made_from: dict,
    write: Callable[[Path, object], object],
    jobs: list,
    *,
    finish: Callable[[Path, list], None] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> bool:
    """Write a folder; it appears under its name when it is complete, not before.

    Args:
        made_from: what determines the contents; kept in the folder, as JSON.
        write: takes the unfinished folder and a job, returns what ``finish`` needs of it. It is
            run in other processes.
        finish: takes the unfinished folder and what ``write`` returned, in the jobs' order.
        workers: processes to use.
        progress: show a progress bar.

    Returns:
        False when the folder was there already, made from the same.

    Raises:
        InputError: something else is there. It is left as it is.
    """
    if target.exists():
        _check_same(target, made_from)
        return False
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write = partial(write, unfinished)
    bar = partial(tqdm, total=len(jobs), unit="image", disable=not progress)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            results = list(bar(pool.map(write, jobs, chunksize=4)))
    else:
        results = list(bar(map(write, jobs)))
    if finish is not None:
        finish(unfinished, results)
    (unfinished / MANIFEST).write_text(json.dumps(made_from, indent=2) + "\n")
    unfinished.rename(target)
    return True


def _check_same(target: Path, made_from: dict) -> None:
    manifest = target / MANIFEST
    if not manifest.exists():
        raise InputError(
            f"{target} exists and is no synthetic tree (it has no {MANIFEST}): nothing was "
            "written. Choose another output folder."
        )
    found = json.loads(manifest.read_text())
    if found != made_from:
        raise InputError(
            f"{target} was made from other parameters ({found}): nothing was written. Delete "
            "it, or choose another output folder."
        )


def save_picture(path: Path, picture: np.ndarray, options: tuple[int, ...] = ()) -> None:
    """Write an image, (H, W) or RGB (H, W, 3), by the file name's ending.

    Args:
        options: of `cv2.imwrite`.
    """
    picture = picture[:, :, ::-1] if picture.ndim == 3 else picture  # OpenCV writes BGR
    if not cv2.imwrite(str(path), picture, options):
        raise OSError(f"cannot write {path}")
