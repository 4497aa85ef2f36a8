"""GeoJSON: a file for each image, with a polygon or several for each object, holes included.

Coordinates are pixels, x to the right and y down, or those of the map where the image is a GeoTIFF
with a transform. Rings are closed, outlines counter-clockwise and holes clockwise on a map, as
RFC 7946 asks.
"""

import json
from pathlib import Path

import numpy as np

from ...files.atomic import write_text
from ...files.names import path_inside
from ...structures.outlines import outline_polygons
from ..shapes import ImageShapes, Shape
from .georeference import Georeference, read_georeference


class GeoJson:
    """Write a file for each image."""

    def __init__(self, folder: Path, categories: list[tuple[int, str]], tolerance: float):
        self._folder, self._tolerance = folder, tolerance

    def add(self, image: ImageShapes) -> None:
        """Write the objects of an image."""
        place = read_georeference(image.path) if image.path else None
        features = [self._feature(shape, place) for shape in image.shapes]
        content: dict = {"type": "FeatureCollection", "features": features}
        if place is not None and place.epsg:
            name = f"urn:ogc:def:crs:EPSG::{place.epsg}"
            content["crs"] = {"type": "name", "properties": {"name": name}}
        path = path_inside(self._folder, f"geojson/{image.name}.geojson")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content))

    def _feature(self, shape: Shape, place: Georeference | None) -> dict:
        parts = [
            [_ring(ring, place) for ring in (polygon.outline, *polygon.holes)]
            for polygon in outline_polygons(shape.region, self._tolerance)
        ]
        kind = "Polygon" if len(parts) == 1 else "MultiPolygon"
        geometry = {"type": kind, "coordinates": parts[0] if len(parts) == 1 else parts}
        properties: dict = {"name": shape.category, "category_id": shape.category_id}
        if shape.score is not None:
            properties["score"] = shape.score
        return {
            "type": "Feature",
            "geometry": geometry if parts else None,
            "properties": {**properties, "area_pixels": shape.region.area},
        }

    def finish(self) -> Path:
        """Return the folder."""
        return self._folder / "geojson"


def _ring(ring: np.ndarray, place: Georeference | None) -> list[list[float]]:
    points = ring if place is None else place.to_map(ring)
    # Outlines are clockwise as one sees them, and RFC 7946 counts on a map with y upwards.
    return np.concatenate([points[::-1], points[-1:]]).tolist()
