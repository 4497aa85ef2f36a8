"""Evaluation without pasted masks against evaluation with them."""

import json

import pytest
import torch
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.layers import mask_ops
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, ROIMasks
from torch.nn.parallel import DistributedDataParallel

import coco_sets
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator
from pointrend_seg.modeling.roi_mask_model import RoiMaskModel, to_output_size
from small_configs import small_instance_cfg

BOXES = [  # in an image of 80 x 120, height x width
    (10.2, 5.5, 60.1, 47.9),
    (-20.0, -10, 30, 20),
    (130.0, 10, 150, 20),  # outside of it
    (90.4, 60.2, 140, 99),
    (50.0, 20, 50, 40),  # without an area
    (0.0, 0, 120, 80),
]


def predicted(boxes=BOXES, with_masks=True, size=28):
    generator = torch.Generator().manual_seed(0)
    instances = Instances((80, 120), pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
    instances.scores = torch.rand(len(boxes), generator=generator)
    instances.pred_classes = torch.arange(len(boxes)) % 3
    if with_masks:
        instances.pred_masks = torch.rand(len(boxes), 1, size, size, generator=generator)
    return instances


def equal(ours, theirs):
    return (
        ours.image_size == theirs.image_size
        and set(ours.get_fields()) == set(theirs.get_fields())
        and torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
        and torch.equal(ours.scores, theirs.scores)
        and torch.equal(ours.pred_classes, theirs.pred_classes)
    )


@pytest.mark.parametrize("size", [(80, 120), (200, 300), (33, 71)])
@pytest.mark.parametrize("boxes", [BOXES, BOXES[:1], BOXES[2:3], []])
def test_only_the_pasting_is_left_out(boxes, size):
    ours = to_output_size(predicted(boxes), *size)
    theirs = detector_postprocess(predicted(boxes), *size)
    assert equal(ours, theirs)
    pasted = ours.pred_masks.to_bitmasks(ours.pred_boxes, *size).tensor
    assert torch.equal(pasted, theirs.pred_masks)


def test_masks_that_are_roi_masks_already():
    given = predicted()
    given.pred_masks = ROIMasks(given.pred_masks[:, 0])
    ours, theirs = to_output_size(given, 80, 120), to_output_size(predicted(), 80, 120)
    assert torch.equal(ours.pred_masks.tensor, theirs.pred_masks.tensor)


def test_without_masks_there_are_none():
    ours = to_output_size(predicted(with_masks=False), 160, 240)
    assert equal(ours, detector_postprocess(predicted(with_masks=False), 160, 240))


@pytest.mark.parametrize("boxes", [BOXES, []])
def test_an_evaluator_gets_the_same_from_both(tmp_path, boxes):
    dataset, _ = coco_sets.random_set()
    name = coco_sets.register(tmp_path, dataset)
    record = {"image_id": 10, "height": 120, "width": 160}
    predictions = []
    for process in (to_output_size, detector_postprocess):
        evaluator = CocoInstanceEvaluator(name)
        evaluator.reset()
        evaluator.process([record], [{"instances": process(predicted(boxes), 120, 160)}])
        predictions += evaluator._predictions
    assert predictions[0] == predictions[1]
    assert len(predictions[0]["instances"]) == (4 if boxes else 0)


def test_roi_masks_of_another_image_size(tmp_path):
    name = coco_sets.register(tmp_path, coco_sets.random_set()[0])
    output = {"instances": to_output_size(predicted(), 80, 120)}
    evaluator = CocoInstanceEvaluator(name)
    evaluator.reset()
    with pytest.raises(InputError, match="ten.jpg: the predicted masks are 80 x 120, but .*120 x"):
        evaluator.process([{"image_id": 10, "file_name": "ten.jpg"}], [output])


@pytest.fixture
def pasted(monkeypatch):
    """A list that grows with each call that pastes masks."""
    calls, paste = [], mask_ops.paste_masks_in_image

    def counted(*args, **options):
        calls.append(args)
        return paste(*args, **options)

    monkeypatch.setattr(mask_ops, "paste_masks_in_image", counted)
    return calls


def config(output, dataset):
    torch.manual_seed(0)
    opts = ("DATASETS.TEST", (dataset,), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    others = ("OUTPUT_DIR", str(output), "DATALOADER.NUM_WORKERS", 0, "INPUT.MIN_SIZE_TEST", 160)
    return small_instance_cfg(opts=opts + others)


DATASETS = {
    "coco_2017_val": "coco_instances_results.json",
    "lvis_v0.5_val_cocofied": "lvis_instances_results.json",
}


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_trainer_gives_the_same_without_pasting(
    instance_datasets, tmp_path, pasted, monkeypatch, dataset
):
    cfg = config(tmp_path, dataset)
    model = Trainer.build_model(cfg)
    results, written, calls = [], [], []
    for takes in (True, False):
        monkeypatch.setattr(CocoInstanceEvaluator, "takes_roi_masks", takes)
        results.append(Trainer.test(cfg, model.train(not takes)))
        calls.append(len(pasted))
        file = tmp_path / "inference" / dataset / DATASETS[dataset]
        written.append(json.loads(file.read_text()))
        assert model.training is not takes  # as it was
    assert calls == [0, 3]  # of three images
    assert str(results[0]) == str(results[1])  # also NaN
    assert written[0] == written[1]
    assert len({r["segmentation"]["counts"] for r in written[0]}) > 10


def test_the_trainer_leaves_other_evaluators_their_masks(instance_datasets, tmp_path):
    seen = []

    class Looking(DatasetEvaluator):
        def process(self, inputs, outputs):
            seen.extend(output["instances"].pred_masks.dtype for output in outputs)

    cfg = config(tmp_path, "coco_2017_val")
    Trainer.test(cfg, Trainer.build_model(cfg), Looking())
    assert seen == [torch.bool] * 3


def test_a_trainer_without_an_evaluator_says_so(instance_datasets, tmp_path, caplog):
    class Own(Trainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name, output_folder=None):
            raise NotImplementedError

    cfg = config(tmp_path, "coco_2017_val")
    assert Own.test(cfg, Trainer.build_model(cfg)) == {}
    assert "No evaluator found" in caplog.text


def test_what_it_suits(instance_datasets, tmp_path):
    cfg = config(tmp_path, "coco_2017_val")
    model = Trainer.build_model(cfg)
    ours, theirs = Trainer.build_evaluator(cfg, "coco_2017_val"), COCOEvaluator("coco_2017_val")
    assert RoiMaskModel.suits(model, [ours]) and RoiMaskModel.suits(model, [ours, ours])
    assert not RoiMaskModel.suits(model, [theirs])
    assert not RoiMaskModel.suits(model, [ours, theirs])
    assert not RoiMaskModel.suits(torch.nn.Sequential(model), [ours])
    handle = model.register_forward_hook(lambda *_: None)  # which would not be called
    assert not RoiMaskModel.suits(model, [ours])
    handle.remove()
    model.__class__ = type("OwnModel", (GeneralizedRCNN,), {})  # which might do anything
    assert not RoiMaskModel.suits(model, [ours])


def test_a_model_that_is_wrapped_for_several_processes(instance_datasets, tmp_path):
    cfg = config(tmp_path, "coco_2017_val")
    model, ours = Trainer.build_model(cfg), Trainer.build_evaluator(cfg, "coco_2017_val")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        wrapped = DistributedDataParallel(model, broadcast_buffers=False)
        assert RoiMaskModel.suits(wrapped, [ours])
        record = {"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96}
        with torch.no_grad():
            (output,) = RoiMaskModel(wrapped.eval())([record])
        assert isinstance(output["instances"].pred_masks, ROIMasks)
    finally:
        torch.distributed.destroy_process_group()
