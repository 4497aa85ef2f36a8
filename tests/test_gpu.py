"""What needs a CUDA device; `pytest -m gpu` runs these alone."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from detectron2.engine import AMPTrainer
from detectron2.modeling import build_model
from detectron2.structures import PolygonMasks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel

from mask_inputs import (
    assert_finite_with_gradients,
    batch,
    blobs,
    detections,
    features,
    losses_of,
    mask_head,
    masks_of,
    proposals,
    random_boxes,
    train_once,
    without_objects,
)
from pointrend_seg.engine import rendezvous
from pointrend_seg.engine.distributed import launch
from pointrend_seg.engine.places import Place
from pointrend_seg.engine.rendezvous import Processes
from pointrend_seg.structures.shared_masks import SharedMasks
from pointrend_seg.test_time.model import AugmentedModel
from small_configs import small_instance_cfg, small_semantic_cfg
from tool_runs import free_port

pytestmark = pytest.mark.gpu


def models():
    """The same model on the CPU and on the GPU."""
    cfg = small_semantic_cfg()
    on_cpu = build_model(cfg)
    cfg.MODEL.DEVICE = "cuda"
    on_gpu = build_model(cfg)
    on_gpu.load_state_dict(on_cpu.state_dict())
    return on_cpu, on_gpu


def on_gpu(values):
    """Feature maps by name without their gradients, or a list of instances."""
    if isinstance(values, dict):
        return {name: value.detach().cuda() for name, value in values.items()}
    return [value.to("cuda") for value in values]


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


# --- instances ------------------------------------------------------------------------------

HEADS = {
    "standard": (),
    "implicit": (
        *("MODEL.ROI_MASK_HEAD.NAME", "ImplicitPointRendInstanceHead"),
        *("MODEL.POINT_HEAD.NAME", "ImplicitPointMLP"),
        *("MODEL.POINT_HEAD.SUBDIVISION_STEPS", 2),
    ),
    "cascade": (
        *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
    ),
    "many classes": ("MODEL.ROI_HEADS.NUM_CLASSES", 200),
}


def instance_model(opts=(), device="cuda"):
    torch.manual_seed(0)
    return build_model(small_instance_cfg(opts=("MODEL.DEVICE", device, *opts)))


@pytest.mark.parametrize("opts", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_mixed_precision_training_of_instances(opts, dtype):
    model = instance_model(opts).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    trainer = AMPTrainer(model, [batch(k) for k in range(5)], optimizer, precision=dtype)
    trainer.train(0, 5)
    assert all(p.isfinite().all() for p in model.parameters())
    with torch.no_grad(), torch.autocast("cuda", dtype=dtype):
        for each in model.eval()(batch(0)):
            assert each["instances"].pred_masks.dtype == torch.bool


@pytest.mark.parametrize("opts", HEADS.values(), ids=HEADS)
def test_training_on_the_gpu_without_objects(opts):
    model = instance_model(opts).train()
    losses = train_once(model, without_objects(batch(0), 0, 1))
    assert_finite_with_gradients(losses, model.roi_heads.mask_head)


@pytest.mark.parametrize("name", ["standard", "implicit", "many classes"])
def test_masks_on_the_gpu_are_those_of_the_cpu(name):
    head = mask_head(HEADS[name], num_classes=200 if name == "many classes" else 5)
    maps = features()
    want = masks_of(head, maps, detections(6, 3))
    head = head.cuda()
    got = masks_of(head, on_gpu(maps), on_gpu(detections(6, 3))).cpu()
    assert got.shape == want.shape
    assert ((got > 0.5) == (want > 0.5)).float().mean() > 0.98  # other kernels round else
    assert (got - want).abs().median() < 1e-2


@pytest.mark.parametrize("name", ["standard", "implicit"])
def test_losses_on_the_gpu_are_those_of_the_cpu(name, monkeypatch):
    """With the same points; the devices draw others from the same seed."""
    head = mask_head(HEADS[name])
    points = torch.rand(9, 196, 2)
    monkeypatch.setattr(
        "pointrend_seg.modeling.samplers.ImportancePointSampler.__call__",
        lambda self, logits, *_: points.to(logits.device),
    )
    monkeypatch.setattr(
        "pointrend_seg.modeling.implicit_head.uniform_points",
        lambda r, n, device: points.to(device),
    )
    maps = {key: value.detach() for key, value in features().items()}
    want = losses_of(head, maps, proposals(6, 3))
    head = head.cuda()
    got = losses_of(
        head,
        on_gpu(maps),
        on_gpu(proposals(6, 3)),
    )
    for key, loss in want.items():
        torch.testing.assert_close(got[key].cpu(), loss, atol=1e-2, rtol=1e-2)


def test_labels_on_the_gpu_are_those_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    masks = SharedMasks(blobs(3, generator), torch.arange(20) % 3)
    boxes = random_boxes(20, generator)
    coords = torch.rand(20, 200, 2, generator=generator) * 100
    for where in ("cpu", "cuda"):  # the masks may stay where they are
        moved = masks.to(where)
        in_boxes = moved.crop_and_resize(boxes.cuda(), 28)
        assert in_boxes.is_cuda
        assert (in_boxes.cpu() == masks.crop_and_resize(boxes, 28)).float().mean() > 0.999
        at_points = moved.labels_at_points(coords.cuda())
        assert at_points.is_cuda
        torch.testing.assert_close(
            at_points.cpu(), masks.labels_at_points(coords), atol=1e-4, rtol=1e-4
        )
    taken = masks.to("cuda")[torch.arange(20, device="cuda") < 5]
    assert len(taken) == 5 and taken.tensor.is_cuda


def test_polygons_on_the_gpu():
    polygons = PolygonMasks([[[12.0, 9.0, 70.0, 20.0, 40.0, 80.0]]] * 3)
    images = on_gpu(proposals(3))
    images[0].gt_masks = polygons
    head = mask_head().cuda()
    maps = on_gpu(features(1))
    assert_finite_with_gradients(losses_of(head, maps, images), head)


def test_channels_last_and_half_precision_on_the_gpu():
    head = mask_head().cuda()
    maps = on_gpu(features())
    found = on_gpu(detections(4, 3))
    want = masks_of(head, maps, found)
    maps = {key: value.to(memory_format=torch.channels_last) for key, value in maps.items()}
    head = head.to(memory_format=torch.channels_last)
    assert ((masks_of(head, maps, found) > 0.5) == (want > 0.5)).float().mean() > 0.98
    half = {key: value.half() for key, value in maps.items()}
    got = masks_of(head.half(), half, found)
    assert got.dtype == torch.float32  # Detectron2 pastes at coordinates of this dtype
    assert ((got > 0.5) == (want > 0.5)).float().mean() > 0.95


def test_memory_on_the_gpu_does_not_grow_with_the_classes():
    peaks = []
    for num_classes in (129, 1203):
        head = mask_head(num_classes=num_classes).cuda()
        maps = on_gpu(features(1))
        found = on_gpu(detections(20))
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        masks_of(head, maps, found)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    coarse_bytes = 20 * (1203 - 129) * 7 * 7 * 4
    assert peaks[1] < peaks[0] + 4 * coarse_bytes


@pytest.mark.parametrize("opts", [(), HEADS["standard"] + ("MODEL.POINT_HEAD.FAST_PATH", False)])
@pytest.mark.parametrize("amp", [False, True])
def test_the_mask_losses_never_wait_for_the_device(opts, amp):
    head = mask_head(opts).cuda().train()
    maps = {key: value.detach().cuda().requires_grad_() for key, value in features().items()}
    images = on_gpu(proposals(6, 3))
    for image in images:
        image.gt_masks = SharedMasks(image.gt_masks.tensor)
    with EventStorage():
        for sync in ("default", "error"):  # the first time libraries set themselves up
            torch.cuda.set_sync_debug_mode(sync)
            try:
                with torch.autocast("cuda", enabled=amp):
                    losses = head(maps, images)
                sum(losses.values()).backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_the_fast_path_on_the_gpu_gives_what_the_plain_one_gives():
    head = mask_head().cuda()
    maps = on_gpu(features())
    found = on_gpu(detections(20, 7))
    fast = masks_of(head, maps, found)
    head.reading = replace(head.reading, fast_path=False)
    plain = masks_of(head, maps, found)
    assert ((fast > 0.5) == (plain > 0.5)).float().mean() > 0.9995
    assert (fast - plain).abs().median() < 1e-4


def test_masks_of_the_boxs_own_size_on_the_gpu():
    head = mask_head(("MODEL.POINT_HEAD.MASK_RESOLUTION", -1)).eval()
    images, maps = detections(4, 0), features()
    with torch.no_grad():
        want = head(maps, detections(4, 0))
        got = head.cuda()(on_gpu(maps), on_gpu(images))
    assert got[0].pred_masks.device.type == "cuda" and len(got[1].pred_masks) == 0
    for a, b in zip(got[0].pred_masks.masks, want[0].pred_masks.masks, strict=True):
        assert ((a.cpu() > 0.5) == (b > 0.5)).float().mean() > 0.99
    assert got[0].pred_masks.to_bitmasks(got[0].pred_boxes, 96, 128).tensor.shape == (4, 96, 128)


def test_traces_and_predictor_on_the_gpu(tmp_path):
    import numpy as np

    from pointrend_seg.modeling.recording import trace_instances, trace_semantic
    from pointrend_seg.prediction import Predictor

    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    low = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    for make, trace in (
        (small_semantic_cfg, trace_semantic),
        (small_instance_cfg, trace_instances),
    ):
        cfg = make(4, (*low, "MODEL.DEVICE", "cuda"))
        cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
        torch.save({"model": build_model(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
        predictor = Predictor(cfg)
        (output,) = predictor([image])
        assert next(iter(output.values())) is not None
        assert trace(predictor.model, predictor.prepare(image)["image"]).steps


def test_a_process_group_on_the_gpu():
    """One process of one: what several do, but for waiting for each other."""
    place = Place(host="127.0.0.1", port=free_port())
    processes = Processes(place, rendezvous.serve_store(place), start_timeout=60)
    try:
        processes.join("cuda")
        assert dist.get_backend() == "nccl" and torch.cuda.current_device() == 0
        assert (comm.get_local_rank(), comm.get_local_size()) == (0, 1)
        total = torch.ones(3, device="cuda")
        dist.all_reduce(total)
        comm.synchronize()
        assert total.tolist() == [1, 1, 1]
        model = DistributedDataParallel(models()[1].train(), device_ids=[torch.device("cuda:0")])
        sum(model(inputs()).values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    finally:
        dist.destroy_process_group()
        comm._LOCAL_PROCESS_GROUP = None
        comm.create_local_process_group.cache_clear()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_processes_on_two_gpus(tmp_path):
    launch(join_on_gpus, (tmp_path,), num_processes=2, check=lambda count: "cuda")
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["0 nccl", "1 nccl"]


def join_on_gpus(folder, processes):
    processes.join("cuda")
    device = torch.cuda.current_device()
    (folder / str(processes.rank)).write_text(f"{device} {dist.get_backend()}")


@torch.no_grad()
@pytest.mark.parametrize("make", [small_semantic_cfg, small_instance_cfg])
def test_test_time_augmentation_stays_on_the_device(make):
    """Results are on the GPU, and semantic ones are those of the CPU."""
    opts = ("INPUT.MIN_SIZE_TEST", 96, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    cfg = make(5, opts)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    image = torch.randint(0, 255, (3, 90, 130), dtype=torch.uint8)
    on_cpu = AugmentedModel(model, cfg)([{"image": image}])[0]
    on_gpu = AugmentedModel(model.cuda(), cfg)([{"image": image}])[0]
    if "sem_seg" in on_gpu:
        assert on_gpu["sem_seg"].is_cuda
        difference = on_gpu["sem_seg"].softmax(0).cpu() - on_cpu["sem_seg"].softmax(0)
        assert difference.abs().max() < 0.01
    else:
        assert on_gpu["instances"].pred_masks.is_cuda and len(on_gpu["instances"]) > 0
