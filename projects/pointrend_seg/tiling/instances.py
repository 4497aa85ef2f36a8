"""Join what several tiles see of the same object.

Detections of two overlapping tiles are compared in the region that both see, by their masks (boxes
where there are none). Detections of one class that agree there are one object, and three cases
differ by where its masks go on:

- beyond both tiles' common region on both sides: neither tile sees the whole. The masks are joined.
- on one side only: that tile sees more. The other one's mask is a fragment, and is left out.
- nowhere: both tiles see the whole. The detection with the higher score counts.

SAHI's GREEDYNMM also compares detections of one class by the share of the smaller one, but by boxes
of the whole image. In the common region, masks of an object larger than the overlap agree, and
neighbours whose boxes overlap do not. An object that one tile sees whole is not joined with
fragments, whose outlines are worse.

Shapes:
    N: detections of a tile, h, w: size of the tile, H, W: size of the image
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import Boxes, Instances, ROIMasks

from ..evaluation.region_masks import encode_region_masks
from ..structures.box_masks import BoxMasks
from ..structures.rle_masks import RleMasks
from ..structures.run_lengths import encode_columns
from .layout import TileGrid

_SHARE = 0.5  # of the smaller mask that the other one covers, for fragments
_IOU_WHOLE, _IOU_JOINED = 0.5, 1 / 3  # two equal masks that share a half have an IoU of 1/3
_CUT = 0.02  # a mask this close to a tile's border, in sides of the tile, may be cut by it


class InstanceMerger:
    """Collect the detections of tiles, in the order of the grid, and join those of one object."""

    def __init__(self, grid: TileGrid):
        """
        Args:
            grid: the tiles, in pixels of the image.
        """
        self._tiles = grid.boxes()
        self._size = grid.rows[-1][1], grid.columns[-1][1]
        self._parts: list[Instances] = []
        self._rles: list[dict] = []
        self._numbers: list[int] = []  # of the tile of each detection
        self._with_masks = True

    def add(self, instances: Instances) -> None:
        """Add the detections of the next tile.

        Args:
            instances: N detections in pixels of the tile: ``pred_boxes``, ``scores``,
                ``pred_classes``, and ``pred_masks`` as `ROIMasks` or N x h x w bool, if the model
                has masks.
        """
        tile = len(self._parts)
        x0, y0, _, _ = self._tiles[tile]
        instances = instances.to("cpu")
        fields = dict(instances.get_fields())
        masks = fields.pop("pred_masks", None)
        offset = torch.tensor([x0, y0, x0, y0], dtype=torch.float32)
        boxes = Boxes(fields["pred_boxes"].tensor.float() + offset)
        fields["pred_boxes"] = boxes
        if "pred_keypoints" in fields:
            fields["pred_keypoints"] = fields["pred_keypoints"].clone()
            fields["pred_keypoints"][..., :2] += offset[:2]
        self._with_masks = self._with_masks and masks is not None
        if masks is None:
            rles = [_encoded_box(box, *self._size) for box in boxes.tensor.numpy()]
        elif isinstance(masks, ROIMasks):
            shown = masks.masks if isinstance(masks, BoxMasks) else masks.tensor
            rles = encode_region_masks(shown, boxes.tensor, *self._size)
        else:
            columns = np.asarray(masks, dtype=np.uint8).swapaxes(1, 2)
            rles = [encode_columns(each, x0, y0, *self._size) for each in columns]
        self._parts.append(Instances(self._size, **fields))
        self._rles += rles
        self._numbers += [tile] * len(rles)

    def merge(self) -> Instances:
        """Return the objects of the whole image, by falling score.

        Returns:
            the fields of the tiles' detections on the CPU, in pixels of the image; ``pred_masks``
            are `RleMasks`.
        """
        found = Instances.cat(self._parts)
        kept, groups = self._resolve(found)
        found, rles = found[torch.tensor(kept, dtype=torch.long)], [self._rles[k] for k in kept]
        for place, members in groups.items():
            rles[place] = _text(mask_util.merge([_bytes(self._rles[k]) for k in members]))
            found.pred_boxes.tensor[place] = _union([self._boxes[k] for k in members])
        if self._with_masks:
            found.pred_masks = RleMasks(rles, self._size)
        return found

    def _resolve(self, found: Instances) -> tuple[list[int], dict[int, list[int]]]:
        """Return the numbers of the detections that are kept, and what is joined to them by place.

        Args:
            found: the detections of all tiles, in the order of ``_rles``.
        """
        self._boxes = found.pred_boxes.tensor.clone()
        scores = found.scores.numpy()
        self._areas = RleMasks(self._rles, self._size).areas().numpy()
        self._inside: dict[tuple[int, int], int] = {}
        fragments, doubles, joined = defaultdict(list), [], []
        for a, b in self._pairs(found.pred_classes.numpy()):
            relation = self._relation(a, b)
            if relation == "fragment of b":
                fragments[a].append(b)
            elif relation == "fragment of a":
                fragments[b].append(a)
            elif relation == "double":
                doubles.append((a, b))
            elif relation == "joined":
                joined.append((a, b))
        gone: set[int] = set()
        for k in sorted(fragments, key=lambda k: (self._areas[k], k)):
            if any(other not in gone for other in fragments[k]):
                gone.add(k)
        for a, b in sorted(doubles, key=lambda pair: -max(scores[list(pair)])):
            if a not in gone and b not in gone:
                gone.add(b if scores[a] >= scores[b] else a)
        parents = list(range(len(scores)))
        for a, b in joined:
            if a not in gone and b not in gone:
                parents[_root(parents, a)] = _root(parents, b)
        members = defaultdict(list)
        for k in range(len(scores)):
            if k not in gone:
                members[_root(parents, k)].append(k)
        best = {max(group, key=lambda k: scores[k]): group for group in members.values()}
        kept = sorted(best, key=lambda k: (-scores[k], k))
        groups = {place: best[k] for place, k in enumerate(kept) if len(best[k]) > 1}
        return kept, groups

    def _pairs(self, classes: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield pairs of detections of one class, of two tiles, whose boxes overlap."""
        boxes, numbers = self._boxes.numpy(), np.asarray(self._numbers)
        first = np.searchsorted(numbers, np.arange(len(self._tiles) + 1))
        tiles = np.asarray(self._tiles)
        for t in range(len(tiles)):
            own = np.arange(first[t], first[t + 1])
            low = np.maximum(tiles[t, :2], tiles[t + 1 :, :2])
            high = np.minimum(tiles[t, 2:], tiles[t + 1 :, 2:])
            for other in t + 1 + np.flatnonzero((low < high).all(axis=1)):
                others = np.arange(first[other], first[other + 1])
                corner = np.maximum(boxes[own, None, :2], boxes[None, others, :2])
                end = np.minimum(boxes[own, None, 2:], boxes[None, others, 2:])
                alike = classes[own, None] == classes[None, others]
                for i, j in zip(*np.nonzero((corner < end).all(axis=2) & alike), strict=True):
                    yield int(own[i]), int(others[j])

    def _relation(self, a: int, b: int) -> str:
        """Return what two detections of two tiles are to one another; "" for two objects."""
        pair = [_bytes(self._rles[a]), _bytes(self._rles[b])]
        shared = int(mask_util.area(mask_util.merge(pair, intersect=True)))
        if not shared:
            return ""
        seen_a, seen_b = self._area_in(a, self._numbers[b]), self._area_in(b, self._numbers[a])
        iou = shared / (seen_a + seen_b - shared)
        goes_on_a, goes_on_b = seen_a < self._areas[a], seen_b < self._areas[b]
        if goes_on_a and goes_on_b:
            return "joined" if iou >= _IOU_JOINED else ""
        if not (goes_on_a or goes_on_b):
            return "double" if iou >= _IOU_WHOLE else ""
        fragment = b if goes_on_a else a
        covered = shared / self._areas[fragment]
        agree = covered >= _SHARE if self._is_cut(fragment) else iou >= _IOU_WHOLE
        return ("fragment of a" if goes_on_a else "fragment of b") if agree else ""

    def _area_in(self, k: int, tile: int) -> int:
        """Return how many pixels of a detection another tile sees."""
        if (k, tile) not in self._inside:
            x0, y0, x1, y1 = self._tiles[tile]
            box = self._boxes[k]
            # a mask may be a pixel larger than its box
            if x0 < box[0] and y0 < box[1] and box[2] < x1 and box[3] < y1:
                self._inside[k, tile] = int(self._areas[k])
            else:
                whole = encode_columns(np.ones((x1 - x0, y1 - y0), np.uint8), x0, y0, *self._size)
                both = mask_util.merge([_bytes(self._rles[k]), _bytes(whole)], intersect=True)
                self._inside[k, tile] = int(mask_util.area(both))
        return self._inside[k, tile]

    def _is_cut(self, k: int) -> bool:
        """Tell whether a detection lies at a border of its tile that is not the image's."""
        tile = np.asarray(self._tiles[self._numbers[k]])
        border = np.asarray([0, 0, self._size[1], self._size[0]])
        margin = max(2.0, _CUT * max(tile[2:] - tile[:2]))
        return bool(((abs(self._boxes[k].numpy() - tile) <= margin) & (tile != border)).any())


def _root(parents: list[int], k: int) -> int:
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k


def _union(boxes: list[torch.Tensor]) -> torch.Tensor:
    stacked = torch.stack(boxes)
    return torch.cat([stacked[:, :2].amin(0), stacked[:, 2:].amax(0)])


def _encoded_box(box: np.ndarray, height: int, width: int) -> dict:
    x0, y0, x1, y1 = (int(round(float(value))) for value in box)
    x0, x1 = (min(max(x, 0), width) for x in (x0, x1))
    y0, y1 = (min(max(y, 0), height) for y in (y0, y1))
    columns = np.ones((max(x1 - x0, 0), max(y1 - y0, 0)), np.uint8)
    return encode_columns(columns, x0, y0, height, width)


def _bytes(rle: dict) -> dict:
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}


def _text(rle: dict) -> dict:
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
