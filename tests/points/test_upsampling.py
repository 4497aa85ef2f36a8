"""Upsampling in place against `F.interpolate`, and who may write into what memory."""

import threading

import pytest
import torch
from torch.nn import functional as F

from pointrend_seg.points.upsampling import InPlaceDoubling, ResultMemory, double, result_memory


@pytest.fixture(autouse=True)
def no_memory_before():
    result_memory.release()


@pytest.mark.parametrize("shape", [(1, 19, 40, 60), (3, 5, 70, 33), (2, 1, 65, 64), (4, 2, 1, 99)])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_each_step_is_interpolation_to_the_bit(shape, steps):
    """Also where a map is changed between the steps, and with the memory of another result."""
    torch.manual_seed(0)
    for _ in range(2):
        want = got = torch.randn(shape)
        upsample = InPlaceDoubling(got, steps)
        for _ in range(steps):
            want, got = double(want), upsample(got)
            assert torch.equal(got, want) and got.is_contiguous()
            got[..., 0, :] = want[..., 0, :] = 5
        assert got.shape == (*shape[:2], shape[2] << steps, shape[3] << steps)
        del got, upsample


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 70, 80), (2, 3, 5, 4)])
def test_maps_for_which_torch_has_other_kernels(shape):
    logits = torch.randn(shape)
    torch.testing.assert_close(InPlaceDoubling(logits, 1)(logits), double(logits))


def test_double_is_bilinear_interpolation():
    logits = torch.randn(2, 3, 5, 4)
    assert torch.equal(double(logits), F.interpolate(logits, size=(10, 8), mode="bilinear"))


def test_input_of_any_layout_stays_as_it_is():
    logits = torch.randn(2, 6, 10, 14).to(memory_format=torch.channels_last)[..., 3:9]
    before = logits.clone()
    torch.testing.assert_close(InPlaceDoubling(logits, 1)(logits), double(logits))
    assert torch.equal(logits, before)


def address(tensor):
    return tensor.untyped_storage().data_ptr()


def test_memory_is_given_again_when_nothing_holds_it():
    memory = ResultMemory()
    first = memory.take(1000)
    where = address(first)
    del first
    again = memory.take(600)
    assert address(again) == where and again.untyped_storage().nbytes() == 2400


@pytest.mark.parametrize(
    "hold",
    [
        lambda x: x,
        lambda x: x[5:6],
        lambda x: x.view(10, 100).t(),
        lambda x: x.numpy(),
        lambda x: x.untyped_storage(),
        lambda x: x.detach(),
        lambda x: memoryview(x.numpy()),
        lambda x: torch.utils.dlpack.to_dlpack(x),
    ],
)
def test_memory_is_not_given_while_something_holds_it(hold):
    memory = ResultMemory()
    first = memory.take(1000)
    where, held = address(first), hold(first)
    del first
    second = memory.take(1000)
    assert address(second) != where
    del held, second


def test_more_than_there_is_takes_new_memory():
    memory = ResultMemory()
    memory.take(10)
    assert memory.take(1000).shape == (1000,)


def test_released_memory_is_not_given_again():
    memory = ResultMemory()
    first = memory.take(1000)
    memory.release()
    second = memory.take(1000)
    assert address(first) != address(second)


def test_threads_never_share_memory():
    """Each fills its own and finds it as it was."""
    memory, wrong = ResultMemory(), []

    def work(number):
        for _ in range(300):
            mine = memory.take(2000).fill_(number)
            if not mine.eq(number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
