"""What needs a CUDA device; `pytest -m gpu` runs these alone."""

import pytest
import torch
from detectron2.engine import AMPTrainer
from detectron2.modeling import build_model

from conftest import small_semantic_cfg

pytestmark = pytest.mark.gpu


def models():
    """The same model on the CPU and on the GPU."""
    cfg = small_semantic_cfg()
    on_cpu = build_model(cfg)
    cfg.MODEL.DEVICE = "cuda"
    on_gpu = build_model(cfg)
    on_gpu.load_state_dict(on_cpu.state_dict())
    return on_cpu, on_gpu


def inputs(count=2):
    labels = torch.randint(0, 5, (64, 96))
    return [{"image": torch.rand(3, 64, 96) * 255, "sem_seg": labels}] * count


def test_the_gpu_gives_what_the_cpu_gives():
    on_cpu, on_gpu = (model.eval() for model in models())
    batch = inputs()
    with torch.no_grad():
        want, got = on_cpu(batch)[0]["sem_seg"], on_gpu(batch)[0]["sem_seg"].cpu()
    assert (want.argmax(0) == got.argmax(0)).float().mean() > 0.995  # other kernels round else
    assert (want - got).abs().median() < 1e-3


def test_mixed_precision_training():
    model = models()[1].train()
    trainer = AMPTrainer(model, [inputs()] * 5, torch.optim.SGD(model.parameters(), lr=1e-3))
    trainer.train(0, 5)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("avoid_ignored", [False, True])
def test_the_losses_never_wait_for_the_device(avoid_ignored):
    cfg = small_semantic_cfg(opts=("MODEL.SEM_SEG_POINT_HEAD.AVOID_IGNORED", avoid_ignored))
    cfg.MODEL.DEVICE = "cuda"
    model = build_model(cfg).train()
    features = model.backbone(torch.rand(2, 3, 64, 96, device="cuda"))
    targets = torch.randint(0, 5, (2, 64, 96), device="cuda")
    model.sem_seg_head(features, targets)
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = model.sem_seg_head(features, targets)[1]
        sum(losses.values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
