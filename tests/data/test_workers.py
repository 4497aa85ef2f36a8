"""Processes of data loaders: signals, shared memory, images that cannot be handed over."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, Dataset

from pointrend_seg.data import training_loader, workers
from pointrend_seg.data.workers import affordable_workers, largest_input, set_up_worker
from pointrend_seg.engine import Trainer
from small_configs import small_instance_cfg, small_semantic_cfg

pytestmark = pytest.mark.usefixtures("default_signals")

MEGA = 2**20


@pytest.fixture
def free(monkeypatch):
    """Makes so many megabytes of /dev/shm free."""

    def make(megabytes):
        system = SimpleNamespace(f_bavail=megabytes * 256, f_frsize=4096)
        monkeypatch.setattr(workers.os, "statvfs", lambda path: system)

    return make


@pytest.mark.parametrize(
    ("megabytes", "expected"),
    [(1000, 4), (120, 4), (119, 3), (64, 1), (60, 1), (59, 0), (0, 0)],
)
def test_shared_memory_limits_the_processes(megabytes, expected, free, caplog):
    free(megabytes)
    found = affordable_workers(4, image_bytes=10 * MEGA, ahead=2, held=4)
    assert found == expected
    if expected == 4:
        assert not caplog.records
    else:
        assert f"/dev/shm has {megabytes} MB free, and 4 data loader processes" in caplog.text
        assert f"can need 120 MB of it: {'this' if expected == 0 else expected}" in caplog.text
        assert f"--shm-size 8g), or set DATALOADER.NUM_WORKERS {expected}" in caplog.text


def test_no_processes_need_no_shared_memory(free, caplog):
    free(0)
    assert affordable_workers(0, image_bytes=MEGA, ahead=2, held=2) == 0
    assert not caplog.records


def test_processes_of_a_machine_share_it(free, monkeypatch):
    free(120)
    monkeypatch.setattr(workers.comm, "get_local_size", lambda: 2)
    assert affordable_workers(4, image_bytes=10 * MEGA, ahead=2, held=4) == 1


def test_no_shared_memory_at_all(monkeypatch):
    monkeypatch.setattr(workers, "SHARED_MEMORY", "/nowhere")
    assert affordable_workers(4, image_bytes=10 * MEGA, ahead=2, held=4) == 0


def test_the_largest_input():
    size = ("INPUT.MIN_SIZE_TRAIN", (100, 200), "INPUT.MAX_SIZE_TRAIN", 300)
    test = ("INPUT.MIN_SIZE_TEST", 50, "INPUT.MAX_SIZE_TEST", 70)
    labels = [{"sem_seg_file_name": "a.png", "height": 40, "width": 30}]
    cfg = small_semantic_cfg(5, (*size, *test))
    assert largest_input(cfg, labels, is_train=True) == 200 * 300 * (3 + 8)
    assert largest_input(cfg, labels, is_train=False) == 50 * 70 * 3
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", (64, 32))
    assert largest_input(small_semantic_cfg(5, crop), labels, is_train=True) == 64 * 32 * 11
    unchanged = small_semantic_cfg(5, ("INPUT.MIN_SIZE_TEST", 0))
    assert largest_input(unchanged, labels, is_train=False) == 40 * 30 * 3
    objects = [{"annotations": [{}] * 5}, {"annotations": [{}]}]
    assert largest_input(small_instance_cfg(5, size), objects, is_train=True) == 60000 * (3 + 6)


@pytest.mark.parametrize("is_train", [True, False])
def test_the_loaders_of_the_trainer(is_train, instance_datasets, free, caplog, monkeypatch):
    names = ("DATASETS.TRAIN", "('synthetic_instances_train',)", "SOLVER.IMS_PER_BATCH", 2)
    cfg = small_instance_cfg(9, (*names, "DATALOADER.NUM_WORKERS", 3))
    free(0)
    if is_train:
        loader = Trainer.build_train_loader(cfg)
        assert loader._num_workers == 0
    else:
        loader = Trainer.build_test_loader(cfg, "synthetic_instances_val").loader
        assert loader.num_workers == 0
        assert loader.worker_init_fn is set_up_worker
    assert "set DATALOADER.NUM_WORKERS 0" in caplog.text
    made = []

    def make(*args, **options):
        made.append(options["worker_init_fn"])
        return DataLoader(*args, **options)

    monkeypatch.setattr(training_loader, "DataLoader", make)
    assert next(iter(loader))[0]["image"].shape[0] == 3
    assert made == [set_up_worker] * is_train


# --- real processes --------------------------------------------------------------------------


class Images(Dataset):
    """Numbers of processes that load them, slowly."""

    def __init__(self, item=os.getpid):
        self.item = item

    def __len__(self):
        return 6

    def __getitem__(self, index):
        time.sleep(0.2)
        return self.item()


def unchanged(item):
    return item


def load(item=os.getpid):
    return iter(
        DataLoader(
            Images(item),
            batch_size=None,
            num_workers=1,
            collate_fn=unchanged,
            worker_init_fn=set_up_worker,
        )
    )


def test_signals_of_others_do_not_end_them():
    images = load()
    worker = next(images)
    send = f"import os; [os.kill({worker}, number) for number in (2, 10, 15)]"
    subprocess.run([sys.executable, "-c", send], check=True)
    assert list(images) == [worker] * 5


def test_the_parents_does():
    images = load()
    worker = next(images)
    with pytest.raises(RuntimeError, match=rf"worker.*{worker}.*exited unexpectedly"):
        os.kill(worker, signal.SIGTERM)
        list(images)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


class Unsendable:
    def __reduce__(self):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")


def test_an_image_that_cannot_be_handed_over_is_not_waited_for(capfd):
    """As in a full /dev/shm, where PyTorch would wait for ever."""
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(load(Unsendable))
    said = capfd.readouterr().err
    assert "cannot hand over an image: RuntimeError: unable to allocate shared memory" in said
