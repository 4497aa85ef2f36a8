"""Runs of several processes, on the CPU: how they start, that they train as one, how they end."""

import contextlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist

import two_processes
from mask_inputs import features, losses_of, mask_head, proposals
from pointrend_seg.engine import rendezvous, spawning
from pointrend_seg.engine.distributed import launch
from pointrend_seg.engine.places import Place
from pointrend_seg.engine.rendezvous import Processes
from pointrend_seg.errors import EndedByPeer, InputError, is_peer_error
from tool_runs import REPOSITORY, free_port

STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def leaves_nothing_running():
    yield
    while STARTED:
        STARTED.pop().kill()


@pytest.fixture(autouse=True)
def no_starter(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


# --- two processes are one --------------------------------------------------------------------


def test_two_processes_train_and_evaluate_as_one(
    datasets, instance_datasets, cityscapes_scripts, tmp_path, monkeypatch
):
    """Of losses that divide by a count, the mean over processes is that of all images where the
    counts are the same: so many labelled pixels and points in each half of the batch."""
    pytest.importorskip("lvis")
    names = tuple(two_processes.EVALUATIONS)
    weights = torch.nn.Linear(2, 1).state_dict()
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    with served({"model": weights}) as (url, requests):
        launch(two_processes.train_and_evaluate, (tmp_path, names, url), num_processes=2)
    assert requests == ["GET"]  # one process downloads, the other waits
    results = [torch.load(tmp_path / f"{rank}.pth", weights_only=False) for rank in (0, 1)]
    for kind in two_processes.TRAININGS:
        first, second = (result[kind] for result in results)
        assert all(torch.equal(first[name], second[name]) for name in first), kind
        assert all(weight.isfinite().all() for weight in first.values()), kind
    for result in results:
        torch.testing.assert_close(dict(result["downloaded"]), dict(weights), rtol=0, atol=0)
    alone = two_processes.train("semantic", tmp_path / "one")
    torch.testing.assert_close(results[0]["semantic"], alone, rtol=1e-5, atol=1e-6)
    kind = "synchronised normalisation"  # whose variances are rounded otherwise
    alone = two_processes.train(kind, tmp_path / "one")
    for name, weight in alone.items():
        if name.rpartition(".")[2] in ("weight", "bias"):
            torch.testing.assert_close(results[0][kind][name], weight, rtol=0, atol=2e-4)
    for name, (_, (task, metric)) in two_processes.EVALUATIONS.items():
        alone = two_processes.evaluate(name, tmp_path / "one" / name)
        assert 1 < alone[task][metric] < 99, name
        assert results[0][name].keys() == alone.keys() and not results[1][name], name
        for task, scores in alone.items():
            assert results[0][name][task] == pytest.approx(scores, rel=0, abs=0, nan_ok=True), name
        written = {path.name for path in (tmp_path / name).rglob("*") if path.is_file()}
        assert written == {p.name for p in (tmp_path / "one" / name).rglob("*") if p.is_file()}


def test_mask_losses_are_means_over_the_boxes_of_a_process():
    head = mask_head(("MODEL.POINT_HEAD.SAMPLER", "SamePoints"))
    maps, boxes, counts = features(2), proposals(2, 5), (2, 5)
    together = losses_of(head, maps, boxes)
    parts = [
        losses_of(head, {name: each[k : k + 1] for name, each in maps.items()}, boxes[k : k + 1])
        for k in (0, 1)
    ]
    for name, loss in together.items():
        means = torch.stack([part[name] for part in parts])
        by_box = (means * torch.tensor(counts)).sum() / sum(counts)
        torch.testing.assert_close(loss, by_box, rtol=1e-5, atol=0)
        assert (means.mean() - loss).abs() > 1e-3 * loss  # what several processes have instead


@contextlib.contextmanager
def served(checkpoint):
    """Serve a checkpoint slowly; gives its address and a list of the requests."""
    content, requests = io.BytesIO(), []
    torch.save(checkpoint, content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.command)
            time.sleep(1)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content.getvalue())))
            self.end_headers()
            self.wfile.write(content.getvalue())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/weights.pth", requests
        server.shutdown()


# --- how they meet ----------------------------------------------------------------------------


def arrive(*places, timeout=20.0):
    """Let processes arrive, each in a thread; return the errors."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    errors = {}

    def run(number, place):
        store = dist.TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)
        try:
            Processes(place, store, timeout)._arrive()
        except Exception as error:
            rendezvous.first_failure(store, place.rank, error)
            errors[number] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(places)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return errors


def test_all_arrive():
    assert not arrive(*(Place(rank, 4, rank % 2, 2) for rank in (3, 1, 0, 2)))


def test_one_that_does_not_come_is_named():
    errors = arrive(Place(0, 6, 0, 2, "gpu7", 5), Place(3, 6, 1, 2), timeout=0.3)
    assert len(errors) == 2
    assert str(errors[0]).startswith("Rank(s) 1, 2, 4, 5 of 6 did not start within 0.3 seconds")
    assert "machine(s) 0, 1, 2, and whether they reach gpu7:5." in str(errors[0])


def test_a_rank_that_is_given_twice_ends_all():
    errors = arrive(Place(0, 3, 0, 1), Place(1, 3, 0, 1), Place(1, 3, 0, 1))
    assert "Two processes have rank 1 of 3" in str(errors[2])
    assert all(isinstance(errors[number], EndedByPeer) for number in (0, 1))


def test_other_counts_end_all():
    errors = arrive(Place(0, 4, 0, 2), Place(1, 2, 1, 2))
    assert any("Start all machines with the same counts" in str(e) for e in errors.values())
    assert len(errors) == 2


def test_nobody_at_the_address():
    port = free_port()
    with pytest.raises(InputError) as caught:
        rendezvous.connect_to_store(Place(1, 2, 0, 1, "127.0.0.1", port), 0.2)
    assert f"found nobody at 127.0.0.1:{port} for 0.2 seconds" in str(caught.value)


def test_a_port_that_is_taken():
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    url = f"tcp://127.0.0.1:{server.port}"
    with pytest.raises(InputError, match=f"Port {server.port} of this machine is in use"):
        launch(print, num_processes=2, dist_url=url)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_processes": 0}, "--num-gpus is 0, but must be 1 or more"),
        ({"num_machines": -1}, "--num-machines is -1"),
        ({"machine_rank": 1}, "--machine-rank is 1, but the machines .* 1 are 0 to 0"),
        ({"num_machines": 2, "machine_rank": 2}, "--machine-rank is 2, .* are 0 to 1"),
        ({"num_machines": 2, "machine_rank": -1}, "--machine-rank is -1"),
        ({"num_machines": 2}, "--num-machines 2 needs --dist-url tcp://HOST:PORT"),
        ({"dist_url": "gpu7:29500"}, "--dist-url is 'gpu7:29500', but must be auto or tcp"),
        ({"start_timeout": 0}, "--start-timeout is 0, but must be more than 0"),
        ({"start_timeout": float("nan")}, "--start-timeout is nan"),
        ({"dist_url": "tcp://gpu7:99999"}, "--dist-url is 'tcp://gpu7:99999'"),
    ],
)
def test_counts_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        launch(print, **options)


def test_counts_beside_those_of_torchrun(monkeypatch):
    for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 2)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    for options in ({"num_processes": 2}, {"num_machines": 2}, {"dist_url": "tcp://gpu7:1"}):
        with pytest.raises(InputError, match="torchrun started 2 processes: leave out --num-gpus"):
            launch(print, **options)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(EndedByPeer):
        launch(print, num_processes=2)


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"--num-gpus is 3, but PyTorch finds 2 CUDA device\(s\)"):
        launch(print, num_processes=3, check=lambda count: "cuda")
    with pytest.raises(InputError, match="torchrun starts 4 processes, but PyTorch finds 2"):
        rendezvous.gpu_number(Place(2, 4, 2, 4, starter="torchrun"), "cuda")
    with pytest.raises(InputError, match="MODEL.DEVICE is cuda:1, but 2 processes take one GPU"):
        rendezvous.gpu_number(Place(0, 2, 0, 2), "cuda:1")
    assert rendezvous.gpu_number(Place(1, 2, 1, 2), "cuda") == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert rendezvous.gpu_number(Place(1, 2, 1, 2, starter="Slurm"), "cuda") == 0


def test_one_process_runs_the_function_itself():
    seen = []
    launch(lambda *args: seen.append(args), (1,))
    assert seen == [(1, Processes())]
    assert not dist.is_initialized()


# --- how they end -----------------------------------------------------------------------------

GLOO = RuntimeError("[/x/gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer")


def failed(rank, error=None, exit_code=1, at=0.0):
    process = type("Process", (), {"name": str(rank)})
    return spawning._Child(process, None, None, at, error, exit_code)


def test_the_first_error_that_is_none_of_the_connection_is_shown():
    assert is_peer_error(GLOO) and not is_peer_error(RuntimeError("a defect"))
    first, second = InputError("first"), InputError("second")
    children = [failed(0, GLOO, at=1.0), failed(1, second, at=3.0), failed(2, first, at=2.0)]
    assert spawning._first_error(children, []) is first
    killed = spawning._first_error([failed(0, GLOO, at=1.0), failed(1, exit_code=-9)], [])
    assert "The process of rank 1 ended with SIGKILL and no message" in str(killed)
    assert spawning._first_error([failed(0, GLOO), failed(1, exit_code=None)], []) is GLOO
    elsewhere = EndedByPeer("Rank 2 on gpu8 failed: InputError: Mend it.")
    message = spawning._first_error([failed(0, elsewhere), failed(1, GLOO, at=1.0)], [])
    assert type(message) is InputError and str(message) == str(elsewhere)
    stopped = spawning._first_error([failed(0, exit_code=-15)], [signal.SIGTERM])
    assert isinstance(stopped, SystemExit) and stopped.code == 143
    stopped = spawning._first_error([failed(0, exit_code=-9)], [signal.SIGINT])
    assert isinstance(stopped, KeyboardInterrupt)
    assert spawning._first_error([failed(0, exit_code=0)], [signal.SIGTERM]) is None


def test_an_error_of_one_ends_all_in_seconds(tmp_path):
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        launch(two_processes.fail, ("mistake", tmp_path), num_processes=2)
    assert str(caught.value) == "Mend it."
    assert "in rank 1" in str(caught.value.__cause__)
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_a_killed_process_ends_all_in_seconds(tmp_path):
    with pytest.raises(InputError, match="process of rank 1 ended with SIGKILL and no message"):
        launch(two_processes.fail, ("killed", tmp_path), num_processes=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_no_process_outlives_the_one_that_started_it(signum, status, tmp_path):
    parent = start("wait_for_ever", tmp_path, num_processes=2)
    children = [int(wait_for_text(tmp_path / str(rank))) for rank in (0, 1)]
    assert all(map(is_running, children))
    parent.send_signal(signum)
    text = parent.communicate(timeout=60)[1]
    assert parent.returncode == status and "Traceback" not in text
    deadline = time.monotonic() + 20
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, children))


@pytest.mark.slow
def test_a_signal_while_the_processes_start_ends_all(tmp_path):
    parent = start("wait_for_ever", tmp_path, num_processes=2)
    deadline = time.monotonic() + 60
    while not (children := child_processes(parent.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    parent.send_signal(signal.SIGINT)
    assert parent.communicate(timeout=60)[1].endswith("interrupted\n")
    assert parent.returncode == 130
    assert not any(map(is_running, children)) and not list(tmp_path.iterdir())


def child_processes(pid):
    """Processes that a process started by "spawn"."""
    text = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True
    ).stdout
    rows = [line.split(None, 2) for line in text.splitlines()[1:]]
    return [int(row[0]) for row in rows if row[1] == str(pid) and "spawn_main" in row[2]]


@pytest.mark.slow
def test_two_machines(tmp_path):
    url = f"tcp://127.0.0.1:{free_port()}"
    machines = [
        start("join_and_count", tmp_path, num_machines=2, machine_rank=rank, dist_url=url)
        for rank in (1, 0)
    ]
    for machine in machines:
        assert machine.wait(timeout=120) == 0, machine.communicate()[1]
    assert (tmp_path / "gathered").read_text() == "[(0, 0), (1, 0)]"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_that_is_missing(rank, tmp_path):
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    options = {"num_machines": 2, "machine_rank": rank, "dist_url": url, "start_timeout": 2}
    machine = start("join_and_count", tmp_path, **options)
    text = machine.communicate(timeout=120)[1]
    expected = "Rank(s) 1 of 2 did not start within 2", f"found nobody at 127.0.0.1:{port} for 2"
    assert machine.returncode == 2 and text.count("error: ") == 1 and expected[rank] in text


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", "Slurm"])
def test_processes_that_are_started_from_outside(starter, tmp_path):
    for processes in started_by(starter, "join_and_count", tmp_path):
        assert processes.wait(timeout=120) == 0, processes.communicate()[1]
    assert (tmp_path / "gathered").read_text() == "[(0, 0), (1, 1)]"
    texts, statuses = [], []
    for processes in started_by(starter, "fail_together", tmp_path):
        texts.append(processes.communicate(timeout=120)[1])
        statuses.append(processes.returncode)
    assert "".join(texts).count("error: Mend it.") == 1
    assert "Traceback" not in "".join(texts).partition("elastic")[0]
    assert statuses == ([1] if starter == "torchrun" else [2, 2])


def started_by(starter, function, folder):
    """Start two processes; return those to wait for."""
    if starter == "torchrun":
        module = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
        return [start(function, folder, python=module)]
    shared = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
    shared |= {"SLURM_STEP_TASKS_PER_NODE": "2", "MASTER_PORT": str(free_port())}
    return [
        start(function, folder, environ={**shared, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        for rank in "10"
    ]


def start(function, folder, python=(), environ=None, **options):
    """Start the tool of `two_processes.py`."""
    script = REPOSITORY / "tests/helpers/two_processes.py"
    process = subprocess.Popen(
        [sys.executable, *python, script, function, folder, json.dumps(options)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environ or {})},
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def wait_for_text(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return path.read_text()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
