"""What a dry run tells: exact numbers by other ways."""

import pytest
import torch
from torch import nn

from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.engine.dry_run import _load, _train_on, dry_run
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg, small_semantic_cfg

INSTANCES = (
    *("DATASETS.TRAIN", "('synthetic_instances_train',)"),
    *("DATASETS.TEST", "('synthetic_instances_val',)"),
    *("INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", 128),
    *("SOLVER.IMS_PER_BATCH", 4),
)


def test_instances(instance_datasets):
    cfg = small_instance_cfg(9, INSTANCES)
    model = Trainer.build_model(cfg)
    result = dry_run(cfg, num_processes=2)
    (train, test) = result.datasets
    assert train[:3] == ("synthetic_instances_train", "train", 6) and test[1:3] == ("test", 3)
    assert train[3] > 0 and train[4] == 9
    total = sum(parameter.numel() for parameter in model.parameters())
    assert sum(count for count, _ in result.parameters.values()) == total
    assert list(result.parameters) == ["backbone", "proposal_generator", "roi_heads"]
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    buffers = sum(each.nbytes for each in model.buffers())
    assert result.state_bytes == 4 * total + 8 * trained + buffers
    assert result.images == 2
    assert {"loss_mask", "loss_mask_point"} <= result.losses.keys()
    text = str(result)
    for word in ("synthetic_instances_val", "roi_heads", "GFLOPs", "GiB", "nothing was trained"):
        assert word in text


def test_semantic(datasets):
    opts = (
        *("DATASETS.TRAIN", "('cityscapes_fine_sem_seg_train',)", "DATASETS.TEST", "()"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", 64),
        *("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(64,64)"),
    )
    address = "https://example.invalid/R-50.pkl"
    result = dry_run(small_semantic_cfg(19, (*opts, "MODEL.WEIGHTS", address)))
    assert result.weights.startswith(address) and "not read now" in result.weights
    assert result.image_size == (64, 128) and result.detections is None
    # the stem: 64 filters of 7 x 7 x 3 at each second pixel
    assert result.flops["backbone"] > 64 * 7 * 7 * 3 * 32 * 64
    assert result.activation_bytes > 64 * 32 * 32 * 4


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf-hub:a/b", "hf-hub:a/b, which training will download"),
        ("package://not_there/w.pth", ""),
    ],
)
def test_addresses_of_weights(address, said):
    """Those of downloads are not read; those of packages are files."""
    cfg = small_semantic_cfg(3, ("MODEL.WEIGHTS", address))
    if said:
        assert _load(cfg, nn.Linear(1, 1)).startswith(said)
    else:
        with pytest.raises(InputError, match="the package not_there is not installed"):
            _load(cfg, nn.Linear(1, 1))


class Small(torch.nn.Module):
    """Keeps its input (for the weight's gradient) and the output of the ReLU: 320 + 160 bytes."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 4, bias=False)

    def forward(self, batch):
        return {"loss": self.layer(batch[0]["image"]).relu().sum()}


def test_activations_are_what_autograd_keeps():
    losses, kept = _train_on(Small(), [{"image": torch.ones(10, 8)}])
    assert kept == 4 * (10 * 8 + 10 * 4) and set(losses) == {"loss"}


def test_what_the_training_would_refuse(instance_datasets):
    with pytest.raises(InputError, match="IMS_PER_BATCH is 4, which 3 processes cannot share"):
        dry_run(small_instance_cfg(9, INSTANCES), num_processes=3)
    with pytest.raises(InputError, match="NUM_CLASSES is 5.*9 classes"):
        dry_run(small_instance_cfg(5, INSTANCES))
    with pytest.raises(InputError, match="DATASETS.TRAIN is empty"):
        dry_run(small_instance_cfg(9, (*INSTANCES, "DATASETS.TRAIN", "()")))
    with pytest.raises(InputError, match="no data set 'synthetic_instances_vall'"):
        dry_run(
            small_instance_cfg(9, (*INSTANCES, "DATASETS.TEST", "('synthetic_instances_vall',)"))
        )
    with pytest.raises(InputError, match="There are no weights at gone.pth"):
        dry_run(small_instance_cfg(9, (*INSTANCES, "MODEL.WEIGHTS", "gone.pth")))


def test_what_evaluation_would_refuse(instance_datasets, registered, tmp_path):
    """After a training of hours; a test set needs no objects, a training set does."""
    (tmp_path / "a.png").write_bytes(b"not looked at")
    name = registered("dry_run_of_the_tests", [{"file_name": str(tmp_path / "a.png")}])
    with pytest.raises(InputError, match="has no evaluator here"):
        dry_run(small_instance_cfg(9, (*INSTANCES, "DATASETS.TEST", (name,))))
    with pytest.raises(InputError, match=f"nothing to train on in the data set {name}"):
        dry_run(small_instance_cfg(9, (*INSTANCES, "DATASETS.TRAIN", (name,))))


def test_any_name_that_is_not_registered_has_its_key_and_the_nearest(instance_datasets):
    cfg = load_config("", ["MODEL.DEVICE", "cpu", "MODEL.RPN.HEAD_NAME", "StandardRPNHaed"])
    expected = "MODEL.RPN.HEAD_NAME is 'StandardRPNHaed'.*Did you mean StandardRPNHead"
    with pytest.raises(InputError, match=expected):
        Trainer.build_model(cfg)
