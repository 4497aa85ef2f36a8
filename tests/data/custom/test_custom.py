"""The user's own data sets: records, classes and errors."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from pointrend_seg.data.checks.semantic import check_sem_seg_dataset
from pointrend_seg.data.custom import registration
from pointrend_seg.data.custom.class_files import read_class_file
from pointrend_seg.data.custom.registration import check_same_classes, register_custom
from pointrend_seg.data.labels import read_record_labels
from pointrend_seg.data.mappers.semantic import SemanticMapper
from pointrend_seg.engine import find_task
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg, small_semantic_cfg

NAME = "fruit_of_the_tests"


@pytest.fixture(autouse=True)
def forget():
    yield
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


@pytest.fixture
def folder(tmp_path):
    """Make a folder with two images, one in a subfolder, without labels."""
    for name in ("a.jpg", "sub/b.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(path)
    return tmp_path


def write_labels(folder, labels, names=("a.png", "sub/b.png"), **how):
    for name in names:
        path = folder / "labels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.asarray(labels))
        for key, value in how.items():
            getattr(image, key)(value)
        image.save(path)


def values(*parts):
    """Make 6 x 8 labels with a column for each value."""
    return np.resize(np.array(parts, np.uint8), (6, 8))


def entry(folder, annotations="labels", **more):
    paths = {"images": str(folder / "images"), "annotations": str(folder / annotations)}
    return {"name": NAME, **paths, **more}


def register(*entries, cfg=None):
    cfg = cfg or small_semantic_cfg()
    cfg.DATASETS.CUSTOM = list(entries)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAME,), ()
    register_custom(cfg)
    return cfg


def labels_of(record):
    return np.unique(read_record_labels(record)).tolist()


def test_a_folder_of_labels(folder):
    write_labels(folder, values(0, 1, 255))
    (folder / "classes.txt").write_text("# of fruit\napple\nsweet pear #ff8000\n\n")
    cfg = register(entry(folder))
    first, second = DatasetCatalog.get(NAME)
    assert first["file_name"].endswith("a.jpg") and second["file_name"].endswith("sub/b.png")
    assert labels_of(first) == labels_of(second) == [0, 1, 255]
    classes = find_task(cfg).classes(cfg, NAME)
    assert classes.names == ("apple", "sweet pear") and classes.ids == (0, 1)
    assert classes.ignore_value == 255 and classes.colors.shape == (2, 3)
    cfg.DATASETS.CLASSES_FROM_DATA = True
    find_task(cfg).take_classes_from_data(cfg)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2 and not cfg.DATASETS.CLASSES_FROM_DATA
    check_sem_seg_dataset(NAME, 2, 255)
    mapped = SemanticMapper(cfg, is_train=True)(first)
    assert set(mapped["sem_seg"].unique().tolist()) == {0, 1, 255}
    assert "label_coding" not in mapped


def test_other_class_values(folder):
    """Class values other than 0, 1, …, and another ignore value."""
    write_labels(folder, values(7, 255, 0))
    (folder / "classes.json").write_text(
        '{"classes": [{"name": "road", "id": 255}, {"name": "sky", "id": 7}], "ignore_value": 0}'
    )
    cfg = register(entry(folder))
    record = DatasetCatalog.get(NAME)[0]
    decoded = read_record_labels(record)
    assert decoded[0, :3].tolist() == [0, 1, 255]
    assert (
        find_task(cfg).classes(cfg, NAME).ids == (7, 255)
        and find_task(cfg).classes(cfg, NAME).names[0] == "sky"
    )
    check_sem_seg_dataset(NAME, 2, 255)


def test_a_binary_mask_of_0_and_255_by_ids(folder, caplog):
    write_labels(folder, values(0, 255))
    classes = [{"name": "background", "id": 0}, {"name": "cell", "id": 255}]
    register(entry(folder, classes=classes))
    assert labels_of(DatasetCatalog.get(NAME)[0]) == [0, 1]
    check_sem_seg_dataset(NAME, 2, 255)
    assert "nothing is foreground" not in caplog.text


def test_colours(folder):
    red, blue, gray = (255, 0, 0), (0, 0, 255), (128, 128, 128)
    write_labels(folder, np.resize(np.array([red, gray, blue], np.uint8), (6, 9, 3)))
    (folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nsky:0,0,255::\nroad:255,0,0::\n"
    )
    with pytest.raises(InputError, match=r"a.png has colours that are not classes: #808080"):
        read_record_labels(register(entry(folder)) and DatasetCatalog.get(NAME)[0])
    register(entry(folder, ignore_color="#808080"))
    assert read_record_labels(DatasetCatalog.get(NAME)[0])[0, :3].tolist() == [1, 255, 0]


def test_colours_without_a_table(folder):
    write_labels(folder, np.zeros((6, 8, 3), np.uint8))
    register(entry(folder, classes=["sky"]))
    with pytest.raises(InputError, match="has colours .3 channels.*NAME #rrggbb"):
        read_record_labels(DatasetCatalog.get(NAME)[0])


def test_the_palette_of_the_labels_gives_the_colours(folder):
    write_labels(folder, values(0, 1), putpalette=[1, 2, 3, 200, 100, 50])
    cfg = register(entry(folder, classes=["sky", "road"]))
    assert find_task(cfg).classes(cfg, NAME).colors.tolist() == [[1, 2, 3], [200, 100, 50]]
    assert labels_of(DatasetCatalog.get(NAME)[0]) == [0, 1]


def test_values_that_are_not_classes(folder):
    write_labels(folder, values(7, 9))
    register(entry(folder, classes=[{"name": "sky", "id": 7}]))
    with pytest.raises(InputError, match="a.png has values that are not classes: 9"):
        read_record_labels(DatasetCatalog.get(NAME)[0])


def test_a_saved_config_knows_the_classes_without_the_data(folder):
    write_labels(folder, values(3, 5, 9))
    (folder / "classes.txt").write_text("3 sky #0000ff\n5 road\n")
    cfg = register(entry(folder, ignore_value=9))
    saved = small_semantic_cfg()
    saved.merge_from_other_cfg(type(saved).load_cfg(cfg.dump()))
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
    (folder / "labels").rename(folder / "elsewhere")
    (folder / "classes.txt").unlink()
    register_custom(saved)
    classes = find_task(saved).classes(saved, NAME)
    assert (classes.names, classes.ids) == (("sky", "road"), (3, 5))
    assert MetadataCatalog.get(NAME).label_coding.ignore_value == 9


@pytest.fixture
def coco(folder):
    """Write a COCO file with an object in each image and unsorted categories."""
    box = {"bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0, "segmentation": [[1, 1, 4, 1, 4, 4]]}
    content = {
        "images": [
            {"id": k, "file_name": name, "height": 6, "width": 8}
            for k, name in enumerate(("a.jpg", "sub/b.png"))
        ],
        "annotations": [
            {"id": k + 1, "image_id": k, "category_id": 7 - 4 * k, **box} for k in (0, 1)
        ],
        "categories": [
            {"id": 7, "name": "pear", "color": [9, 8, 7]},
            {"id": 3, "name": "apple", "color": [1, 2, 3]},
        ],
    }
    (folder / "objects.json").write_text(json.dumps(content))
    return folder


def test_a_json_of_objects(coco):
    cfg = register(entry(coco, "objects.json"), cfg=small_instance_cfg())
    assert find_task(cfg).classes(cfg, NAME).ids == (3, 7)  # before the annotations are loaded
    records = DatasetCatalog.get(NAME)
    assert [r["annotations"][0]["category_id"] for r in records] == [1, 0]
    classes = find_task(cfg).classes(cfg, NAME)
    assert classes.names == ("apple", "pear") and classes.ids == (3, 7)
    assert classes.colors.tolist() == [[1, 2, 3], [9, 8, 7]]
    find_task(cfg).take_classes_from_data(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.POINT_HEAD.NUM_CLASSES == 2


def test_class_files_keep_the_ids_of_the_json(coco):
    """A list of the same names, with colours; of other names, the data set is refused."""
    (coco / "names.txt").write_text("apple #010203\npear #0a0b0c\n")
    cfg = register(entry(coco, "objects.json", classes=str(coco / "names.txt")))
    classes = find_task(small_instance_cfg()).classes(cfg, NAME)
    assert (classes.names, classes.ids) == (("apple", "pear"), (3, 7))
    assert classes.colors.tolist() == [[1, 2, 3], [10, 11, 12]]
    (coco / "names.txt").write_text("apple\nplum\n")
    DatasetCatalog.remove(NAME)
    cfg = register(
        entry(coco, "objects.json", classes=str(coco / "names.txt")), cfg=small_instance_cfg(2)
    )
    with pytest.raises(InputError, match="has 2 categories .apple, pear., but the data set"):
        find_task(cfg).check_dataset(cfg, NAME)
    (coco / "names.txt").write_text("apple\napple\n")
    DatasetCatalog.remove(NAME)
    with pytest.raises(InputError, match="two classes have the name"):
        register(entry(coco, "objects.json", classes=str(coco / "names.txt")))


def test_a_json_that_is_written_anew_is_read_anew(coco):
    content = json.loads((coco / "objects.json").read_text())
    for name in ("plum", "cherry"):
        content["categories"][0]["name"] = name
        (coco / "objects.json").write_text(json.dumps(content))
        cfg = register(entry(coco, "objects.json"), cfg=small_instance_cfg())
        assert find_task(cfg).classes(cfg, NAME).names == ("apple", name)
        DatasetCatalog.get(NAME)


def test_relative_paths_are_saved_as_absolute_ones(coco, monkeypatch):
    monkeypatch.chdir(coco)
    given = {"name": NAME, "images": "images", "annotations": "./objects.json"}
    (saved,) = register(given).DATASETS.CUSTOM
    assert saved["images"] == str(coco / "images")
    assert saved["annotations"] == str(coco / "objects.json")


def test_changed_config_keys_are_logged(coco, caplog):
    cfg = register(entry(coco, "objects.json"), cfg=small_instance_cfg())
    with caplog.at_level("INFO"):
        find_task(cfg).take_classes_from_data(cfg)
    assert f"MODEL.ROI_HEADS.NUM_CLASSES: 5 -> 2, from the data set {NAME}" in caplog.text


def test_instance_labels_for_a_semantic_config(coco):
    cfg = register(entry(coco, "objects.json"))
    with pytest.raises(InputError, match="is a COCO instance file, but this is a semantic config"):
        find_task(cfg).take_classes_from_data(cfg)


def test_a_saved_config_knows_the_objects_without_the_data(coco):
    cfg = register(entry(coco, "objects.json"), cfg=small_instance_cfg())
    assert "ignore_value" not in cfg.DATASETS.CUSTOM[0]
    saved = small_instance_cfg()
    saved.merge_from_other_cfg(type(saved).load_cfg(cfg.dump()))
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
    (coco / "objects.json").unlink()
    register_custom(saved)
    classes = find_task(saved).classes(saved, NAME)
    assert (classes.names, classes.ids) == (("apple", "pear"), (3, 7))
    assert classes.colors.tolist() == [[1, 2, 3], [9, 8, 7]]
    assert saved.DATASETS.CUSTOM == cfg.DATASETS.CUSTOM


def test_what_a_saved_entry_has(folder):
    write_labels(folder, values(0, 1))
    cfg = register(entry(folder, classes=["sky", "road"], ignore_color="#808080"))
    (saved,) = cfg.DATASETS.CUSTOM
    assert [each["id"] for each in saved["classes"]] == [0, 1]
    assert (saved["ignore_value"], saved["ignore_color"]) == (255, "#808080")
    (folder / "labels/a.png").unlink()
    (folder / "labels").rename(folder / "elsewhere")  # where a palette may have been
    cfg.freeze()
    before = MetadataCatalog.get(NAME)
    register_custom(cfg)
    assert MetadataCatalog.get(NAME) is not before  # registered anew, as it is said now
    before = MetadataCatalog.get(NAME)
    register_custom(cfg)
    assert MetadataCatalog.get(NAME) is before  # the same entry stays
    DatasetCatalog.remove(NAME)
    register_custom(cfg)
    assert NAME in DatasetCatalog


def test_what_evaluators_and_checks_are_told(coco):
    cfg = small_instance_cfg()
    register(entry(coco, "objects.json"), cfg=cfg)
    metadata = MetadataCatalog.get(NAME)
    assert metadata.json_file == str(coco / "objects.json")
    assert metadata.image_root == str(coco / "images") and metadata.evaluator_type == "coco"
    write_labels(coco, values(0, 1))
    register(entry(coco, classes=["sky", "road"]), cfg=cfg)
    metadata = MetadataCatalog.get(NAME)
    assert (metadata.evaluator_type, metadata.ignore_label) == ("sem_seg", 255)


@pytest.mark.parametrize(("count", "ignored"), [(255, 255), (256, 65535)])
def test_the_ignored_label_of_many_classes_is_none_of_them(folder, count, ignored):
    register(entry(folder, "images", classes=[f"class {k}" for k in range(count)]))
    assert MetadataCatalog.get(NAME).ignore_label == ignored


def test_palettes_that_do_not_name_every_class(folder):
    write_labels(folder, values(0, 1), putpalette=[1, 2, 3, 200, 100, 50])
    for classes in (["a", "b", "c"], [{"name": "a", "id": 0}, {"name": "b", "id": 2}]):
        cfg = register(entry(folder, classes=classes))
        colors = find_task(cfg).classes(cfg, NAME).colors
        assert colors.shape == (len(classes), 3) and colors[0].tolist() != [1, 2, 3]


@pytest.mark.parametrize("semantic", [True, False])
def test_missing_data_and_data_of_the_other_kind(coco, semantic):
    write_labels(coco, values(0, 1))
    make = small_semantic_cfg if semantic else small_instance_cfg
    ours = entry(coco, classes=["a", "b"]) if semantic else entry(coco, "objects.json")
    other = entry(coco, "objects.json") if semantic else entry(coco, classes=["a", "b"])
    cfg = register(ours, cfg=make(2))
    find_task(cfg).check_dataset(cfg, NAME, is_train=True)
    (coco / "images").rename(coco / "moved")
    with pytest.raises(InputError, match="images of data set .*images does not exist"):
        find_task(cfg).check_dataset(cfg, NAME)
    (coco / "moved").rename(coco / "images")
    cfg = register(other, cfg=make(2))
    wrong = "objects.json is .* this is a sem" if semantic else "labels is .* this is an inst"
    with pytest.raises(InputError, match=wrong):
        find_task(cfg).check_dataset(cfg, NAME)
    cfg = register(ours | {"annotations": str(coco / "gone.json")}, cfg=make(2))
    with pytest.raises(InputError, match="annotations of data set .*gone.json does not exist"):
        find_task(cfg).check_dataset(cfg, NAME)


NAMES_OF_TWO = ["background", "cell"]
# Names, what label images a and sub/b have, and the labels that these get; or the refusal.
MASKS = [
    (["cell"], ((0, 1), (0, 1)), ([0, 1], [0, 1])),
    (["cell"], ((0, 255), (0, 255)), ([0, 1], [0, 1])),
    (["cell"], ((0, 0), (0, 255)), ([0], [0, 1])),
    (["cell"], ((0, 1, 255), (0, 255)), ([0, 1, 255], [0, 255])),  # 255 is unlabelled
    (NAMES_OF_TWO, ((0, 1), (0, 0)), ([0, 1], [0])),
    (NAMES_OF_TWO, ((0, 255), (255, 0)), ([0, 1], [0, 1])),
    ([{"name": "cell", "id": 255}], ((0, 255), (0, 0)), ([0, 1], [0])),
    ([{"name": "cell", "id": 7}], ((0, 7), (0, 7, 255)), ([0, 1], [0, 1, 255])),
    ([{"name": "cell", "id": 255}], ((0, 1), (0, 255)), "a.png has values .* not classes: 1"),
    ([{"name": "cell", "id": 1}], ((0, 255), (0, 255)), ([0, 255], [0, 255])),
]


@pytest.mark.parametrize(("classes", "masks", "expected"), MASKS)
def test_masks_of_one_class(folder, classes, masks, expected):
    for mask, name in zip(masks, ("a.png", "sub/b.png"), strict=True):
        write_labels(folder, values(*mask), names=(name,))
    register(entry(folder, classes=classes))
    records = DatasetCatalog.get(NAME)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            [labels_of(record) for record in records]
        return
    assert tuple(labels_of(record) for record in records) == expected


def test_masks_of_one_class_that_are_given_as_ignored(folder, caplog):
    write_labels(folder, values(0, 255))
    register(entry(folder, classes=NAMES_OF_TWO, ignore_value=255))
    assert labels_of(DatasetCatalog.get(NAME)[0]) == [0, 255]
    check_sem_seg_dataset(NAME, 2, 255)
    assert "nothing is foreground" in caplog.text


def test_255_that_is_first_seen_late_is_unclear(folder, monkeypatch):
    monkeypatch.setattr(registration, "_MOST_LABELS", 0)
    write_labels(folder, values(0, 255))
    register(entry(folder, classes=["cell"]))
    with pytest.raises(InputError, match="has the value 255, which may be the foreground or unl"):
        labels_of(DatasetCatalog.get(NAME)[0])


@pytest.mark.parametrize("explicit", [False, True])
def test_masks_of_0_and_1_beside_masks_of_0_and_255(folder, explicit):
    """In the second set 255 may be unlabelled, unless its class file says so."""
    write_labels(folder, values(0, 1))
    (folder / "labels").rename(folder / "first")
    write_labels(folder, values(0, 255))
    classes = [{"name": "cell", "id": 255}] if explicit else ["cell"]
    second = entry(folder, classes=classes) | {"name": f"{NAME}_val"}
    register(entry(folder, "first", classes=["cell"]), second)
    try:
        if explicit:
            registration.check_same_classes([NAME, f"{NAME}_val"])
            return
        with pytest.raises(InputError, match=f"{NAME} have the value 1, those of {NAME}_val only"):
            registration.check_same_classes([NAME, f"{NAME}_val"])
    finally:
        DatasetCatalog.remove(f"{NAME}_val")
        MetadataCatalog.remove(f"{NAME}_val")


def test_a_saved_config_keeps_the_values_of_masks(folder):
    write_labels(folder, values(0, 255))
    cfg = register(entry(folder, classes=["cell"]))
    (saved,) = cfg.DATASETS.CUSTOM
    assert [each["id"] for each in saved["classes"]] == [255]
    register(saved)
    assert labels_of(DatasetCatalog.get(NAME)[0]) == [0, 1]
    classes = find_task(cfg).classes(cfg, NAME)
    assert (classes.names, classes.ids) == (("background", "cell"), (0, 255))


def test_one_class_with_the_value_of_the_background(folder):
    write_labels(folder, values(0, 1))
    with pytest.raises(InputError, match="cell is the only class and has the value 0"):
        register(entry(folder, classes=[{"name": "cell", "id": 0}]))


BLACK, MAROON, GREEN, CREAM = [0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]
VOC = "background:0,0,0::\nplane:0,128,0::\nbike:128,0,0::\n"


def voc_palette():
    table = [0] * 768
    table[:9], table[765:] = [*BLACK, *MAROON, *GREEN], CREAM
    return table


def test_palette_images_are_read_by_their_colours(folder):
    """Where the class file has them: its order is not that of the palette, as of Pascal VOC."""
    write_labels(folder, values(0, 1, 2, 255), putpalette=voc_palette())
    (folder / "labelmap.txt").write_text(VOC)
    register(entry(folder))
    assert read_record_labels(DatasetCatalog.get(NAME)[0])[0, :4].tolist() == [0, 2, 1, 255]
    (folder / "labelmap.txt").write_text("background:0,0,0::\nplane:0,128,0::\n")
    register(entry(folder, ignore_value=255))
    with pytest.raises(InputError, match=r"a.png has colours that are not classes: #800000\."):
        read_record_labels(DatasetCatalog.get(NAME)[0])


def test_palettes_that_differ(folder):
    """Without the colours of the classes, an index may mean something else in each file."""
    write_labels(folder, values(0, 1), names=("a.png",), putpalette=[*BLACK, *MAROON, *GREEN])
    write_labels(folder, values(0, 1), names=("sub/b.png",), putpalette=[*BLACK, *GREEN])
    register(entry(folder, classes=["a", "b", "c"]))
    first, second = DatasetCatalog.get(NAME)
    assert labels_of(first) == [0, 1]
    with pytest.raises(InputError, match="b.png has the colour #008000 at index 1 .*#800000"):
        read_record_labels(second)
    colors = ["#000000", "#800000", "#008000"]
    classes = [{"name": n, "color": c} for n, c in zip("abc", colors, strict=True)]
    register(entry(folder, classes=classes))
    assert labels_of(DatasetCatalog.get(NAME)[1]) == [0, 2]


def test_colours_for_drawing_do_not_decode_labels(folder):
    """A saved config has colours for all classes, also where the label images have only values."""
    write_labels(folder, values(0, 1), putpalette=[*CREAM, *CREAM])
    cfg = register(entry(folder, classes=["sky", "road"]))
    (saved,) = cfg.DATASETS.CUSTOM
    assert saved["drawing_colors"] is True
    register(saved)
    assert labels_of(DatasetCatalog.get(NAME)[0]) == [0, 1]
    with pytest.raises(InputError, match="drawing_colors is 'x'; it must be True or False"):
        register(saved | {"drawing_colors": "x"})


def test_two_classes_of_one_colour(folder):
    write_labels(folder, np.zeros((6, 8, 3), np.uint8))
    register(entry(folder, classes=[{"name": n, "color": "#000000"} for n in "ab"]))
    with pytest.raises(InputError, match="two classes have the colour #000000"):
        read_record_labels(DatasetCatalog.get(NAME)[0])


def test_one_class_with_a_colour(folder):
    """The background of masks is black."""
    write_labels(folder, np.resize(np.array([BLACK, GREEN], np.uint8), (6, 8, 3)))
    cfg = register(entry(folder, classes=[{"name": "cell", "color": "#008000"}]))
    assert read_record_labels(DatasetCatalog.get(NAME)[0])[0, :2].tolist() == [0, 1]
    classes = find_task(cfg).classes(cfg, NAME)
    assert classes.names == ("background", "cell") and classes.colors.tolist() == [BLACK, GREEN]
    write_labels(folder, np.resize(np.array([MAROON, GREEN], np.uint8), (6, 8, 3)))
    with pytest.raises(InputError, match="colours that are not classes: #800000"):
        read_record_labels(DatasetCatalog.get(NAME)[0])


def test_label_images_with_an_ending(folder):
    write_labels(folder, values(0, 1), names=("a_mask.png", "sub/b_mask.png"))
    register(entry(folder, classes=["sky", "road"]))
    names = [record["sem_seg_file_name"] for record in DatasetCatalog.get(NAME)]
    assert [name.rpartition("labels/")[2] for name in names] == ["a_mask.png", "sub/b_mask.png"]
    write_labels(folder, values(0, 1), names=("a.png",))  # some with, some without
    register(entry(folder, classes=["sky", "road"], ignore_value=9))
    with pytest.raises(InputError, match="2 of 3 label images have no image.*a_mask.png"):
        DatasetCatalog.get(NAME)


def test_images_and_labels_in_one_folder(folder):
    for name in ("images/a_mask.png", "images/sub/b_mask.png"):
        Image.fromarray(values(0, 1)).save(folder / name)
    register(entry(folder, "images", classes=["sky", "road"]))
    first, second = DatasetCatalog.get(NAME)
    assert first["file_name"].endswith("a.jpg") and labels_of(first) == [0, 1]
    (folder / "images/a_mask.png").unlink()
    (folder / "images/sub/b_mask.png").unlink()
    register(entry(folder, "images", classes=["sky", "tree"]))
    with pytest.raises(InputError, match="images and labels are in one folder"):
        DatasetCatalog.get(NAME)


def test_a_folder_of_other_files_than_label_images(folder):
    (folder / "labels").mkdir()
    for name in ("a.npy", "b.xml"):
        (folder / "labels" / name).write_text("")
    register(entry(folder, classes=["sky", "road"]))
    with pytest.raises(InputError, match=r"no label image in .*it has none, but .npy, .xml files"):
        DatasetCatalog.get(NAME)


@pytest.mark.parametrize("known_first", [True, False])
def test_classes_that_are_not_known_yet_agree_with_all(folder, known_first):
    """Classes of a missing COCO file."""
    known = entry(folder, "images", classes=["sky"])
    unknown = entry(folder, "gone.json") | {"name": f"{NAME}_val"}
    names = [NAME, f"{NAME}_val"] if known_first else [f"{NAME}_val", NAME]
    register(known, unknown)
    try:
        check_same_classes(names)
    finally:
        DatasetCatalog.remove(f"{NAME}_val")
        MetadataCatalog.remove(f"{NAME}_val")


def test_training_and_evaluation_have_the_same_classes(folder):
    write_labels(folder, values(0, 1))
    cfg = small_semantic_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAME,), (f"{NAME}_val",)
    cfg.DATASETS.CUSTOM = [
        entry(folder, classes=["sky", "road"]),
        entry(folder, classes=["road", "sky"]) | {"name": f"{NAME}_val"},
    ]
    register_custom(cfg)
    try:
        with pytest.raises(InputError, match="have different classes.*sky, road and road, sky"):
            find_task(cfg).check_dataset(cfg, NAME)
    finally:
        DatasetCatalog.remove(f"{NAME}_val")
        MetadataCatalog.remove(f"{NAME}_val")


def test_registering_again(folder):
    write_labels(folder, values(0, 1))
    register(entry(folder, classes=["sky", "road"]))
    register(entry(folder, classes=["sky", "road"]))
    cfg = register(entry(folder, classes=["sky", "road", "tree"]))
    assert len(find_task(cfg).classes(cfg, NAME)) == 3
    taken = entry(folder, classes=["sky"]) | {"name": "coco_2017_train"}
    with pytest.raises(InputError, match="another data set has the name coco_2017_train"):
        register(taken)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image": "x"}, "entry with the unknown key 'image'.*Did you mean images"),
        ({"images": ""}, "needs 'images', a string"),
        ({"images": 5}, "needs 'images', a string"),
        ({"annotations": "nowhere"}, "nowhere is neither a folder of label images nor a .json"),
        ({}, "there is no classes.txt .one name per line"),
        ({"classes": ["sky", "sky"]}, "two classes have the name 'sky'"),
        ({"classes": "gone.txt"}, "gone.txt cannot be read"),
        ({"classes": [{"name": "sky", "color": "red"}]}, "'red' is not a colour"),
        (
            {"classes": [{"name": "sky", "id": 255}], "ignore_value": 255},
            "also the value of class sky",
        ),
        ({"classes": [{"name": "sky", "id": 1}, "road"]}, "some classes have an id"),
    ],
)
def test_invalid_entries(folder, changes, text):
    write_labels(folder, values(0, 1))
    with pytest.raises(InputError, match=text):
        register(entry(folder) | changes)


def test_images_and_labels_that_do_not_match(folder):
    register(entry(folder, classes=["sky"]) | {"annotations": str(folder / "images")})
    write_labels(folder, values(0), names=("c.png",))
    register(entry(folder, classes=["sky"]))
    with pytest.raises(InputError, match=r"no label image in .* \(c\) has the name of an image"):
        DatasetCatalog.get(NAME)
    write_labels(folder, values(0), names=("a.png",))
    with pytest.raises(InputError, match=r"1 of 2 label images have no image.*c\.png"):
        DatasetCatalog.get(NAME)


def test_an_entry_that_is_no_dict():
    with pytest.raises(InputError, match="DATASETS.CUSTOM must be a list of dicts.*got 'fruit'"):
        register("fruit")


def test_files_that_are_no_images_and_hidden_ones_are_skipped(folder, caplog):
    write_labels(folder, values(0))
    for name in ("images/notes.txt", "images/._a.jpg", "labels/._c.png", "labels/sub/.b.png"):
        (folder / name).write_text("")
    register(entry(folder, classes=["sky"]))
    names = [record["file_name"] for record in DatasetCatalog.get(NAME)]
    assert names == [str(folder / "images" / name) for name in ("a.jpg", "sub/b.png")]
    assert not caplog.text
    (folder / "images/a.png").write_text("")
    with pytest.raises(InputError, match="a.jpg and .*a.png differ only in the extension"):
        DatasetCatalog.get(NAME)
    (folder / "images").rename(folder / "moved")
    with pytest.raises(InputError, match="The folder .*images does not exist"):
        DatasetCatalog.get(NAME)


def test_what_the_class_file_ignores(folder):
    """As long as the entry says nothing else."""
    colors = np.array([[255, 0, 0], [128, 128, 128], [0, 0, 255]], np.uint8)
    write_labels(folder, np.resize(colors, (6, 9, 3)))
    (folder / "classes.json").write_text(
        '{"classes": [{"name": "road", "color": "#ff0000"}], "ignore_color": "#808080"}'
    )
    for ignored, said in (({}, "#0000ff"), ({"ignore_color": "#0000ff"}, "#808080")):
        (saved,) = register(entry(folder, **ignored)).DATASETS.CUSTOM
        assert saved["ignore_color"] == ignored.get("ignore_color", "#808080")
        with pytest.raises(InputError, match=rf"colours that are not classes: {said}\."):
            read_record_labels(DatasetCatalog.get(NAME)[0])


def test_images_without_labels_are_skipped(folder, caplog):
    write_labels(folder, values(0), names=("a.png",))
    register(entry(folder, classes=["sky"]))
    assert len(DatasetCatalog.get(NAME)) == 1
    assert "1 of 2 images" in caplog.text and "sub/b.png" in caplog.text


def test_class_files_in_text(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\ufeff12 sky #0102ff\n3 wet road #000000\n")
    table = read_class_file(str(path))
    assert table.names == ("wet road", "sky") and table.ids == (3, 12)
    assert table.colors == ((0, 0, 0), (1, 2, 255))


def test_default_class_names():
    cfg = small_semantic_cfg(3)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    assert find_task(cfg).classes(cfg).names == ("class 0", "class 1", "class 2")
