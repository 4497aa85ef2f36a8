import json
import math
import os

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils import comm
from PIL import Image

from pointrend_seg.data.labels import read_labels
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.confusion import SemanticConfusion
from pointrend_seg.evaluation.semantic import SemanticSegmentationEvaluator

NAMES = ["road", "person", "sky"]


def load_for_detectron2(path, dtype):
    """Load labels for Detectron2 0.6, whose own loader fails with NumPy 2."""
    return np.array(Image.open(path), dtype=dtype)


def register(folder, labels, name="pointrend_test_semantic", **metadata):
    """Write label maps and (re-)register them as a data set; return its name and records."""
    records = []
    for i, label_map in enumerate(labels):
        path = folder / f"{i}.png"
        Image.fromarray(label_map).save(path)
        records.append({"file_name": f"{folder}/{i}.jpg", "sem_seg_file_name": str(path)})
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(**{"stuff_classes": NAMES, "ignore_label": 255, **metadata})
    return name, records


def one_hot(prediction, num_classes=3):
    maps = torch.nn.functional.one_hot(torch.as_tensor(prediction), num_classes)
    return {"sem_seg": maps.permute(2, 0, 1).float()}


def run(evaluator, records, outputs):
    evaluator.reset()
    for record, output in zip(records, outputs, strict=True):
        evaluator.process([record], [output])
    return evaluator.evaluate()["sem_seg"]


def random_set(seed, count=4, values=(0, 1, 2, 255)):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 40, (count, 2))
    labels = [rng.choice(np.array(values, np.uint8), size) for size in sizes]
    predictions = [torch.from_numpy(rng.standard_normal((3, *size))) for size in sizes]
    return labels, [{"sem_seg": prediction} for prediction in predictions]


@pytest.mark.parametrize("values", [(0, 1, 2, 255), (0, 2, 255), (1,)])
def test_all_but_boundary_metrics_equal_detectron2(tmp_path, values):
    labels, outputs = random_set(0, values=values)
    name, records = register(tmp_path, labels)
    reference = SemSegEvaluator(
        name, distributed=False, sem_seg_loading_fn=load_for_detectron2, output_dir=None
    )
    expected = run(reference, records, outputs)
    scores = run(SemanticSegmentationEvaluator(name, distributed=False), records, outputs)
    assert scores.keys() - expected.keys() == {"mBoundaryIoU"}
    assert expected.keys() - scores.keys() == set()
    compared = [key for key in expected if "Boundary" not in key and "B-Iou" not in key]
    assert len(compared) == 4 + 2 * len(NAMES)
    for key in compared:
        assert scores[key] == pytest.approx(expected[key], rel=1e-12, nan_ok=True), key


def test_a_completely_wrong_image_scores_zero(tmp_path):
    """Detectron2's Boundary IoU is 100 for class 0, though none of its pixels is found."""
    labels = np.ones((200, 200), dtype=np.uint8)
    labels[60:120, 60:120] = 0
    prediction = labels.astype(int) + 1
    name, records = register(tmp_path, [labels])
    reference = SemSegEvaluator(
        name, distributed=False, sem_seg_loading_fn=load_for_detectron2, output_dir=None
    )
    wrong = run(reference, records, [one_hot(prediction)])
    assert wrong["IoU-road"] == 0
    assert wrong["BoundaryIoU-road"] == 100

    evaluator = SemanticSegmentationEvaluator(name, distributed=False)
    scores = run(evaluator, records, [one_hot(prediction)])
    assert scores["BoundaryIoU-road"] == scores["BoundaryIoU-person"] == 0
    assert scores["mIoU"] == scores["mBoundaryIoU"] == 0


def test_boundary_iou_by_hand():
    """Two 6 x 6 squares, one pixel apart, d = 1: rings of 20 pixels, and the image's frame."""
    labels, prediction = np.zeros((20, 20), int), np.zeros((20, 20), int)
    labels[5:11, 5:11] = 1
    prediction[5:11, 6:12] = 1
    confusion = SemanticConfusion(2)
    confusion.update(prediction, labels)
    scores = confusion.scores(["ground", "square"])
    # The rings share columns 6 to 10 of the two horizontal sides: 10 pixels.
    assert scores["BoundaryIoU-square"] == pytest.approx(100 * 10 / 30)
    assert scores["IoU-square"] == pytest.approx(100 * 30 / 42)
    # Ground: a frame of 76, and around each square 28 pixels, of which the maps share
    # columns 5 to 11 above and below (14).
    assert scores["BoundaryIoU-ground"] == pytest.approx(100 * (76 + 14) / (76 + 42))
    assert scores["mBoundaryIoU"] == pytest.approx((100 * 10 / 30 + 100 * 90 / 118) / 2)
    assert scores["min(IoU, B-Iou)-square"] == scores["BoundaryIoU-square"]


def test_boundary_ratio_is_of_the_diagonal():
    labels, prediction = np.zeros((30, 40), int), np.zeros((30, 40), int)
    labels[:, 20:], prediction[:, 22:] = 1, 1
    scores = {}
    for ratio in (0.02, 0.06, 1.0):
        confusion = SemanticConfusion(2, boundary_ratio=ratio)
        confusion.update(prediction, labels)
        scores[ratio] = confusion.scores()["BoundaryIoU-1"]
    # The right half, 30 x 20, and the predicted 30 x 18: frames of width 1, then of width 3.
    # They share the columns beside the right edge and rows at top and bottom.
    assert scores[0.02] == pytest.approx(100 * (18 * 2 + 28) / (20 * 2 + 28 * 3))
    assert scores[0.06] == pytest.approx(100 * (18 * 6 + 24 * 4) / (20 * 6 + 24 * 8))
    assert scores[1.0] == pytest.approx(100 * 18 / 20)


def test_classes_without_labels_are_nan_and_not_averaged(tmp_path):
    labels = np.zeros((20, 20), np.uint8)
    prediction = np.zeros((20, 20), int)
    prediction[:, 10:] = 2
    name, records = register(tmp_path, [labels])
    evaluator = SemanticSegmentationEvaluator(name, distributed=False)
    scores = run(evaluator, records, [one_hot(prediction)])
    for key in ("IoU", "BoundaryIoU", "ACC", "min(IoU, B-Iou)"):
        assert math.isnan(scores[f"{key}-person"]) and math.isnan(scores[f"{key}-sky"])
    assert scores["mIoU"] == scores["IoU-road"] == 50
    assert scores["mBoundaryIoU"] == scores["BoundaryIoU-road"] < 100


def test_nothing_to_score_is_nan_without_a_warning(tmp_path, recwarn):
    confusion = SemanticConfusion(2)
    assert all(math.isnan(value) for value in confusion.scores().values())
    confusion.update(np.zeros((9, 9), int), np.full((9, 9), 255))
    assert all(math.isnan(value) for value in confusion.scores().values())
    assert not recwarn.list


def test_binary_model_with_one_channel(tmp_path):
    rng = np.random.default_rng(3)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), (25, 31))
    logit = torch.from_numpy(rng.standard_normal((1, 25, 31)))
    two_channels = {"sem_seg": torch.cat([torch.zeros_like(logit), logit])}
    name, records = register(tmp_path, [labels], stuff_classes=["ground", "crack"])
    evaluator = SemanticSegmentationEvaluator(name, distributed=False)
    scores = run(evaluator, records, [{"sem_seg": logit}])
    assert scores == run(evaluator, records, [two_channels])
    known = labels != 255
    found, true = (logit[0].numpy() > 0) & known, (labels == 1) & known
    assert scores["IoU-crack"] == pytest.approx(100 * (found & true).sum() / (found | true).sum())

    name, records = register(tmp_path, [labels], stuff_classes=["crack"])
    single = run(
        SemanticSegmentationEvaluator(name, distributed=False), records, [{"sem_seg": logit}]
    )
    assert single["IoU-crack"] == scores["IoU-crack"]
    assert single["IoU-background"] == scores["IoU-ground"]
    assert single["mBoundaryIoU"] == scores["mBoundaryIoU"]


@pytest.mark.parametrize(
    ("metadata", "default", "ignored"),
    [({"ignore_label": 9}, 255, 9), ({"ignore_label": 0}, 255, 0), ({}, 200, 200), ({}, 255, 255)],
)
def test_ignore_label_comes_from_metadata_else_from_the_argument(
    tmp_path, metadata, default, ignored
):
    labels = np.array([[1, 1], [1, ignored]], np.uint8)
    name, records = register(tmp_path, [labels])
    metadata = {"stuff_classes": NAMES, **metadata}
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(**metadata)
    evaluator = SemanticSegmentationEvaluator(name, distributed=False, default_ignore_label=default)
    scores = run(evaluator, records, [one_hot([[1, 1], [1, 2]])])
    assert scores["pACC"] == scores["mIoU"] == scores["mBoundaryIoU"] == 100


def test_files_are_those_of_detectron2_and_strict_json(tmp_path):
    labels, outputs = random_set(1, values=(0, 1))
    name, records = register(
        tmp_path, labels, stuff_dataset_id_to_contiguous_id={11: 0, 24: 1, 23: 2}
    )
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    evaluator = SemanticSegmentationEvaluator(name, distributed=False, output_dir=str(ours))
    scores = run(evaluator, records, outputs)
    reference = SemSegEvaluator(
        name, distributed=False, sem_seg_loading_fn=load_for_detectron2, output_dir=str(theirs)
    )
    run(reference, records, outputs)
    written = [json.loads((d / "sem_seg_predictions.json").read_text()) for d in (ours, theirs)]
    assert written[0] == written[1]
    saved = (ours / "sem_seg_evaluation.json").read_text()
    assert "NaN" not in saved
    assert json.loads(saved)["mBoundaryIoU"] == scores["mBoundaryIoU"]
    assert json.loads(saved)["IoU-sky"] is None

    quiet = SemanticSegmentationEvaluator(
        name, distributed=False, output_dir=str(tmp_path / "quiet"), save_predictions=False
    )
    run(quiet, records, outputs)
    assert [p.name for p in (tmp_path / "quiet").iterdir()] == ["sem_seg_evaluation.json"]


def test_evaluating_twice_and_resetting(tmp_path):
    labels, outputs = random_set(5)
    name, records = register(tmp_path, labels)
    evaluator = SemanticSegmentationEvaluator(name, distributed=True)
    first = run(evaluator, records, outputs)
    assert evaluator.evaluate()["sem_seg"] == first
    assert run(evaluator, records, outputs) == first


def rank_main(rank, world_size, folder, parts):
    """Evaluate one rank's part of the images and write the merged results to a file."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    labels, outputs = random_set(8)
    name, records = register_existing(folder, len(labels))
    evaluator = SemanticSegmentationEvaluator(name, output_dir=f"{folder}/out")
    results = []
    for part in parts:
        evaluator.reset()
        for i in part[rank]:
            evaluator.process([records[i]], [outputs[i]])
        results.append(evaluator.evaluate())
    assert (results == [None] * len(parts)) == (not comm.is_main_process())
    if comm.is_main_process():
        (folder / "results.json").write_text(json.dumps(results))
    comm.synchronize()
    os._exit(0)  # gloo may abort a rank that takes its groups down after its peer is gone


def register_existing(folder, count, name="pointrend_test_ranks"):
    records = [
        {"file_name": f"{folder}/{i}.jpg", "sem_seg_file_name": f"{folder}/{i}.png"}
        for i in range(count)
    ]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=NAMES, ignore_label=255)
    return name, records


def test_ranks_with_parts_of_the_set(tmp_path):
    labels, outputs = random_set(8)
    name, records = register(tmp_path, labels)
    expected = run(SemanticSegmentationEvaluator(name, distributed=False), records, outputs)
    parts = [([0, 2], [1, 3]), ([0, 1, 2, 3], []), ([], [0, 1, 2, 3])]
    torch.multiprocessing.spawn(rank_main, args=(2, tmp_path, parts), nprocs=2)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["sem_seg"] for result in results] == [expected] * 3
    written = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
    assert {segment["file_name"] for segment in written} == {r["file_name"] for r in records}


def test_merged_parts_equal_the_whole():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 3, (4, 2, 15, 18))
    whole, first, second = (SemanticConfusion(3) for _ in range(3))
    for i, (prediction, labels) in enumerate(maps):
        whole.update(prediction, labels)
        (first if i % 2 else second).update(prediction, labels)
    first.merge(second)
    assert first.scores() == whole.scores()


# What a user can get wrong


def evaluate_one(tmp_path, labels, sem_seg, **metadata):
    name, records = register(tmp_path, [labels], **metadata)
    evaluator = SemanticSegmentationEvaluator(name, distributed=False)
    return run(evaluator, records, [{"sem_seg": sem_seg}])


def test_different_sizes(tmp_path):
    with pytest.raises(InputError, match=r"0\.png: the prediction is 8 x 9 but .* are 10 x 12"):
        evaluate_one(tmp_path, np.zeros((10, 12), np.uint8), torch.zeros(3, 8, 9))


@pytest.mark.parametrize("value", [3, 254])
def test_label_that_is_not_a_class(tmp_path, value):
    labels = np.array([[0, 1], [255, value]], np.uint8)
    with pytest.raises(InputError, match=rf"0\.png: value {value} in the labels, .*\(0 to 2\)"):
        evaluate_one(tmp_path, labels, torch.zeros(3, 2, 2))


def test_a_refused_image_does_not_change_the_counts():
    confusion = SemanticConfusion(3)
    with pytest.raises(InputError, match="value -1 in the labels"):
        confusion.update(np.zeros((2, 2), int), np.array([[0, 1], [0, -1]]))
    with pytest.raises(InputError, match="value 3, 4, 5, 6, 7, ... in the prediction"):
        confusion.update(np.array([[3, 4, 5], [6, 7, 8]]), np.zeros((2, 3), int))
    assert not confusion.matrix.any() and not confusion.boundary.any()


@pytest.mark.parametrize("channels", [1, 2, 19])
def test_model_with_another_number_of_classes(tmp_path, channels):
    message = rf"predicts {channels} classes but .* has 3: set .*NUM_CLASSES to 3\."
    with pytest.raises(InputError, match=message):
        evaluate_one(tmp_path, np.zeros((4, 4), np.uint8), torch.zeros(channels, 4, 4))


def test_labels_in_colour(tmp_path):
    with pytest.raises(InputError, match=r"0\.png has 3 channels: it looks colour-coded"):
        evaluate_one(tmp_path, np.zeros((4, 4, 3), np.uint8), torch.zeros(3, 4, 4))


def test_missing_and_broken_label_files(tmp_path):
    with pytest.raises(InputError, match=r"label file .*none\.png does not exist"):
        read_labels(str(tmp_path / "none.png"))
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8)).save(
        tmp_path / "half.png"
    )
    whole = (tmp_path / "half.png").read_bytes()
    for size in (0, 20, 40, len(whole) // 2):
        (tmp_path / "half.png").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"half\.png cannot be read"):
            read_labels(str(tmp_path / "half.png"))


def test_label_files_of_several_kinds(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(values).convert("P")
    palette.putdata(values.ravel().tolist())
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_labels(str(tmp_path / "palette.png")), values)
    wide = values.astype(np.uint16) * 100
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_labels(str(tmp_path / "wide.png")), wide)
    Image.fromarray(values > 5).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_labels(str(tmp_path / "bits.png")), values > 5)
    assert read_labels(str(tmp_path / "bits.png")).dtype == np.uint8


def test_image_of_another_data_set(tmp_path):
    name, _ = register(tmp_path, [np.zeros((4, 4), np.uint8)])
    evaluator = SemanticSegmentationEvaluator(name, distributed=False)
    with pytest.raises(
        InputError, match=r"other\.jpg is not in data set 'pointrend_test_semantic'"
    ):
        evaluator.process([{"file_name": "other.jpg"}], [{"sem_seg": torch.zeros(3, 4, 4)}])


def test_data_set_that_is_not_semantic(tmp_path):
    name, records = register(tmp_path, [np.zeros((4, 4), np.uint8)], stuff_classes=[])
    with pytest.raises(InputError, match=r"no class names: set .*stuff_classes"):
        SemanticSegmentationEvaluator(name)
    del records[0]["sem_seg_file_name"]
    with pytest.raises(InputError, match=r"0\.jpg lacks 'sem_seg_file_name'\. Set DATASETS\.TEST"):
        SemanticSegmentationEvaluator(name)
