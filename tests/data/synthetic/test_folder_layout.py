"""The folder layout: its files agree with each other."""

import json

import numpy as np
import pytest
from PIL import Image

from pointrend_seg.data.custom.class_files import read_class_file
from pointrend_seg.data.synthetic.folder_layout import CLASSES, FolderParameters, write_folder
from pointrend_seg.errors import InputError

SMALL = FolderParameters(num_train=2, num_val=1, height=96, width=128, object_scale=1.0)


def test_what_is_in_it(tmp_path):
    root = tmp_path / "streets"
    assert write_folder(root, SMALL)
    assert not write_folder(root, SMALL)
    table = read_class_file(str(root / "classes.txt"))
    assert table.names == tuple(name for name, _, _ in CLASSES)
    assert table.colors[0] == CLASSES[0][1]
    for split, count in (("train", 2), ("val", 1)):
        images = sorted((root / "images" / split).iterdir())
        labels = sorted((root / "labels" / split).iterdir())
        assert [p.stem for p in images] == [p.stem for p in labels] and len(images) == count
        content = json.loads((root / f"objects_{split}.json").read_text())
        assert [each["file_name"] for each in content["images"]] == [p.name for p in images]
        assert len(content["categories"]) == 9
        for image, label in zip(images, labels, strict=True):
            values = np.asarray(Image.open(label))
            assert Image.open(image).size == values.shape[::-1] == (128, 96)
            assert set(np.unique(values)) <= {*range(len(CLASSES)), 255}
            assert len(np.unique(values)) > 3
    first = [(root / "images" / split / "0000.jpg").read_bytes() for split in ("train", "val")]
    assert first[0] != first[1]


def test_existing_files_are_not_overwritten(tmp_path):
    with pytest.raises(InputError, match="is not synthetic data"):
        write_folder(tmp_path, SMALL)
