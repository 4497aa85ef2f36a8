"""One training at a time in a folder; what a killed one left is no obstacle."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import time

import pytest

from pointrend_seg.errors import InputError
from pointrend_seg.files import run_lock
from pointrend_seg.files.run_lock import RunLock


@pytest.fixture
def hold(tmp_path):
    """Starts processes that take the lock of tmp_path and keep it; returns one and what it says."""
    context, started = multiprocessing.get_context("fork"), []

    def run(sender, children):
        os.setpgid(0, 0)
        run_lock._own.clear()  # of the process that was forked
        try:
            RunLock(tmp_path).take()
            said = "taken"
        except InputError as error:
            said = str(error)
        if children and os.fork() == 0:  # as the processes of a data loader
            time.sleep(60)
        sender.send(said)
        time.sleep(60)

    def start(children=False):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(sender, children))
        process.start()
        started.append(process)
        return process, receiver

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()


def test_a_second_training_is_refused(hold, tmp_path):
    first, says = hold()
    assert says.recv() == "taken"
    names = rf"process {first.pid} on {socket.gethostname()} since 20.*choose another OUTPUT_DIR"
    for _ in range(2):
        with pytest.raises(InputError, match=f"Another training writes to {tmp_path}: {names}"):
            RunLock(tmp_path).take()
    assert "Another training" in hold()[1].recv()


def test_one_of_many_that_start_at_once(hold):
    said = [says.recv() for _, says in [hold() for _ in range(20)]]
    assert said.count("taken") == 1
    assert sum("Another training" in each for each in said) == 19


def test_a_killed_training_is_no_obstacle(hold, tmp_path, caplog):
    """Also while processes of its data loader still live."""
    first, says = hold(children=True)
    assert says.recv() == "taken"
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert (tmp_path / "training.lock").read_text()
    lock = RunLock(tmp_path)
    lock.take()
    assert f"process {first.pid} on" in caplog.text and "was killed" in caplog.text
    assert json.loads((tmp_path / "training.lock").read_text())["process"] == os.getpid()
    lock.release()


def test_the_end_leaves_nothing(hold, tmp_path, caplog):
    for _ in range(2):
        lock = RunLock(tmp_path)
        lock.take()
        assert "Another training" in hold()[1].recv()
        lock.release()
        lock.release()
        assert not list(tmp_path.iterdir())
    assert not caplog.records


def test_twice_in_one_process(hold, tmp_path):
    lock = RunLock(tmp_path)
    lock.take()
    with pytest.raises(InputError, match="It is this process"):
        RunLock(tmp_path / "." / ".." / tmp_path.name).take()
    assert "Another training" in hold()[1].recv()  # the first still has it
    lock.release()


@pytest.mark.parametrize("before", [{"host": "elsewhere", "boot": "b", "process": 7}, {}, [1]])
def test_a_lock_that_cannot_be_checked(before, tmp_path):
    (tmp_path / "training.lock").write_text(json.dumps(before))
    with pytest.raises(
        InputError, match=r"cannot tell whether it still runs.*remove .*training.lock"
    ):
        RunLock(tmp_path).take()
    assert json.loads((tmp_path / "training.lock").read_text()) == before


def test_the_machine_was_started_again(tmp_path, caplog):
    before = {"host": socket.gethostname(), "boot": "before", "process": 7, "since": "noon"}
    (tmp_path / "training.lock").write_text(json.dumps(before))
    lock = RunLock(tmp_path)
    lock.take()
    lock.release()
    assert "process 7 on" in caplog.text and "was started again" in caplog.text


def test_a_file_that_was_just_made_is_nobodys(tmp_path, caplog):
    (tmp_path / "training.lock").touch()
    lock = RunLock(tmp_path)
    lock.take()
    lock.release()
    assert not caplog.records


def test_where_the_kernel_has_no_locks_the_file_is_the_lock(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    lock, second = RunLock(tmp_path), RunLock(tmp_path)
    lock.take()
    monkeypatch.setattr(run_lock, "_own", set())
    with pytest.raises(
        InputError, match=rf"process {os.getpid()} .*cannot tell whether it still runs.*remove"
    ):
        second.take()
    monkeypatch.setattr(run_lock, "_own", {lock.path})
    lock.release()
    second.take()
    second.release()


def test_a_file_that_is_removed_before_it_is_locked(tmp_path, monkeypatch):
    """By a training that ends at this moment; a third could make and lock another."""
    lockf, calls = fcntl.lockf, []

    def remove_first(*args):
        calls.append(args)
        if len(calls) == 1:
            (tmp_path / "training.lock").unlink()
        lockf(*args)

    monkeypatch.setattr(fcntl, "lockf", remove_first)
    lock = RunLock(tmp_path)
    lock.take()
    assert len(calls) == 2 and (tmp_path / "training.lock").exists()
    lock.release()


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "mine").touch()
    (tmp_path / "training.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="training.lock"):
        RunLock(tmp_path).take()
    assert not (tmp_path / "mine").read_text()
