"""Signals stop a training after the present iteration, or at once."""

import os
import pickle
import signal
import threading
import time

import pytest

from pointrend_seg.engine import stopping
from pointrend_seg.engine.stopping import (
    AgreedStop,
    StoppableLoader,
    Stopped,
    iterations,
    raise_if_stopped,
    stoppable,
)

pytestmark = pytest.mark.usefixtures("default_signals")

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Seconds that stand still unless a test lets them pass."""
    seconds = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: seconds[0])
    return seconds


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STATUS)
def test_before_and_after_the_iterations_it_ends_at_once(number):
    with pytest.raises(Stopped) as stopped, stoppable():
        send(number)
    assert stopped.value.status == STATUS[number] and str(stopped.value) == "interrupted"
    with pytest.raises(Stopped), stoppable():
        with iterations():
            pass
        send(number)


@pytest.mark.parametrize("number", STATUS)
def test_it_waits_for_the_end_of_an_iteration(number):
    with stoppable(), iterations():
        raise_if_stopped()
        send(number)
        with pytest.raises(AgreedStop) as stopped:
            raise_if_stopped()
    assert stopped.value.status == STATUS[number]


def test_a_second_ctrl_c_ends_it_at_once(clock):
    for first in (signal.SIGINT, signal.SIGTERM):
        with stoppable(), iterations():
            send(first)
            send(signal.SIGINT)  # that of the starter: the terminal sends one to all
            send(signal.SIGTERM)
            clock[0] += 2
            send(signal.SIGTERM)  # Slurm repeats it
            send(signal.SIGUSR1)
            with pytest.raises(Stopped) as stopped:
                send(signal.SIGINT)
            assert not isinstance(stopped.value, AgreedStop)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # for a third one


def test_the_handlers_before_come_back():
    before = {number: signal.getsignal(number) for number in STATUS}
    with stoppable():
        assert all(signal.getsignal(number) != before[number] for number in STATUS)
    assert {number: signal.getsignal(number) for number in STATUS} == before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_than_the_main_one_change_nothing():
    def enter():
        with stoppable():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def test_a_forked_process_is_not_meant():
    with stoppable():
        child = os.fork()
        if child == 0:
            try:
                send(signal.SIGINT)
                send(signal.SIGUSR1)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_pool_can_end_a_process_that_it_forked():
    """Detectron2 reads Cityscapes in such a pool, and leaves its end to garbage collection."""
    with stoppable():
        child = os.fork()
        if child == 0:
            time.sleep(5)
            os._exit(0)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143


def test_an_evaluation_ends(monkeypatch):
    seen = []
    with stoppable(), iterations(), pytest.raises(AgreedStop):
        for batch in StoppableLoader(range(5)):
            seen.append(batch)
            if batch == 1:
                send(signal.SIGTERM)
    assert seen == [0, 1]
    assert list(StoppableLoader(range(3))) == [0, 1, 2] and len(StoppableLoader(range(3))) == 3


def test_all_processes_stop_when_one_got_a_signal(monkeypatch):
    monkeypatch.setattr(stopping.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(stopping.comm, "all_gather", lambda own: [own, 0])
    raise_if_stopped()
    monkeypatch.setattr(stopping.comm, "all_gather", lambda own: [own, 143])
    with pytest.raises(AgreedStop) as stopped:
        raise_if_stopped()
    assert stopped.value.status == 143
    with pytest.raises(AgreedStop):
        list(StoppableLoader(range(3)))


def test_it_gets_from_process_to_process():
    error = pickle.loads(pickle.dumps(Stopped("stopped after iteration 3", 143)))
    assert (str(error), error.status) == ("stopped after iteration 3", 143)
