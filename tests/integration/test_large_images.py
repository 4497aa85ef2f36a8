"""Images of 10,000 x 10,000 pixels, in tiles: what memory they take beyond the model."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pointrend_seg.engine.trainer import Trainer
from small_configs import small_instance_cfg, small_semantic_cfg

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"
GIGA = 1e9
# Runs a tool and prints the most memory that it took, in bytes. Of `getrusage`, the peak would be
# at least that of the process which started it.
MEASURED = (
    "import runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
    "try:\n"
    "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "finally:\n"
    "    status = open('/proc/self/status').read()\n"
    "    print('peak', 1024 * int(status.partition('VmHWM:')[2].split()[0]))\n"
)


def peak(*arguments):
    """The most memory that a run of predict.py takes."""
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, str(TOOLS / "predict.py")]
    run = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return int(run.stdout.rpartition("peak ")[2])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["semantic", "instance"])
def test_memory(tmp_path, kind):
    """Reading, predicting, drawing and writing take 2 GB together, whatever the model takes."""
    make = small_semantic_cfg if kind == "semantic" else small_instance_cfg
    cfg = make(5, ("INPUT.MIN_SIZE_TEST", 0, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0))
    torch.manual_seed(0)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    block = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    for name, size in (("small", 1), ("large", 10)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "image.tif"), np.tile(block, (size, size, 1)))
    options = ("--config-file", tmp_path / "config.yaml", "--tile", 1024, "--confidence", 0)
    peaks = [
        peak(*options, "--input", tmp_path / name, "--output", tmp_path / f"out_{name}")
        for name in ("small", "large")
    ]
    print(f"{kind}: {peaks[0] / GIGA:.2f} GB for 1000², {peaks[1] / GIGA:.2f} GB for 10,000²")
    assert peaks[1] - peaks[0] < 2 * GIGA
    picture = cv2.imread(str(tmp_path / "out_large/pictures/image.png"))
    assert picture.shape == (3333, 3333, 3)
