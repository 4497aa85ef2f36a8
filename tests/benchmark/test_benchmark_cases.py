"""Each case at a small size: both contenders run, and a broken one is noticed."""

import pytest
import torch
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from pointrend_seg.benchmark import evaluation_cases, inference_cases, training_cases
from pointrend_seg.benchmark.cases import all_cases, choose
from pointrend_seg.benchmark.measurement import measure
from pointrend_seg.benchmark.setting import Setting
from pointrend_seg.errors import InputError
from tool_runs import tool

SETTING = Setting(torch.device("cpu"))
SMALL = {"image": (64, 96)}
HEADS = {"num_classes": 5, "num_points": 50, **SMALL}


def agreement(make, **settings):
    return measure("x", make(SETTING, **settings), repeats=1, device=SETTING.device).agreement


def test_masks_agree():
    found = agreement(inference_cases.instance_inference, num_boxes=3, num_classes=4, **SMALL)
    assert found["equal"] > 0.9995 and found["median difference"] < 1e-5


@pytest.mark.parametrize("with_coarse", [False, True])
def test_labels_agree(with_coarse):
    found = agreement(inference_cases.semantic_inference, with_coarse=with_coarse, **HEADS)
    assert found["equal"] > 0.9995 and found["median difference"] < 1e-5


def test_ready_logits_take_the_place_of_the_coarse_head(monkeypatch):
    monkeypatch.setattr(SemSegFPNHead, "layers", lambda *_: pytest.fail("the coarse head ran"))
    agreement(inference_cases.semantic_inference, with_coarse=False, **HEADS)
    with pytest.raises(pytest.fail.Exception, match="the coarse head ran"):
        agreement(inference_cases.semantic_inference, with_coarse=True, **HEADS)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (training_cases.instance_training, {"num_boxes": 5, "num_objects": 2, "num_classes": 4}),
        (training_cases.semantic_training, {"num_classes": 4, "num_points": 30}),
    ],
)
def test_training_agrees(make, settings):
    found = agreement(make, **settings, **SMALL)
    assert found["loss difference"] < 1e-4 and found["gradient difference"] < 1e-2


def test_a_whole_model_agrees():
    found = agreement(inference_cases.model_inference, size=(64, 96), num_detections=5)
    assert found["equal"] > 0.999


def test_encoding_agrees():
    found = agreement(evaluation_cases.encoding, num_detections=5, image=(60, 80))
    assert found == {"equal": 1.0}


def test_scores_agree_and_are_not_trivial():
    case = evaluation_cases.evaluation(
        SETTING, num_detections=6, num_images=2, num_objects=4, image=(60, 80)
    )
    ours, builtin = case.ours(), case.builtin()
    assert 10 < builtin["segm"]["AP"] <= 100
    assert case.agreement(ours, builtin) == {"AP difference": 0.0}
    worse = {**builtin, "segm": ours["bbox"] | {"AP": 0.0}}
    assert case.agreement(ours, worse)["AP difference"] > 1


def test_a_broken_head_is_noticed(monkeypatch):
    monkeypatch.setattr(
        "pointrend_seg.modeling.readers.fast.fused.to_image",
        lambda coords, boxes: coords * 10 + boxes[:, None, :2],
    )
    found = agreement(inference_cases.instance_inference, num_boxes=3, num_classes=4, **SMALL)
    assert found["equal"] < 0.99


def test_halves_by_autocast():
    setting = Setting(torch.device("cpu"), torch.bfloat16)
    case = inference_cases.instance_inference(setting, num_boxes=2, num_classes=3, **SMALL)
    assert case.agreement(case.ours(), case.builtin())


# --- the command line -------------------------------------------------------------------------


def test_cases_are_chosen_by_parts_of_their_names():
    assert list(choose([])) == list(all_cases())
    assert list(choose(["R100-C80", "training"])) == [
        "instance-inference-R100-C80",
        "instance-training",
        "semantic-training",
    ]
    assert list(choose(["*R5-C1"])) == ["instance-inference-R5-C1"]
    with pytest.raises(InputError, match="No case is called 'nonsense'. There are: instance-inf"):
        choose(["nonsense"])


def test_the_tool(tmp_path):
    file = tmp_path / "results.json"
    done = tool("benchmark", "--only", "encoding", "--repeats", 1, "--json", file)
    assert done.returncode == 0, done.stderr
    assert "| encoding" in done.stdout and "equal 1" in done.stdout
    assert file.exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--only", "nonsense"), "No case is called 'nonsense'"),
        (("--device", "tpu9"), "--device is 'tpu9'"),
        (("--device", "meta"), "--device is 'meta'"),
        (("--json", "nowhere/at/all.json"), "the folder of nowhere/at/all.json does not exist"),
        pytest.param(
            ("--device", "cuda"),
            "finds no CUDA device. Use --device cpu.",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(run_in_process, args, message):
    status, _, error = run_in_process("benchmark", *args)
    assert status == 2 and error.startswith("error: ") and message in error


def test_the_list(run_in_process):
    assert run_in_process("benchmark", "--list")[1].split() == list(all_cases())
