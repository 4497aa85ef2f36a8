"""What the tests of the mask heads feed them, and how they look at what comes out."""

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import build_mask_head
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from pointrend_seg.modeling.readers import open_box_reader
from pointrend_seg.points import labels_at_points, to_image
from small_configs import IMPLICIT, IMPLICIT_OPTS, STANDARD, builtin_cfg, small_instance_cfg

HEIGHT, WIDTH = 96, 128
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
NODE, HEAD = "MODEL.POINT_HEAD", "MODEL.ROI_MASK_HEAD"
HALVES = [torch.bfloat16, torch.float16]
# Both mask heads: their options, and the names of Detectron2's.
MASK_HEADS = {"standard": ((), STANDARD), "implicit": (IMPLICIT_OPTS, IMPLICIT)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_boxes(number, generator, height=HEIGHT, width=WIDTH):
    """(number, 4) boxes, of 8 pixels or more, somewhere in the image."""
    corners = torch.rand(number, 2, 2, generator=generator).sort(dim=1).values
    boxes = (corners * torch.tensor([width - 8.0, height - 8.0])).flatten(1)
    boxes[:, 2:] += 8
    return boxes


def blobs(number, generator, height=HEIGHT, width=WIDTH):
    """(number, height, width) bool, with round shapes."""
    coarse = torch.randn(number, 1, 6, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[:, 0] > 0


def of_place(coords):
    """Logits (R, P), a smooth function of coordinates (R, P, 2)."""
    return 3 * torch.sin(9 * coords[..., 0]) + torch.cos(7 * coords[..., 1])


def features(images=2, channels=32, seed=0, names=tuple(STRIDES)):
    generator = seeded(seed)
    return {
        name: torch.randn(
            images, channels, HEIGHT // STRIDES[name], WIDTH // STRIDES[name], generator=generator
        ).requires_grad_()
        for name in names
    }


def proposals(*counts, classes=5, seed=0):
    """Foreground proposals of images with so many boxes each."""
    generator = seeded(seed)
    images = []
    for count in counts:
        instances = Instances((HEIGHT, WIDTH))
        instances.proposal_boxes = Boxes(random_boxes(count, generator))
        instances.gt_classes = torch.randint(0, classes, (count,), generator=generator)
        if count:  # Detectron2 leaves ground truth out where there is no object
            instances.gt_masks = BitMasks(blobs(count, generator))
        images.append(instances)
    return images


def points_in(instances, boxes, number=10, seed=0):
    """The same objects with labelled points in boxes (R, 4), and without masks."""
    draws = torch.rand(len(boxes), number, 2, generator=seeded(seed))
    if len(boxes):
        index = torch.arange(len(boxes))
        coords = to_image(draws, boxes).floor() + 0.5
        instances.gt_point_coords = coords
        labels = labels_at_points(instances.gt_masks.tensor, index, coords)
        instances.gt_point_labels = labels.long()
        instances.remove("gt_masks")
    return instances


def with_points(*counts, number=10):
    """Foreground proposals of images, with labelled points in place of masks."""
    return [points_in(i, i.proposal_boxes.tensor, number) for i in proposals(*counts)]


def detections(*counts, classes=5, seed=0):
    generator = seeded(seed)
    images = []
    for count in counts:
        instances = Instances((HEIGHT, WIDTH))
        instances.pred_boxes = Boxes(random_boxes(count, generator))
        instances.pred_classes = torch.randint(0, classes, (count,), generator=generator)
        images.append(instances)
    return images


def instances_of(masks, height, width):
    """An image's instances with nothing but ground-truth masks."""
    instances = Instances((height, width))
    instances.gt_masks = masks
    return instances


def mask_head(opts=(), num_classes=5, channels=32):
    """The mask head of `small_instance_cfg`, whose predictions are not all near 0."""
    torch.manual_seed(0)
    shapes = {name: ShapeSpec(channels=channels, stride=s) for name, s in STRIDES.items()}
    head = build_mask_head(small_instance_cfg(num_classes, opts), shapes)
    with torch.no_grad():
        if hasattr(head, "parameter_head"):
            head.parameter_head.prediction.weight.mul_(5)
            head.parameter_head.prediction.bias.normal_(std=0.05)
        else:
            head.coarse_head.prediction.weight.mul_(300)
            if head.point_head is not None:
                head.point_head.predictor.weight.mul_(300)
    return head


def builtin_head(opts=(), names=STANDARD):
    """Detectron2's mask head from the same config."""
    shapes = {name: ShapeSpec(channels=32, stride=s) for name, s in STRIDES.items()}
    return build_mask_head(builtin_cfg(*names, opts=opts), shapes)


def builtin_of(kind):
    """Detectron2's head that stands for one of `MASK_HEADS`."""
    return builtin_head(*MASK_HEADS[kind])


def other_classes(images):
    """The same detections, each predicted to be of the next of five classes."""
    for each in images:
        each.pred_classes = (each.pred_classes + 1) % 5
    return images


def agreement(first, second):
    """The part of two masks that is the same after the threshold."""
    return ((first > 0.5) == (second > 0.5)).float().mean()


def losses_of(head, features, instances):
    """The losses, after their gradients have been computed."""
    with EventStorage():
        losses = head.train()(features, instances)
    sum(losses.values()).backward()
    return losses


def assert_finite_with_gradients(losses, module, zero=()):
    """Every loss is finite, 0 where named, and every parameter has a finite gradient."""
    for name, loss in losses.items():
        assert loss.isfinite() and loss.dim() == 0, name
        assert name not in zero or loss == 0, name
    without = [name for name, value in module.named_parameters() if value.grad is None]
    assert not without
    assert all(value.grad.isfinite().all() for value in module.parameters())


@torch.no_grad()
def masks_of(head, features, instances):
    """``pred_masks`` of all images together."""
    return torch.cat([each.pred_masks for each in head.eval()(features, instances)])


class Allocated(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make; views do not count.

    Attributes:
        largest: bytes of the largest.
        total: bytes of all.
    """

    def __init__(self):
        super().__init__()
        self.largest = self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        known = {
            x.untyped_storage().data_ptr()
            for x in tree_flatten((args, kwargs))[0]
            if isinstance(x, torch.Tensor)
        }
        for x in tree_flatten(out)[0]:
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in known:
                size = x.untyped_storage().nbytes()
                self.largest, self.total = max(self.largest, size), self.total + size
        return out


def batch(seed, sizes=((96, 128), (80, 110))):
    """Images with objects whose masks are blobs, cut at their boxes."""
    generator = seeded(seed)
    inputs = []
    for height, width in sizes:
        corners = torch.rand(4, 2, 2, generator=generator).sort(dim=1).values
        boxes = (corners * torch.tensor([width - 20, height - 20])).flatten(1)
        boxes[:, 2:] += 16.4
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(0, 5, (4,), generator=generator)
        instances.gt_masks = BitMasks(blobs(4, generator, height, width))
        image = torch.rand(3, height, width, generator=generator) * 255
        inputs.append({"image": image, "instances": instances})
    return inputs


def without_objects(inputs, *which):
    """The same inputs, where these images have no ground truth."""
    for k in which:
        none = Instances(inputs[k]["instances"].image_size)
        none.gt_boxes = Boxes(torch.zeros(0, 4))
        none.gt_classes = torch.zeros(0, dtype=torch.int64)
        inputs[k]["instances"] = none
    return inputs


def train_once(model, inputs):
    """The losses of a whole model, after their gradients have been computed."""
    with EventStorage():
        losses = model.train()(inputs)
    sum(losses.values()).backward()
    return losses


def reader_of(head, features, boxes):
    """The reader that a standard mask head opens."""
    return open_box_reader(
        features,
        boxes,
        head.reading,
        pooled_head=head.coarse_head,
        point_head=head.point_head,
    )
