"""Schedules of the learning rate that Detectron2's common/coco_schedule.py does not have."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler, PolynomialDecayParamScheduler


def with_warmup(scheduler, max_iter, warmup_iters=1000):
    """Return a schedule that begins with a linear warm-up, as YAML configs do."""
    return L(WarmupParamScheduler)(
        scheduler=scheduler,
        warmup_factor=0.001,
        warmup_length=min(warmup_iters / max_iter, 1.0),
        warmup_method="linear",
    )


def steps(max_iter, at, warmup_iters=1000):
    """Return a schedule that divides the learning rate by 10 at each of these iterations."""
    scheduler = L(MultiStepParamScheduler)(
        values=[0.1**k for k in range(len(at) + 1)], milestones=at, num_updates=max_iter
    )
    return with_warmup(scheduler, max_iter, warmup_iters)


def poly(max_iter, warmup_iters=1000):
    """Return DeepLab's schedule, (1 - t) ** 0.9.

    It is `WarmupPolyLR` of the YAML configs but for the warm-up, which leads to the rate at its end
    here and follows the falling rate there.
    """
    scheduler = L(PolynomialDecayParamScheduler)(base_value=1.0, power=0.9)
    return with_warmup(scheduler, max_iter, warmup_iters)
