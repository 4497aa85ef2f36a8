"""The fast readers: what the plain ones do, in another order.

`FusedBoxReader` serves the standard mask head, `RowBoxReader` the implicit one in inference, and
`FastFrameReader` the semantic head in inference on a CPU. The results are those of the plain
readers but for rounding. What makes them fast:

- Boxes go through in parts that fit into the processor's cache (`parts.py`), each from reading the
  features to the logits, so that no buffer grows with the number of boxes.
- Points are rows. Reading is a weighted sum of four rows (`rows.py`), a layer is one matrix
  product. The coarse logits are folded through the layers, and of the last layer one row is
  computed for each box, so that nothing grows with the number of classes (`mlp.py`).
- A 1 x 1 layer commutes with bilinear reading. Where more points are to be read than the map has
  cells, the first layer goes over the map once, and its result is read (`fused.py`).
- In training nothing is kept for the backward pass that can be had again: the point loss works out
  its gradients while a part's activations are at hand (`point_loss.py`), the convolutions of the
  coarse head are repeated (`pooling.py`), and there is one gradient of the feature maps for all who
  read them (`shared_maps.py`).

Shape shorthand in these modules:

    I: number of images
    R: number of boxes of all images together; B of one part of them
    C: number of classes
    P: number of points of one box; n of all boxes of a part
    H, W: size of a feature map; D its channels, or the width of a layer
    h, w: size of the coarse masks
"""

from .boxes import RowBoxReader
from .frames import FastFrameReader
from .fused import FusedBoxReader

__all__ = ["FastFrameReader", "FusedBoxReader", "RowBoxReader"]
