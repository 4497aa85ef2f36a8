"""Detectron2's transformers, built by config for both tasks, with tiny widths."""

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from pointrend_seg import InputError
from small_configs import small_instance_cfg, small_semantic_cfg

pytest.importorskip("timm")

KINDS = {
    "build_swin_fpn_backbone": {
        "MODEL.FPN.IN_FEATURES": ["p0", "p1", "p2", "p3"],
        "MODEL.SWIN.EMBED_DIM": 12,
        "MODEL.SWIN.DEPTHS": [1, 1, 2, 1],
        "MODEL.SWIN.NUM_HEADS": [1, 2, 2, 4],
        "MODEL.SWIN.WINDOW_SIZE": 4,
    },
    "build_mvit_fpn_backbone": {
        "MODEL.FPN.IN_FEATURES": ["scale2", "scale3", "scale4", "scale5"],
        "MODEL.MVIT.EMBED_DIM": 16,
        "MODEL.MVIT.DEPTH": 5,
        "MODEL.MVIT.LAST_BLOCK_INDEXES": [0, 1, 3, 4],
    },
    "build_vit_backbone": {
        "MODEL.VIT.IMG_SIZE": 96,
        "MODEL.VIT.EMBED_DIM": 32,
        "MODEL.VIT.DEPTH": 2,
        "MODEL.VIT.NUM_HEADS": 2,
        "MODEL.VIT.WINDOW_SIZE": 3,
        "MODEL.VIT.WINDOW_BLOCK_INDEXES": [0],
        "MODEL.FPN.NORM": "LN",
    },
}


def with_backbone(cfg, name, **changes):
    opts = {"MODEL.BACKBONE.NAME": name, "MODEL.BACKBONE.FREEZE_AT": 0, **KINDS[name]} | changes
    cfg.merge_from_list([part for pair in opts.items() for part in pair])
    return cfg


@pytest.mark.parametrize("name", KINDS)
def test_semantic(name):
    model = build_model(with_backbone(small_semantic_cfg(3), name))
    image = torch.randint(0, 255, (3, 64, 90), dtype=torch.uint8)
    inputs = [{"image": image, "sem_seg": torch.randint(0, 3, (64, 90))}]
    losses = model(inputs)
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_point"}
    sum(losses.values()).backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    assert all("top_block" in n or ".norm" in n for n in unused), unused
    with torch.no_grad():
        assert model.eval()(inputs)[0]["sem_seg"].shape == (3, 64, 90)


def test_vit_takes_images_larger_than_its_tables():
    model = build_model(with_backbone(small_semantic_cfg(3), "build_vit_backbone")).eval()
    with torch.no_grad():
        (result,) = model([{"image": torch.zeros(3, 100, 130)}])
    assert result["sem_seg"].shape == (3, 100, 130)


@pytest.mark.parametrize("name", KINDS)
def test_instances(name):
    model = build_model(with_backbone(small_instance_cfg(2), name))
    image = torch.randint(0, 255, (3, 64, 90), dtype=torch.uint8)
    truth = Instances((64, 90))
    truth.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    truth.gt_classes = torch.tensor([1])
    mask = torch.zeros(1, 64, 90, dtype=torch.bool)
    mask[:, 8:40, 8:40] = True
    truth.gt_masks = BitMasks(mask)
    with EventStorage():
        losses = model([{"image": image, "instances": truth, "height": 64, "width": 90}])
    assert {"loss_mask", "loss_mask_point"} <= set(losses)
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    with torch.no_grad():
        model.eval()([{"image": image, "height": 64, "width": 90}])


def test_frozen_stages_of_swin():
    cfg = with_backbone(small_semantic_cfg(3), "build_swin_fpn_backbone")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    net = build_backbone(cfg).bottom_up
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"patch_embed", "layers"}
    assert all(p.requires_grad for p in net.layers[1].parameters())


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("build_swin_fpn_backbone", "MODEL.SWIN.NUM_HEADS", [1, 2, 5, 4], "48 channels .* 5 heads"),
        (
            "build_mvit_fpn_backbone",
            "MODEL.MVIT.DEPTH",
            6,
            "must be the numbers of the last",
        ),
        ("build_mvit_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", 2, "no stages that can be frozen"),
        ("build_vit_backbone", "MODEL.VIT.NUM_HEADS", 3, "32 channels .* 3 heads"),
        ("build_vit_backbone", "MODEL.VIT.WINDOW_BLOCK_INDEXES", [2], "names the block 2, but"),
        ("build_vit_backbone", "MODEL.BACKBONE.FREEZE_AT", 1, "no stages that can be frozen"),
        ("build_swin_fpn_backbone", "MODEL.FPN.IN_FEATURES", ["res2"], "It gives p0, p1, p2, p3"),
    ],
)
def test_mistakes(name, key, value, message):
    with pytest.raises(InputError, match=message):
        build_backbone(with_backbone(small_semantic_cfg(3), name, **{key: value}))
