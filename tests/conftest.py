"""Fixtures that several test files share."""

import atexit
import importlib
import logging
import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

# Detectron2 reads it when it is imported, so it is set before; `datasets` fills the folder.
DATASETS = Path(tempfile.mkdtemp(prefix="pointrend_seg_datasets_"))
os.environ["DETECTRON2_DATASETS"] = str(DATASETS)
atexit.register(shutil.rmtree, DATASETS, ignore_errors=True)

import numpy as np
import pytest
import torch

warnings.filterwarnings("ignore", message=".*torch.jit.script.*")


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` need a CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def cityscapes_scripts():
    """Skips where the Cityscapes evaluation scripts are missing or do not run under this NumPy."""
    pytest.importorskip("cityscapesscripts")
    if not hasattr(np, "in1d"):
        pytest.skip("the Cityscapes scripts call numpy.in1d, which this NumPy no longer has")


@pytest.fixture(scope="session")
def datasets() -> Path:
    """DETECTRON2_DATASETS with a synthetic tree of 128 x 256 images in the Cityscapes layout."""
    from pointrend_seg.data.synthetic.cityscapes_layout import (
        CityscapesParameters,
        write_cityscapes,
    )

    write_cityscapes(DATASETS, CityscapesParameters(num_train=4, num_val=2, height=128, width=256))
    return DATASETS


@pytest.fixture(scope="session")
def instance_datasets() -> Path:
    """DETECTRON2_DATASETS with synthetic scenes in the COCO layout and LVIS's annotations."""
    from pointrend_seg.data.synthetic.coco_layout import CocoParameters, write_coco
    from pointrend_seg.data.synthetic.lvis_annotations import write_lvis

    parameters = CocoParameters(
        num_train=6, num_val=3, height=128, width=192, object_scale=1.0, deserted=0.0
    )
    write_coco(DATASETS, parameters)
    write_lvis(DATASETS, parameters)
    return DATASETS


@pytest.fixture
def default_signals():
    """Signals do what they usually do, also in tests that were started in the background."""
    handlers = {signal.SIGINT: signal.default_int_handler}
    handlers |= dict.fromkeys((signal.SIGTERM, signal.SIGUSR1), signal.SIG_DFL)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def registered():
    """Registers a data set for the time of a test: its name, its records, its metadata.

    Records are a list, or a function that returns one.
    """
    from detectron2.data import DatasetCatalog, MetadataCatalog

    names = []

    def register(name: str, records=(), **metadata) -> str:
        DatasetCatalog.register(name, records if callable(records) else lambda: list(records))
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def run_in_process(monkeypatch, capsys):
    """Runs a tool of tools/ as its command line does, without the seconds of a new process.

    Takes the tool's name and its arguments; returns exit status, standard output and error.
    """
    from pointrend_seg.command_line.running import run_tool

    def run(name: str, *args) -> tuple[int, str, str]:
        argv = [str(arg) for arg in args]
        module = importlib.import_module(name)
        monkeypatch.setattr("sys.argv", [f"tools/{name}.py", *argv])
        capsys.readouterr()
        try:
            run_tool(lambda: getattr(module, "run", module.main)(argv), several_processes=True)
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run
    forget_loggers()


def forget_loggers():
    """Undo what tools set up for the rest of a process: logs that go to what was stdout then."""
    from detectron2.utils.logger import setup_logger

    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "pointrend_seg"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def fresh_loggers():
    """For modules that call tools without `run_in_process`."""
    yield
    forget_loggers()
