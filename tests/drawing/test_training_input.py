"""What is drawn is what the mapper gives."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from PIL import Image

from pointrend_seg.data.classes import Classes
from pointrend_seg.drawing.training_input import draw_training_input
from visualize_data import contact_sheet

CLASSES = Classes(("sky", "road"), np.array([[0, 0, 250], [250, 0, 0]], np.uint8), (0, 1))
FACTOR = 5  # a small image is enlarged, and so are its labels


def panels(picture):
    """The image and its labelled version, one pixel of five in each direction."""
    height, width = 60 * FACTOR, 80 * FACTOR
    left, right = picture[26:, 6:], picture[26:, 12 + width :]
    first = FACTOR - 1
    return [each[first:height:FACTOR, first:width:FACTOR] for each in (left, right)]


QUICK = "configs/quick/pointrend_{}.yaml"


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_colours_and_hatching(order):
    image = torch.zeros(3, 60, 80)
    image[0 if order == "RGB" else 2] = 200  # red
    labels = torch.zeros(60, 80, dtype=torch.int64)
    labels[:, 40:] = 255
    picture = draw_training_input({"image": image, "sem_seg": labels}, CLASSES, order)
    seen, labelled = panels(picture)
    assert (seen == [200, 0, 0]).all()
    assert labelled[3, 5].tolist() == [80, 0, 150]  # 0.4 of the image and 0.6 of the colour
    hatched = labelled[:, 43:]
    assert {tuple(c) for c in hatched.reshape(-1, 3).tolist()} == {(90,) * 3, (150,) * 3}


def test_objects():
    instances = Instances((60, 80))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 20, 50, 55], [0, 0, 80, 60]]))
    instances.gt_classes = torch.tensor([1, 0])
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 25:50, 15:45] = True
    instances.gt_masks = BitMasks(masks)
    inputs = {"image": torch.full((3, 60, 80), 100.0), "instances": instances}
    _, labelled = panels(draw_training_input(inputs, CLASSES, "RGB"))
    bare = draw_training_input(inputs, CLASSES, "RGB", names=False)
    assert (bare != draw_training_input(inputs, CLASSES, "RGB")).any()
    assert (labelled[53, 5] == 100).all()
    assert (labelled[40, 30] != 100).any() and (labelled[54, 30] != 100).any()
    assert (labelled[59, 70] != 100).any()  # a box at the very edge


def test_points():
    instances = Instances((60, 80))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 20, 50, 55]]))
    instances.gt_classes = torch.tensor([1])
    instances.gt_point_coords = torch.tensor([[[20.5, 30.5], [40.5, 30.5], [30.5, 45.5]]])
    instances.gt_point_labels = torch.tensor([[1, 0, -1]])
    inputs = {"image": torch.full((3, 60, 80), 100.0), "instances": instances}
    picture = draw_training_input(inputs, CLASSES, "RGB")
    labelled = picture[26:, 12 + 80 * FACTOR :]
    middle = FACTOR // 2
    assert (labelled[30 * FACTOR + middle, 20 * FACTOR + middle] == 255).all()
    assert (labelled[30 * FACTOR + middle, 40 * FACTOR + middle] == 0).all()
    assert (labelled[44 * FACTOR : 47 * FACTOR, 29 * FACTOR : 32 * FACTOR] == 100).all()


def test_panoptic_labels():
    """Objects lie over stuff in the colours of its classes; crowds stay as the image is."""
    colors = np.array([[9, 9, 9], [0, 0, 250], [250, 0, 0]], np.uint8)
    classes = Classes(("car", "sky", "road"), colors, (1, 2, 3), num_things=1)
    instances = Instances((60, 80))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 20, 30, 50]]))
    instances.gt_classes = torch.tensor([0])
    masks = torch.zeros(1, 60, 80, dtype=torch.bool)
    masks[0, 20:50, 10:30] = True
    instances.gt_masks = BitMasks(masks)
    labels = torch.ones(60, 80, dtype=torch.int64)
    labels[:, 40:] = 2
    labels[20:50, 10:30], labels[30:50, 50:70], labels[:10, 70:] = 0, 0, 255
    image = torch.full((3, 60, 80), 100.0)
    inputs = {"image": image, "sem_seg": labels, "instances": instances}
    _, labelled = panels(draw_training_input(inputs, classes, "RGB", names=False))
    assert labelled[5, 5].tolist() == [40, 40, 190] and labelled[5, 50].tolist() == [190, 40, 40]
    assert (labelled[40, 60] == 100).all() and (labelled[35, 20] != 100).any()
    assert labelled[5, 75].tolist() in ([90] * 3, [150] * 3)


@pytest.mark.parametrize("kind", ["deeplabv3_R_18_OS16", "rcnn_R_18_FPN", "panoptic_R_18_FPN"])
def test_the_tool(
    kind, run_in_process, datasets, instance_datasets, tmp_path, request, monkeypatch
):
    monkeypatch.chdir(request.config.rootpath)
    args = ("--config-file", QUICK.format(kind), "--output", tmp_path, "--num", 2)
    status, out, _ = run_in_process("visualize_data", *args, "INPUT.MIN_SIZE_TRAIN", "(64,)")
    assert status == 0 and "2 pictures" in out
    first = sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(first) == 3 and first[-1] == "contact.png"
    augmented = (tmp_path / first[0]).read_bytes()
    run_in_process("visualize_data", *args, "INPUT.MIN_SIZE_TRAIN", "(64,)")
    assert (tmp_path / first[0]).read_bytes() == augmented  # of the same seed
    run_in_process("visualize_data", *args, "--no-augmentation")
    size = Image.open(tmp_path / first[0]).size
    assert size == (3 * 6 + 4 * (256 if "deeplab" in kind else 192), 26 + 2 * 128 + 6)


def test_mistakes(run_in_process, tmp_path):
    status, _, err = run_in_process(
        *("visualize_data", "--config-file", "", "--output", tmp_path, "--num", 0)
    )
    assert status == 2 and "--num is 0" in err


@pytest.mark.parametrize(
    ("size", "count", "columns"), [((300, 600), 8, 2), ((600, 300), 10, 5), ((300, 600), 1, 1)]
)
def test_the_contact_sheet_has_several_columns(size, count, columns):
    pictures = [np.full((*size, 3), 10 * k, np.uint8) for k in range(count)]
    sheet = contact_sheet(pictures)
    assert sheet.shape[1] == 600 * columns
    assert sheet.shape[0] == -(-count // columns) * round(600 * size[0] / size[1])
    assert {int(value) for value in np.unique(sheet)} == {10 * k for k in range(count)}


def test_a_contact_sheet_of_several_shapes():
    pictures = [np.zeros((height, 600, 3), np.uint8) for height in (100, 300, 200)]
    sheet = contact_sheet(pictures)
    assert sheet.shape == (500, 1200, 3)
    assert (sheet[150:300, :600] == 255).all() and (sheet[300:, 600:] == 255).all()
