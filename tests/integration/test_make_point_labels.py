"""From masks to points to a model that is trained on them, by the commands of the documents."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from small_configs import small_instance_cfg

OPTS = (
    *("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1, "SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0, "SEED", 1, "TEST.REPORT", False),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96),
    *("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN"),
)


@pytest.fixture
def folder(tmp_path, run_in_process):
    """Synthetic scenes, as a plain folder."""
    size = ("--height", 64, "--width", 96, "--train", 2, "--val", 1, "--workers", 0)
    status, _, err = run_in_process(
        "make_synthetic_data", "--layout", "folder", "--output", tmp_path / "streets", *size
    )
    assert status == 0, err
    yield tmp_path / "streets"
    for name in ("custom_train", "custom_val"):
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def test_from_masks_to_a_model(folder, run_in_process):
    file = folder / "objects_train.json"
    status, out, err = run_in_process("make_point_labels", file, "--points", 7, "--seed", 4)
    assert status == 0, err
    made = folder / "objects_train_n7_v5_without_masks.json"
    before, after = json.loads(file.read_text()), json.loads(made.read_text())
    assert f"{made}: 2 images, {len(after['annotations'])} objects with 7 points each, " in out
    assert {len(each["point_labels"]) for each in after["annotations"]} == {7}
    assert after["images"] == before["images"]
    config = folder / "config.yaml"
    config.write_text(small_instance_cfg(len(before["categories"]), OPTS).dump())
    data = ("--train-data", folder / "images/train", made)
    val = ("--val-data", folder / "images/val", folder / "objects_val.json")
    opts = ("OUTPUT_DIR", folder / "out", "INPUT.POINT_SUP", True, "INPUT.SAMPLE_POINTS", 3)
    status, out, err = run_in_process(
        "train_net", "--config-file", config, *data, *val, "--classes-from-data", *opts
    )
    assert status == 0, err
    last = json.loads((folder / "out/metrics.json").read_text().splitlines()[-1])
    assert "segm/AP" in last


def test_mistakes(folder, run_in_process, tmp_path):
    file = folder / "objects_val.json"
    out = tmp_path / "new" / "points.json"
    assert run_in_process("make_point_labels", file, "--output", out)[0] == 0
    written = out.read_bytes()
    cases = {
        ("gone.json",): "There is no file gone.json. Give a JSON file of COCO's format.",
        (file, "--output", out): f"{out} is there already. Remove it, or choose another --output.",
        (file, "--output", file): f"{file} is there already.",
        (folder / "classes.txt",): "cannot be read",
        (out, "--points", 3): "has no 'segmentation'",
    }
    for args, said in cases.items():
        status, _, err = run_in_process("make_point_labels", *args)
        assert status == 2 and said in err and "\n" not in err.strip(), (args, err)
    assert out.read_bytes() == written
    assert run_in_process("make_point_labels", file, "--points", 0)[0] == 2
    empty = json.loads(file.read_text()) | {"annotations": []}
    (folder / "empty.json").write_text(json.dumps(empty))
    status, _, err = run_in_process("make_point_labels", folder / "empty.json")
    assert status == 2 and "There is no object with a mask in" in err
