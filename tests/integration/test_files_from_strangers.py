"""Files from strangers run no code: each tool, each route, a payload that leaves a marker."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = REPOSITORY / "configs" / "quick" / "pointrend_deeplabv3_R_18_OS16.yaml"
CODE = "!!python/object/apply:os.system [touch marker]"


class Call:
    def __reduce__(self):
        return os.system, ("touch marker",)


def config_with_code(suffix=".yaml", text=f"OUTPUT_DIR: {CODE}\n"):
    Path(f"config{suffix}").write_text(text)
    return ["--config-file", f"config{suffix}"]


def base_with_code():
    Path("evil.yaml").write_text(f"_BASE_: {QUICK}\nOUTPUT_DIR: {CODE}\n")
    return config_with_code(text="_BASE_: evil.yaml\n")


def remote_base():
    return config_with_code(text="_BASE_: http://127.0.0.1:9/evil.yaml\n")


def lazy_config():
    return config_with_code(".py", "open('marker', 'w')\n")


def weights(name):
    def write():
        content = {"model": {"w": Call()}, "__author__": "x", "model_state": {"w": Call()}}
        if name.endswith(".pkl"):
            Path(name).write_bytes(pickle.dumps(content))
        else:
            torch.save(content, name, _use_new_zipfile_serialization="old" not in name)
        return ["--config-file", QUICK, "MODEL.WEIGHTS", name]

    return write


def last_checkpoint():
    weights("model_0000009.pth")()
    Path("last_checkpoint").write_text("model_0000009.pth")
    return ["--config-file", QUICK]


def proposals():
    Path("proposals.pkl").write_bytes(pickle.dumps({"ids": [Call()]}))
    files = "('proposals.pkl',)"
    return [
        *("--config-file", QUICK, "MODEL.LOAD_PROPOSALS", "True", "MODEL.WEIGHTS", ""),
        *("DATASETS.PROPOSAL_FILES_TRAIN", files, "DATASETS.PROPOSAL_FILES_TEST", files),
    ]


CONFIGS = {
    "config": config_with_code,
    "base": base_with_code,
    "remote base": remote_base,
    "lazy config": lazy_config,
}
FILES = ["m.pkl", "m.pth", "old.pth", "m.pyth"]
TRAIN = {"train": [], "evaluate": ["--eval-only"], "dry run": ["--dry-run"]}
CASES = [
    *[("train_net", options, route, make) for options in TRAIN for route, make in CONFIGS.items()],
    *[("train_net", options, name, weights(name)) for options in TRAIN for name in FILES],
    ("train_net", "resume", "last_checkpoint", last_checkpoint),
    ("train_net", "resumed evaluation", "last_checkpoint", last_checkpoint),
    ("train_net", "train", "proposals", proposals),
    ("train_net", "dry run", "proposals", proposals),
    *[("predict", "predict", route, make) for route, make in CONFIGS.items()],
    *[("predict", "predict", name, weights(name)) for name in FILES],
    *[
        (tool, tool, route, make)
        for tool in ("check_data", "visualize_data", "visualize_results", "inspect_checkpoint")
        for route, make in CONFIGS.items()
    ],
    *[("inspect_checkpoint", "file", name, weights(name)) for name in FILES],
]
WORDS = {
    "config": "it has !!python",
    "base": "it has !!python",
    "remote base": "is not fetched",
    "lazy config": "is Python code",
    "proposals": "pickles",
}
OPTIONS = {
    **TRAIN,
    "resume": ["--resume"],
    "resumed evaluation": ["--resume", "--eval-only"],
    "predict": ["--input", "image.png", "--output", "out"],
    "visualize_data": ["--output", "out"],
    "visualize_results": ["--output", "out"],
    "inspect_checkpoint": ["harmless.pth"],
}


@pytest.mark.parametrize(
    ("tool", "how", "route", "make"), CASES, ids=[" ".join(case[1:3]) for case in CASES]
)
def test_no_code_runs(tool, how, route, make, datasets, tmp_path, monkeypatch, run_in_process):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("image.png")
    torch.save({"model": {"w": torch.ones(1)}}, "harmless.pth")
    args = make()
    if how == "file":
        args = [route]
    elif route in FILES or how in ("train", "dry run", "evaluate") or "resume" in how:
        args += ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", tmp_path, "DATALOADER.NUM_WORKERS", 0]
    status, out, err = run_in_process(tool, *args[:2], *OPTIONS.get(how, []), *args[2:])
    assert status == 2 and "Traceback" not in err, err
    assert not Path("marker").exists()
    assert WORDS.get(route, "it needs posix.system") in err.strip().splitlines()[-1]


def test_a_value_on_the_command_line_is_no_code(tmp_path, monkeypatch):
    from pointrend_seg.engine import load_config

    monkeypatch.chdir(tmp_path)
    for value in (CODE, "__import__('os').system('touch marker')"):
        assert value == load_config("", ["OUTPUT_DIR", value]).OUTPUT_DIR
    assert not Path("marker").exists()


def test_the_payload_is_a_real_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Call()))
    assert Path("marker").exists()
