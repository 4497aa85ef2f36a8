"""What torchrun and Slurm say of a process, and what cannot be."""

import pytest

from pointrend_seg.engine.places import Place, find_place, shown_by_rank_0
from pointrend_seg.errors import EndedByPeer, InputError

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "gpu7",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
}


def test_torchrun():
    assert find_place(TORCHRUN) == Place(5, 8, 1, 4, "gpu7", 29500, "torchrun")
    assert find_place(SLURM | TORCHRUN).starter == "torchrun"  # which srun may have started


def test_srun():
    place = find_place(SLURM)
    assert place == Place(5, 8, 1, 4, "gpu07", place.port, "Slurm") and place.machine == 1
    assert 20_000 <= place.port < 32_000
    assert find_place(SLURM | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).port == place.port
    assert find_place(SLURM | {"SLURM_STEP_ID": "1"}).port != place.port
    chosen = find_place(SLURM | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "5"})
    assert (chosen.host, chosen.port) == ("10.0.0.1", 5)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        TORCHRUN
        | dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1")
        | {"RANK": "0"}
        | {"LOCAL_RANK": "0"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1"},  # srun with one task
        {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8"},  # sbatch's own shell
        {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"},  # salloc's
    ],
)
def test_one_process(environ):
    assert find_place(environ) is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (TORCHRUN | {"RANK": "8"}, "torchrun says that this is process 8 of 8; .* 0 to 7"),
        (TORCHRUN | {"LOCAL_RANK": "4"}, "process 4 of 4 on its machine; .* are 0 to 3"),
        (TORCHRUN | {"WORLD_SIZE": "7"}, "4 of 7 processes are on this machine"),
        (TORCHRUN | {"LOCAL_RANK": "2"}, "rank 5 is process 2 of 4 .*--distribution=block"),
        (TORCHRUN | {"RANK": "-1"}, "RANK is '-1': it must be a number"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        (TORCHRUN | {"MASTER_PORT": "²"}, "MASTER_PORT is '²'"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "has RANK, WORLD_SIZE, but not LOCAL_RANK, .* unset"),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4,3"}, "starts 4,3 tasks .*--ntasks-per-node"),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4(x2),3"}, r"starts 4\(x2\),3 tasks"),
        (SLURM | {"SLURM_STEP_NODELIST": ""}, "set MASTER_ADDR"),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "x"}, "SLURM_STEP_NUM_TASKS is 'x'"),
    ],
)
def test_what_cannot_be(environ, message):
    with pytest.raises(InputError, match=message):
        find_place(environ)


def test_what_all_would_say_rank_0_says():
    for rank, error in ((0, InputError), (1, EndedByPeer)):
        with pytest.raises(error, match="Mend"), shown_by_rank_0(Place(rank, 2, rank, 2)):
            raise InputError("Mend it.")
