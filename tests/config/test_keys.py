"""The table of config keys, and the documentation that is written from it."""

import pytest
from detectron2.config import get_cfg

import write_config_reference
from pointrend_seg.config.keys import INSTANCE_NODE, KEYS, SEMANTIC_NODE, add_pointrend_config
from pointrend_seg.config.tree import all_keys, value_of
from pointrend_seg.errors import InputError


def test_every_key_is_in_the_config_with_its_default_and_no_other():
    plain, ours = get_cfg(), get_cfg()
    add_pointrend_config(ours)
    for name, key in KEYS.items():
        assert key.name == name and value_of(ours, name) == key.default
        key.check(key.default)
    nodes = ("MODEL.SEM_SEG_POINT_HEAD.", "MODEL.POINT_HEAD.", "MODEL.IMPLICIT_POINTREND.")
    new = set(all_keys(ours)) - set(all_keys(plain))
    assert {name for name in new if name.startswith(nodes)} <= KEYS.keys()


def test_the_steps_of_the_branches_differ():
    steps = [KEYS[f"{node}.SUBDIVISION_STEPS"].default for node in (SEMANTIC_NODE, INSTANCE_NODE)]
    assert steps == [-1, 5]
    assert list(KEYS).index(f"{SEMANTIC_NODE}.SUBDIVISION_STEPS") == 10  # where the shared one is


def test_configs_share_no_default():
    first, second = get_cfg(), get_cfg()
    add_pointrend_config(first)
    first.DATASETS.CUSTOM.append({"name": "x"})
    add_pointrend_config(second)
    assert second.DATASETS.CUSTOM == []


@pytest.mark.parametrize(
    ("key", "good", "bad", "allowed"),
    [
        (f"{INSTANCE_NODE}.MASK_RESOLUTION", -1, -2, "-1 or more"),
        (f"{SEMANTIC_NODE}.IMPORTANCE_SAMPLE_RATIO", 1.0, 1.5, "0 to 1"),
        (f"{SEMANTIC_NODE}.PADDING_MODE", "border", "mirror", "'zeros' or 'border'"),
    ],
)
def test_values_out_of_range(key, good, bad, allowed):
    KEYS[key].check(good)
    with pytest.raises(InputError) as caught:
        KEYS[key].check(bad)
    assert str(caught.value) == f"{key} is {bad!r}; it must be {allowed}."


def test_the_documentation_is_up_to_date(run_in_process, tmp_path, monkeypatch):
    status, out, _ = run_in_process("write_config_reference", "--check")
    assert status == 0 and "up to date" in out
    page = tmp_path / "configuration.md"
    page.write_text(write_config_reference.PAGE.read_text().replace("| `784` |", "| `783` |"))
    monkeypatch.setattr(write_config_reference, "PAGE", page)
    status, _, err = run_in_process("write_config_reference", "--check")
    assert status == 1 and "not up to date: make docs" in err
    run_in_process("write_config_reference")
    assert "| `784` |" in page.read_text()
