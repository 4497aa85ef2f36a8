"""What a run writes at its beginning, and that it waits until everything is checked."""

import json
import logging

import pytest
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from pointrend_seg.engine.metrics_file import MetricsWriter, mend_end
from pointrend_seg.engine.run_folder import RunFolder
from pointrend_seg.errors import InputError

LOGGERS = ("detectron2.engine", "fvcore.common", "pointrend_seg.engine")


@pytest.fixture
def cfg(tmp_path):
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    yield CfgNode({"OUTPUT_DIR": str(tmp_path / "new" / "out")})
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)


def log(text):
    for name in LOGGERS:
        logging.getLogger(name).info(text)


def test_a_run(cfg, tmp_path):
    out = tmp_path / "new" / "out"
    for number in (1, 2):  # the second appends to the log
        with RunFolder() as folder:
            log("before")
            folder.lock(cfg)
            assert "log.txt" not in {path.name for path in out.iterdir()} or number == 2
            folder.begin(cfg, "config.yaml")
            log("after")
            assert (out / "log.txt").read_text().count("after") == 3 * number  # at once
            assert (out / "training.lock").exists()
        log("outside")
        text = (out / "log.txt").read_text()
        assert text.count("before") == text.count("after") == 3 * number
        assert "pointrend_seg.engine INFO: before" in text and "outside" not in text
        assert sorted(path.name for path in out.iterdir()) == ["config.yaml", "log.txt"]
        assert (out / "config.yaml").read_text() == cfg.dump()


def test_a_refused_run_leaves_no_trace(cfg, tmp_path):
    with pytest.raises(InputError), RunFolder() as folder:
        folder.lock(cfg)
        log("before")
        raise InputError("refused")
    assert not list(tmp_path.iterdir())


def test_a_refused_run_leaves_what_was_there(cfg, tmp_path):
    out = tmp_path / "new" / "out"
    out.mkdir(parents=True)
    (out / "config.yaml").write_text("of the training before")
    with pytest.raises(InputError), RunFolder() as folder:
        folder.lock(cfg)
        raise InputError("refused")
    assert [path.name for path in out.iterdir()] == ["config.yaml"]
    assert (out / "config.yaml").read_text() == "of the training before"


def test_a_training_removes_parts_of_checkpoints_that_killed_ones_left(cfg, tmp_path):
    out = tmp_path / "new" / "out"
    out.mkdir(parents=True)
    (out / ".model_0000004.part.pth").touch()
    with RunFolder() as evaluation:
        evaluation.begin(cfg, "eval_config.yaml")
    assert (out / ".model_0000004.part.pth").exists()  # perhaps of a training that runs
    with RunFolder() as training:
        training.lock(cfg)
        assert (out / ".model_0000004.part.pth").exists()
        training.begin(cfg, "config.yaml")
        assert not (out / ".model_0000004.part.pth").exists()


def test_a_folder_that_another_used_meanwhile_stays(cfg, tmp_path):
    with pytest.raises(InputError), RunFolder() as folder:
        folder.lock(cfg)
        (tmp_path / "new" / "out" / "a.txt").touch()
        raise InputError("refused")
    assert (tmp_path / "new" / "out" / "a.txt").exists()


def test_a_second_training_changes_nothing(cfg, tmp_path):
    with RunFolder() as first:
        first.lock(cfg)
        first.begin(cfg, "config.yaml")
        before = (tmp_path / "new" / "out" / "log.txt").read_text()
        with pytest.raises(InputError, match="Another training"), RunFolder() as second:
            second.lock(cfg)
        assert (tmp_path / "new" / "out" / "log.txt").read_text() == before
        with RunFolder() as evaluation:  # which needs no lock
            evaluation.begin(cfg, "eval_config.yaml")


@pytest.mark.parametrize(
    ("content", "mended"),
    [
        (b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"a": 2}', b'{"a": 1}\n{"a": 2}\n'),
        (b'{"a": 1}\n{"a": 2, "b', b'{"a": 1}\n'),
        (b'{"a": 1}\n\0\0\0', b'{"a": 1}\n'),
        (b'{"a', b""),
    ],
)
def test_the_half_line_of_a_killed_process_is_cut(content, mended, tmp_path):
    (tmp_path / "metrics.json").write_bytes(content)
    mend_end(tmp_path / "metrics.json")
    assert (tmp_path / "metrics.json").read_bytes() == mended
    mend_end(tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()


def test_metrics_are_appended_to_whole_lines(tmp_path):
    file = tmp_path / "out" / "metrics.json"
    writer = MetricsWriter(file)
    writer.close()
    assert not file.parent.exists()  # a run that wrote nothing
    file.parent.mkdir()
    file.write_text('{"iteration": 1}\n{"iter')
    writer = MetricsWriter(file)
    for iteration in (7, 8):
        with EventStorage(iteration) as storage:
            storage.put_scalar("loss", 0.5)
            writer.write()
    writer.close()
    lines = [json.loads(line)["iteration"] for line in file.read_text().splitlines()]
    assert lines == [1, 7, 8]
