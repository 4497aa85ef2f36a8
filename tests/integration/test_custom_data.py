"""A folder of one's own, from the labels to the report and to predictions, by commands alone."""

import json

import pytest
from PIL import Image

from pointrend_seg.data.synthetic.folder_layout import FolderParameters, write_folder

KINDS = {
    "pixels": ("configs/quick/pointrend_deeplabv3_R_18_OS16.yaml", "labels/{}", 7),
    "objects": ("configs/quick/pointrend_rcnn_R_18_FPN.yaml", "objects_{}.json", 9),
}
# The images are 80 high, which is no multiple of the crop.
SMALL = (
    *("SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0),
    *("INPUT.MIN_SIZE_TRAIN", "(80,)", "INPUT.MIN_SIZE_TEST", 80, "INPUT.CROP.SIZE", "(64,64)"),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 5),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 4, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4),
)


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_folder_to_a_model(kind, run_in_process, tmp_path, monkeypatch, request):
    root, (config, labels, classes) = tmp_path / "streets", KINDS[kind]
    write_folder(root, FolderParameters(4, 2, height=80, width=112, object_scale=1.0))
    config = request.config.rootpath / config
    monkeypatch.chdir(tmp_path)
    data = ["--train-data", "streets/images/train", f"streets/{labels.format('train')}"]
    data += ["--val-data", "streets/images/val", f"streets/{labels.format('val')}"]

    status, _, err = run_in_process("train_net", "--config-file", config, *data, *SMALL)
    assert status == 2 and f"NUM_CLASSES is 4, but the data set custom_train has {classes}" in err

    status, out, _ = run_in_process(
        "train_net", "--config-file", config, "--dry-run", *data, "--classes-from-data", *SMALL
    )
    assert status == 0 and "custom_val" in out and "nothing was trained" in out
    status, _, err = run_in_process(
        "train_net", "--config-file", config, *data, "--classes-from-data", *SMALL,
        "OUTPUT_DIR", "model",
    )  # fmt: skip
    assert status == 0, err
    report = (tmp_path / "model/inference/custom_val/report.html").read_text()
    assert "Learning curves" in report and "Worst images" in report

    (root / "images/train").rename(tmp_path / "gone")  # predicting needs no data set
    status, out, err = run_in_process(
        *("predict", "--config-file", "model/config.yaml", "--weights", "model/model_final.pth"),
        *("--input", "streets/images/val", "--output", "out", "--confidence", 0),
    )
    assert status == 0 and "2 predicted" in out, err
    assert len(list((tmp_path / "out/pictures").glob("*.png"))) == 2
    if kind == "pixels":
        assert Image.open(tmp_path / "out/labels/0000.png").getextrema()[1] < classes
    else:
        found = json.loads((tmp_path / "out/predictions.json").read_text())
        truth = json.loads((root / "objects_val.json").read_text())
        assert found["categories"] == truth["categories"] and found["annotations"]
