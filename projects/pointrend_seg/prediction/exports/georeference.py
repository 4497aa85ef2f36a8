"""The place of a GeoTIFF's pixels on the map."""

from dataclasses import dataclass

import numpy as np

from ...data.images.tiff import read_georeference as read_tags

_SCALE, _TIE_POINTS, _MATRIX, _KEYS = 33550, 33922, 34264, 34735
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
_PIXEL_IS_POINT, _USER_DEFINED = 2, 32767


@dataclass(frozen=True)
class Georeference:
    """Coordinates of pixels on a map.

    Attributes:
        matrix: (2, 3); times (x, y, 1), with x and y in pixels from the upper left corner of the
            image, it gives coordinates on the map.
        epsg: the number of the map's coordinate system; 0 if the file does not say.
    """

    matrix: np.ndarray
    epsg: int

    def to_map(self, points: np.ndarray) -> np.ndarray:
        """Convert points, (P, 2), from pixels to the map."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]


def read_georeference(path: str) -> Georeference | None:
    """Read the georeference of a GeoTIFF; None for files that have none."""
    tags = {code: value for code, _, _, value, _ in read_tags(path)}
    keys = _geo_keys(tags.get(_KEYS, ()))
    matrix = _matrix(tags)
    if matrix is None or not np.isfinite(matrix).all():
        return None
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # coordinates are of pixels' centres
        matrix[:, 2] -= matrix[:, :2] @ [0.5, 0.5]
    epsg = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC) or 0
    return Georeference(matrix, 0 if epsg == _USER_DEFINED else epsg)


def _matrix(tags: dict) -> np.ndarray | None:
    if len(tags.get(_MATRIX, ())) == 16:
        return np.array(tags[_MATRIX], float).reshape(4, 4)[:2, [0, 1, 3]]
    scale, tie = tags.get(_SCALE, ()), tags.get(_TIE_POINTS, ())
    if len(scale) < 2 or len(tie) < 6:
        return None
    (width, height), (column, row), (x, y) = scale[:2], tie[:2], tie[3:5]
    return np.array([[width, 0, x - column * width], [0, -height, y + row * height]], float)


def _geo_keys(values: tuple[int, ...]) -> dict[int, int]:
    """Return the keys that have a number of their own, not a place in another tag."""
    entries = [values[k : k + 4] for k in range(4, len(values) - 3, 4)]
    return {key: value for key, place, _, value in entries if place == 0}
