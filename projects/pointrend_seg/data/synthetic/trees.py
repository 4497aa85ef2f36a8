"""Write a folder of many files completely or not at all, and recognize it later."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ...errors import InputError
from ...files.progress import progress_bar

MANIFEST = "synthetic.json"


def write_tree(
    target: Path,
    parameters: dict,
    write: Callable[[Path, object], object],
    jobs: list,
    *,
    finish: Callable[[Path, list], None] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> bool:
    """Write a folder, which gets its name when it is complete.

    Args:
        target: the folder.
        parameters: parameters of the contents; saved in the folder as JSON.
        write: a function of the unfinished folder and a job, run in other processes.
        jobs: arguments of ``write``.
        finish: a function of the unfinished folder and the results of ``write`` in order.
        workers: number of processes.
        progress: show a progress bar.

    Returns:
        False if the folder exists with the same parameters.

    Raises:
        InputError: the folder exists with other contents. It is not changed.
    """
    if target.exists():
        _check_same(target, parameters)
        return False
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write = partial(write, unfinished)
    bar = partial(progress_bar, total=len(jobs), unit="image", shown=progress)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            results = list(bar(pool.map(write, jobs, chunksize=4)))
    else:
        results = list(bar(map(write, jobs)))
    if finish is not None:
        finish(unfinished, results)
    (unfinished / MANIFEST).write_text(json.dumps(parameters, indent=2) + "\n")
    unfinished.rename(target)
    return True


def _check_same(target: Path, parameters: dict) -> None:
    manifest = target / MANIFEST
    if not manifest.exists():
        raise InputError(
            f"{target} exists but is not synthetic data (it has no {MANIFEST}): nothing was "
            "written. Choose another output folder."
        )
    try:
        existing = json.loads(manifest.read_text())
    except ValueError as error:
        raise InputError(
            f"{manifest} cannot be read: {error}. Delete {target} or choose another output folder."
        ) from error
    if existing != parameters:
        raise InputError(
            f"{target} was generated with other parameters ({existing}): nothing was written. "
            "Delete it or choose another output folder."
        )


def save_picture(path: Path, picture: np.ndarray, options: tuple[int, ...] = ()) -> None:
    """Write an image in the format of the file's extension.

    Args:
        path: path of the file.
        picture: (H, W), or RGB (H, W, 3).
        options: options of `cv2.imencode`.
    """
    picture = picture[:, :, ::-1] if picture.ndim == 3 else picture  # OpenCV writes BGR
    _, content = cv2.imencode(path.suffix, picture, options)
    path.write_bytes(content.tobytes())  # OpenCV crashes at names that are no valid text
