"""`Predictor(tta=True)` and predict.py --tta."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from pointrend_seg.prediction import Predictor
from pointrend_seg.prediction.folder import predict_images
from pointrend_seg.prediction.visualizations import Visualizations
from pointrend_seg.structures import ClassMap, RleMasks
from pointrend_seg.test_time.model import AugmentedModel
from small_configs import small_instance_cfg, small_semantic_cfg
from videos import write_video

SIZES = ("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Make two configs, with files of them and weights of random models."""
    found, root = {}, tmp_path_factory.mktemp("models")
    for name, make in (("semantic", small_semantic_cfg), ("instance", small_instance_cfg)):
        cfg = make(4, (*SIZES, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "DATASETS.TEST", "()"))
        cfg.DATASETS.TRAIN = ()
        torch.manual_seed(3)
        torch.save({"model": Trainer.build_model(cfg).state_dict()}, root / f"{name}.pth")
        cfg.MODEL.WEIGHTS = str(root / f"{name}.pth")
        (root / f"{name}.yaml").write_text(cfg.dump())
        found[name], found[f"{name} file"] = cfg, root / f"{name}.yaml"
    return found


@pytest.fixture
def image():
    """Make a BGR image of 50 x 90 pixels."""
    return np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)


def output(found):
    return found["sem_seg"] if "sem_seg" in found else found["instances"].pred_masks


@torch.no_grad()
@pytest.mark.parametrize("name", ["semantic", "instance"])
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_it_is_the_augmented_model(configs, image, name, order):
    cfg = configs[name].clone()
    cfg.INPUT.FORMAT = order
    predictor = Predictor(cfg, tta=True)
    channels = image if order == "BGR" else image[:, :, ::-1]
    given = torch.from_numpy(np.ascontiguousarray(channels.transpose(2, 0, 1)))
    (expected,) = AugmentedModel(predictor.model, cfg)([{"image": given}])
    assert torch.equal(output(predictor(image)), output(expected))
    assert not torch.equal(output(Predictor(cfg)(image)), output(expected))
    prediction = predictor(image)  # what is read from it
    assert prediction.plot().shape == image.shape and len(prediction.shapes) > 0


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_the_config_can_ask_for_it(configs, image, name):
    opts = ("TEST.AUG.ENABLED", True)
    by_config = Predictor(configs[name], opts=opts)
    assert by_config.tta
    expected = Predictor(configs[name], tta=True)(image)
    assert torch.equal(output(by_config(image)), output(expected))
    assert not Predictor(configs[name], opts=opts, tta=False).tta
    assert not Predictor(configs[name]).tta and not configs[name].TEST.AUG.ENABLED


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_several_images_in_batches(configs, image, name):
    predictor = Predictor(configs[name], tta=True, batch_size=3)
    images = [image, image[:40, :30], image[::-1]]
    for together, each in zip(predictor(images), images, strict=True):
        assert torch.equal(output(together), output(predictor(each)))


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_tiles(configs, image, name):
    found = output(Predictor(configs[name], tta=True, scale=2, tile=96, overlap=32)(image))
    assert isinstance(found, ClassMap if name == "semantic" else RleMasks)
    assert found.shape[-2:] == (50, 90)


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_arrays_of_every_kind(configs, image, name):
    predictor = Predictor(configs[name], tta=True)
    expected = output(predictor(image))
    assert torch.equal(output(predictor(Image.fromarray(image[:, :, ::-1]))), expected)
    assert torch.equal(output(predictor(image.astype(np.int64))), expected)
    assert output(predictor(image.astype(np.float32))).shape == expected.shape
    assert output(predictor(image[:1, :1])).shape[-2:] == (1, 1)
    assert output(predictor(image[:, :, 0])).shape[-2:] == (50, 90)


def test_no_view_is_larger_than_max_size(configs, image):
    predictor, seen = Predictor(configs["semantic"], tta=True, max_size=96), []
    predictor.model.register_forward_pre_hook(
        lambda model, args: seen.append(tuple(args[0][0]["image"].shape[1:]))
    )
    predictor(image)
    # 1.25 times the usual size would be 120 pixels wide
    assert seen == [(40, 72)] * 2 + [(53, 96)] * 2


def test_what_cannot_be_is_refused(configs):
    with pytest.raises(InputError, match="META_ARCHITECTURE is RetinaNet. Leave out --tta"):
        Predictor(configs["instance"], opts=("MODEL.META_ARCHITECTURE", "RetinaNet"), tta=True)
    with pytest.raises(InputError, match="MIN_SIZES"):
        Predictor(configs["instance"], opts=("TEST.AUG.MIN_SIZES", ()), tta=True)


@pytest.mark.parametrize("picture", ["points", "steps", "compare"])
def test_pictures_of_one_run_are_refused(configs, picture):
    predictor = Predictor(configs["semantic"], tta=True)
    with pytest.raises(InputError, match="show one run of the model, .* leave out --tta"):
        predict_images(predictor, [], None, visualizations=Visualizations(**{picture: True}))
    Visualizations().check(predictor)
    Visualizations(**{picture: True}).check(Predictor(configs["semantic"]))


@pytest.mark.parametrize("name", ["semantic", "instance"])
def test_the_tool(configs, run_in_process, image, tmp_path, name):
    Image.fromarray(image[:, :, ::-1]).save(tmp_path / "a.png")
    write_video(tmp_path / "clip.mp4")
    options = ("--config-file", configs[f"{name} file"], "--confidence", 0)
    options += ("--input", tmp_path / "a.png", tmp_path / "clip.mp4")
    written = []
    for last in (("--tta",), ("TEST.AUG.ENABLED", "True"), ()):
        folder = tmp_path / f"out{len(written)}"
        status, _, errors = run_in_process("predict", *options, "--output", folder, *last)
        assert status == 0, errors
        if name == "semantic":
            written.append(np.array(Image.open(folder / "labels/a.png")).tolist())
        else:
            written.append(json.loads((folder / "objects/a.json").read_text()))
        assert (folder / "pictures/clip.mp4").exists()
    assert written[0] == written[1] != written[2]


def test_the_tool_refuses_pictures_of_one_run(configs, run_in_process, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "a.png")
    options = ("--config-file", configs["semantic file"], "--input", tmp_path / "a.png", "--tta")
    status, _, errors = run_in_process(
        "predict", *options, "--output", tmp_path / "out", "--points"
    )
    assert status == 2 and "leave out --tta" in errors and not (tmp_path / "out").exists()
