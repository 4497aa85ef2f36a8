"""Scalars for the training log that do not make a GPU wait."""

from weakref import WeakKeyDictionary

import torch
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor

# Of each storage and group of names: values on their way from the device, and when they are there.
_UNDER_WAY: WeakKeyDictionary[EventStorage, dict] = WeakKeyDictionary()


def put_scalars(values: dict[str, Tensor]) -> None:
    """Put scalars into the event storage of the training loop.

    A value on a GPU is not there yet, and asking for it would make the host wait for all that the
    GPU still has to do. So it is copied when its time comes and is put into the storage when the
    next values of the same names come: such scalars are one iteration late, and those of the last
    iteration are not logged. In a compiled graph nothing is logged.

    Args:
        values: scalar tensors of one device, by their names in the log.
    """
    if torch.compiler.is_compiling():
        return
    storage, names = get_event_storage(), tuple(values)
    latest = torch.stack([each.detach().float() for each in values.values()])
    if latest.device.type == "cuda":
        under_way = _UNDER_WAY.setdefault(storage, {})
        previous = under_way.get(names)
        arrived = torch.cuda.Event()
        under_way[names] = latest.to("cpu", non_blocking=True), arrived
        arrived.record()
        if previous is None:
            return
        latest, arrived = previous
        arrived.synchronize()
    for name, value in zip(names, latest.tolist(), strict=True):
        storage.put_scalar(name, value)
