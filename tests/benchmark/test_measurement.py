"""Time, memory and what is made of them."""

import json
import time
from functools import partial

import pytest
import torch

from pointrend_seg.benchmark import measurement
from pointrend_seg.benchmark.measurement import Case, Samples, measure, peak_memory
from pointrend_seg.benchmark.tables import as_json, table

CPU = torch.device("cpu")


def case_of(log, builtin_bytes=0):
    def run(name, seconds):
        time.sleep(seconds)
        log.append(name)
        return name

    return Case(
        partial(run, "ours", 0.01),
        partial(run, "builtin", 0.05),
        lambda ours, builtin: {"equal": float((ours, builtin) == ("ours", "builtin"))},
        builtin_bytes,
    )


def test_both_run_in_turn_and_the_ratio_is_that_of_the_medians():
    log, runs = [], []
    found = measure("x", case_of(log), repeats=3, device=CPU, on_run=lambda: runs.append(1))
    assert log == ["builtin", "ours"] * 4 and len(runs) == 8
    assert len(found.ours.seconds) == len(found.builtin.seconds) == 3
    assert found.agreement == {"equal": 1.0}
    assert 2 < found.speed_up < 6
    assert found.speed_up == found.builtin.median / found.ours.median


def test_what_cannot_fit_is_not_run(monkeypatch):
    monkeypatch.setattr(measurement, "available_bytes", lambda device: 10 * 2**30)
    log, runs = [], []
    case = case_of(log, builtin_bytes=24 * 2**30)
    found = measure("x", case, repeats=2, device=CPU, on_run=lambda: runs.append(1))
    assert set(log) == {"ours"} and len(runs) == 6
    assert found.builtin is None and found.speed_up is None and found.memory_ratio is None
    assert "built-in not run: needs some 24 GiB" in table([found])


@pytest.mark.skipif(measurement.available_bytes(CPU) is None, reason="Linux only")
def test_the_peak_is_what_was_allocated_in_between():
    def run():
        large = torch.ones(40 * 2**20 // 4)
        del large
        return torch.ones(10 * 2**20 // 4)

    kept, peak = peak_memory(run, CPU)
    assert 36 * 2**20 < peak < 80 * 2**20
    _, peak = peak_memory(lambda: kept.add_(1), CPU)  # was there before
    assert peak < 8 * 2**20


def test_table_and_json_hold_every_sample():
    ours, builtin = Samples([1.0, 3.0, 2.0], 2**20), Samples([4.0, 6.0, 8.0], 4 * 2**20)
    found = measurement.Measurement("case", ours, builtin, {"equal": 0.9999})
    row = table([found]).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    seconds = ["6.000 s (4.000–8.000)", "2.000 s (1.000–3.000)", "3.0×"]
    assert cells == ["case", *seconds, "4 MiB", "1 MiB", "0.25×", "equal 0.9999"]
    content = json.loads(json.dumps(as_json([found], {"repeats": 3})))
    (entry,) = content["measurements"]
    assert entry["ours"] == {"seconds": [1.0, 3.0, 2.0], "peak_bytes": 2**20}
    assert entry["speed_up"] == 3 and entry["memory_ratio"] == 0.25
    assert entry["median"] == {"ours": 2.0, "builtin": 6.0}
    assert content["versions"]["torch"] and content["date"]
    assert content["hardware"]["threads"] == torch.get_num_threads()
