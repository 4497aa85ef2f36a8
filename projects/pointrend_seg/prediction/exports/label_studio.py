"""Pre-annotations of Label Studio: a list of tasks to import.

The labelling interface that fits is, for polygons and for brushes:

    <View><Image name="image" value="$image"/>
      <PolygonLabels name="label" toName="image"><Label value="cell"/>…</PolygonLabels></View>
    <View><Image name="image" value="$image"/>
      <BrushLabels name="label" toName="image"><Label value="cell"/>…</BrushLabels></View>

Polygons can be edited point by point; they have no holes and one part each. Brushes are exact.
"""

import json
from pathlib import Path

import numpy as np

from ...files.atomic import write_text
from ...structures.outlines import outline_polygons
from ...structures.regions import Region
from ..shapes import ImageShapes, Shape

_RUN_BITS = (3, 4, 8, 16)  # the lengths of runs are written with one of these numbers of bits


class LabelStudio:
    """Collect images as tasks in a JSON file."""

    def __init__(
        self,
        folder: Path,
        categories: list[tuple[int, str]],
        tolerance: float,
        *,
        brush: bool = False,
    ):
        self._tolerance, self._brush = tolerance, brush
        self._path = folder / ("label_studio_brush.json" if brush else "label_studio.json")
        self._tasks: list[dict] = []

    def add(self, image: ImageShapes) -> None:
        """Add an image."""
        results: list[dict] = []
        for number, shape in enumerate(image.shapes):
            values = self._values(shape, image)
            for part, (kind, value) in enumerate(values):
                result = {
                    "id": f"{number}-{part}",
                    "type": kind,
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": image.width,
                    "original_height": image.height,
                    "image_rotation": 0,
                    "value": value | {kind: [shape.category]},
                }
                results.append(result | ({} if shape.score is None else {"score": shape.score}))
        scores = [shape.score for shape in image.shapes if shape.score is not None]
        prediction: dict = {"model_version": "pointrend_seg", "result": results}
        if scores:
            prediction["score"] = sum(scores) / len(scores)
        self._tasks.append({"data": {"image": image.file_name}, "predictions": [prediction]})

    def _values(self, shape: Shape, image: ImageShapes) -> list[tuple[str, dict]]:
        if self._brush:
            runs = encode_brush(shape.region, image.height, image.width)
            return [("brushlabels", {"format": "rle", "rle": runs})]
        percent = np.array([100 / image.width, 100 / image.height])
        return [
            (
                "polygonlabels",
                {"points": (polygon.outline * percent).tolist(), "closed": True},
            )
            for polygon in outline_polygons(shape.region, self._tolerance)
        ]

    def finish(self) -> Path:
        """Write the file."""
        write_text(self._path, json.dumps(self._tasks))
        return self._path


def encode_brush(region: Region, height: int, width: int) -> list[int]:
    """Encode a mask as Label Studio's brush: RGBA pixels, row by row, of 0 or 255.

    A stream of bits: the number of values (32 bits), the size of a value less 1 (5), four sizes
    of run lengths less 1 (4 each), then runs: 1, which size (2 bits), the length less 1, the value.

    Returns:
        the bytes, as numbers.
    """
    bits = [f"{height * width * 4:032b}{7:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    end = 0
    for start, stop in _row_runs(region, width):
        bits += [_run(start - end, 0), _run(stop - start, 255)]
        end = stop
    bits.append(_run(height * width - end, 0))
    text = "".join(bits).encode()
    return np.packbits(np.frombuffer(text, np.uint8) - ord("0")).tolist()


def _row_runs(region: Region, width: int) -> list[list[int]]:
    """Return first pixel and end of each run of the mask, counted row by row through the image."""
    padded = np.pad(region.pixels, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(padded, axis=1)
    ends = (np.nonzero(steps == step) for step in (1, -1))
    starts, stops = ((region.y0 + y) * width + region.x0 + x for y, x in ends)
    return np.stack([starts, stops], axis=1).tolist()


def _run(pixels: int, value: int) -> str:
    """Return the bits of a run of RGBA pixels that have a value in all four channels."""
    longest = 1 << _RUN_BITS[-1]
    whole, rest = divmod(pixels * 4, longest)
    bits = f"111{longest - 1:b}{value:08b}" * whole
    if rest:
        kind = next(k for k, size in enumerate(_RUN_BITS) if rest <= 1 << size)
        bits += f"1{kind:02b}{rest - 1:0{_RUN_BITS[kind]}b}{value:08b}"
    return bits
