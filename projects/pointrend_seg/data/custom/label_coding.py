"""Label images whose values are not 0, 1, 2, …, or that have colours instead."""

from dataclasses import dataclass

import numpy as np

from ...errors import InputError


@dataclass(frozen=True)
class LabelCoding:
    """How a data set's label images say which class a pixel has.

    Attributes:
        ids: the value of each class, in the order 0 to C - 1 in which they are decoded.
        colors: RGB of each class, for images of colours; None where there are none.
        ignore_value, ignore_color: of pixels without a class, or None.
        decoded_ignore: what these become.
    """

    ids: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...] | None
    ignore_value: int | None
    ignore_color: tuple[int, int, int] | None
    decoded_ignore: int

    def decode(self, labels: np.ndarray, label_file: str) -> np.ndarray:
        """Class numbers of a label image.

        Args:
            labels: H x W, integer or bool, or H x W x 3 (RGB) or 4 (alpha is left out), uint8.
            label_file: named in messages.

        Returns:
            H x W, integer; what has to be translated is uint8 or, for more than 255 classes,
            uint16. Values that need no translation are returned as they are, also wrong ones.

        Raises:
            InputError: a value or colour that is no class; colours, but none are known.
        """
        if labels.ndim == 3 and labels.shape[2] == 2:  # gray and alpha
            labels = labels[..., 0]
        if labels.ndim == 2 and self.is_plain:
            return labels.astype(np.uint8) if labels.dtype == bool else labels
        if labels.ndim == 3 and self.colors is None:
            raise InputError(
                f"{label_file} has colours ({labels.shape[2]} channels) instead of class numbers. "
                "Give each class its colour in the class file (a line is NAME #rrggbb), or write "
                "label images of one channel."
            )
        return self._numbers(*self.keys_of(labels), label_file)

    @property
    def is_plain(self) -> bool:
        """Whether the values of label images of one channel are the class numbers already."""
        plain = self.ids == tuple(range(len(self.ids)))
        return plain and self.ignore_value == self.decoded_ignore

    def ignores(self, value: int) -> bool:
        """Whether pixels of that value are ignored in label images of one channel."""
        return self.ignore_value == value

    def keys_of(self, labels: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
        """A label image as one number for each pixel, and the class of each number that has one.

        Args:
            labels: as `decode` takes them; of colours only where ``colors`` are known.
        """
        if labels.ndim == 2:
            keys = {value: number for number, value in enumerate(self.ids)}
            if self.ignore_value is not None:
                keys[self.ignore_value] = self.decoded_ignore
            return labels.astype(np.int64), keys
        keys = {pack(color): number for number, color in enumerate(self.colors)}
        if self.ignore_color is not None:
            keys[pack(self.ignore_color)] = self.decoded_ignore
        return pack(labels[..., :3]), keys

    def _numbers(self, image: np.ndarray, keys: dict[int, int], label_file: str) -> np.ndarray:
        known = np.array(sorted(keys))
        places = np.searchsorted(known, image).clip(max=len(known) - 1)
        wrong = known[places] != image
        if wrong.any():
            raise InputError(self._what_is_wrong(np.unique(image[wrong]).tolist(), label_file))
        narrow = np.uint8 if self.decoded_ignore <= 255 else np.uint16
        return np.array([keys[key] for key in known.tolist()], narrow)[places]

    def _what_is_wrong(self, keys: list[int], label_file: str) -> str:
        by_color = self.colors is not None and max(keys) > 255
        shown = [f"#{key:06x}" if by_color else str(key) for key in keys[:5]]
        what = "colours" if by_color else "values"
        return (
            f"{label_file} has {what} that are no class: {', '.join(shown)}"
            f"{', ...' if keys[5:] else ''}. Add them to the class file, or name the one that "
            f"marks pixels without a class (ignore_{'color' if by_color else 'value'})."
        )


def pack(color) -> np.ndarray | int:
    """RGB, (..., 3), as one number each."""
    red, green, blue = np.moveaxis(np.asarray(color, np.int64), -1, 0)
    packed = (red << 16) | (green << 8) | blue
    return int(packed) if packed.ndim == 0 else packed
