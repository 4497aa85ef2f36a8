"""Double the resolution of a map again and again, in the memory of the last result.

Memory that comes fresh from the system is slow: each of its pages is zeroed, and interrupts the
program, when it is first written. On a CPU that takes longer than interpolating does.
"""

import mmap
import threading
import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def double(logits: Tensor) -> Tensor:
    """Upsample bilinearly by 2: (N, C, H, W) to (N, C, 2 * H, 2 * W)."""
    return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)


def resize(logits: Tensor, side: int) -> Tensor:
    """Interpolate bilinearly to any size: (N, C, H, W) to (N, C, side, side)."""
    return F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)


class InPlaceDoubling:
    """`double` for all steps in turn, each in the memory of the last one's result.

    A result lies at the end of that memory. The next begins 4 times as far from the end, so it
    may be written from its start on while the rest of this one is being read, and overwrites what
    is not needed any more: the map before is lost.
    """

    def __init__(self, logits: Tensor, num_steps: int):
        """
        Args:
            logits: (N, C, H, W), float32, on the CPU, with which the first step will be called.
        """
        self.memory = result_memory.take(logits.numel() * 4**num_steps)

    def __call__(self, logits: Tensor) -> Tensor:
        """Double the resolution as `double` does; the result is contiguous.

        To the last bit on large maps, but for 3 channels on one thread: there torch has others of
        its kernels for it.
        """
        images, channels, height, width = logits.shape
        size = [2 * height, 2 * width]
        output = self.memory[len(self.memory) - 4 * logits.numel() :]
        sources, targets = logits.flatten(0, 1), output.view(-1, *size)
        start, planes = 0, len(sources)
        while start < planes:
            # So many targets lie in front of the sources that are left.
            end = start + 3 * (planes - start) // 4
            source = sources[start:end]
            if end == start:
                end, source = planes, sources[start:].clone()
            target = targets[start:end]
            torch.ops.aten.upsample_bilinear2d.out(
                source.unsqueeze(1), size, False, 2.0, 2.0, out=target.unsqueeze(1)
            )
            start = end
        return output.view(images, channels, *size)


class ResultMemory:
    """Memory for one result, which is given again when nothing holds the result before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.release()

    def release(self) -> None:
        """Keep no memory: what was given goes back to the system with the last tensor in it."""
        self._kept: mmap.mmap | bytes = b""
        self._given: Callable[[], memoryview | None] = lambda: None

    def take(self, count: int) -> Tensor:
        """Give a tensor (count,), float32, with any values."""
        with self._lock:
            num_bytes = max(1, count) * 4
            if self._given() is not None or len(self._kept) < num_bytes:
                self._kept = mmap.mmap(-1, num_bytes)
            # A tensor that is made from a buffer holds it, and so does every view of the tensor:
            # while one of them lives, so does the buffer.
            buffer = memoryview(self._kept)[:num_bytes]
            self._given = weakref.ref(buffer)
            return torch.frombuffer(buffer, dtype=torch.float32)[:count]


# Used for all heads of the process. It keeps as much memory as the largest result took, if that
# was 32 MB or more; `release` gives it back.
result_memory = ResultMemory()
