"""What the trainer checks before anything is built, and what it goes on from."""

import pytest

from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg

INSTANCES = (
    *("DATASETS.TRAIN", "('synthetic_instances_train',)"),
    *("DATASETS.TEST", "('synthetic_instances_val',)"),
)


@pytest.mark.parametrize("period", [-1, 0, 1])
def test_test_sets_are_checked_before_training(period, instance_datasets):
    """Detectron2 evaluates after the last iteration whatever the period is."""
    opts = (*INSTANCES, "DATASETS.TEST", "('synthetic_instances_vall',)")
    with pytest.raises(InputError, match="synthetic_instances_vall.*synthetic_instances_val"):
        Trainer(small_instance_cfg(9, (*opts, "TEST.EVAL_PERIOD", period)))
