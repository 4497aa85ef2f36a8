"""What is traced: heads of tensors, and models as Detectron2 traces them, with images for both."""

import torch
from detectron2.export.flatten import TracingAdapter
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import nn

from mask_inputs import HEIGHT, MASK_HEADS, STRIDES, WIDTH, random_boxes, seeded
from small_configs import small_instance_cfg, small_semantic_cfg

# Number of boxes, height and width of the image.
HEAD_SIZES = ((6, 96, 128), (0, 96, 128), (1, 64, 64), (13, 200, 97), (100, 96, 128))


class HeadOfTensors(nn.Module):
    """A mask head that takes and gives tensors."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, maps, boxes, classes):
        image = Instances((HEIGHT, WIDTH))
        image.pred_boxes, image.pred_classes = Boxes(boxes), classes
        return self.head(maps, [image])[0].pred_masks


def head_inputs(count, height=HEIGHT, width=WIDTH):
    generator = seeded(count)
    maps = {
        name: torch.randn(1, 32, -(-height // s), -(-width // s), generator=generator)
        for name, s in STRIDES.items()
    }
    boxes = random_boxes(count, generator, height, width)
    return maps, boxes, torch.randint(0, 5, (count,), generator=generator)


def images(*sizes):
    return [torch.rand(3, *size, generator=seeded(size[0])) * 255 for size in sizes]


def traced_semantic_adapter(opts=()):
    """A small semantic model, ready to be traced with an image of 128 x 160."""
    torch.manual_seed(0)
    model = build_model(small_semantic_cfg(opts=opts)).eval()
    return TracingAdapter(model, [{"image": images((128, 160))[0]}]).eval()


def traced_instance_adapter(kind, opts=(), sizes=((128, 160),)):
    """A small instance model, as Detectron2's tools trace it: masks stay in their boxes."""
    torch.manual_seed(0)
    model = build_model(small_instance_cfg(opts=(*MASK_HEADS[kind][0], *opts))).eval()
    model.roi_heads.box_predictor.test_score_thresh = 0.22  # some boxes reach it

    def inference(model, inputs):
        return [{"instances": each} for each in model.inference(inputs, do_postprocess=False)]

    return TracingAdapter(model, [{"image": each} for each in images(*sizes)], inference).eval()
