"""Decode label images whose values are not 0, 1, 2, …, or that have colours."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..problems import Problem


@dataclass(frozen=True)
class LabelCoding:
    """The values and colours of classes in a data set's label images.

    Attributes:
        ids: the value of each class 0 to C - 1 in single-channel label images.
        colors: the RGB colour of each class in RGB label images, None if unknown.
        ignore_value: value of unlabelled pixels in single-channel label images, or None.
        ignore_color: colour of unlabelled pixels in RGB label images, or None.
        decoded_ignore: the label that unlabelled pixels get.

    Example:
        >>> coding = LabelCoding((7, 9), None, 0, None, decoded_ignore=255)
        >>> labels, problem = coding.decode(np.array([[9, 7, 0]]), "label.png")
        >>> labels.tolist()
        [[1, 0, 255]]
    """

    ids: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...] | None
    ignore_value: int | None
    ignore_color: tuple[int, int, int] | None
    decoded_ignore: int

    def decode(
        self, labels: np.ndarray, label_file: str
    ) -> tuple[np.ndarray | None, Problem | None]:
        """Convert a label image to class indices.

        Args:
            labels: H x W, integer or bool; or uint8, H x W x 2 (grey, alpha), H x W x 3 (RGB) or
                H x W x 4 (RGB, alpha). Alpha is dropped.
            label_file: path of the image, for error messages.

        Returns:
            labels: H x W, uint8, or uint16 for more than 255 classes; values and colours that are
                not classes become ``decoded_ignore``. If the values are class indices already
                (``is_plain``), they are returned unchanged and unchecked. None if the file has
                colours and the classes have none.
            problem: the problem of the label image, or None.
        """
        if labels.ndim == 3 and labels.shape[2] == 2:
            labels = labels[..., 0]
        if labels.ndim == 2 and self.is_plain:
            return labels, None
        if labels.ndim == 3 and self.colors is None:
            found = f"{label_file} has colours ({labels.shape[2]} channels) instead of class values"
            fix = (
                "Add the colour of each class to the class file (NAME #rrggbb), or use "
                "single-channel label images."
            )
            return None, Problem("label-value", found, fix)
        keys, label_by_key = self._pixel_keys(labels)
        known = np.array(sorted(label_by_key))
        indices = np.searchsorted(known, keys).clip(max=len(known) - 1)
        unknown = known[indices] != keys
        dtype = np.uint8 if self.decoded_ignore <= 255 else np.uint16
        decoded = np.array([label_by_key[key] for key in known.tolist()], dtype)[indices]
        if not unknown.any():
            return decoded, None
        decoded[unknown] = self.decoded_ignore
        unknown_keys = np.unique(keys[unknown]).tolist()
        return decoded, _unknown_problem(unknown_keys, label_file, are_colors=labels.ndim == 3)

    @property
    def is_plain(self) -> bool:
        """True if the values in single-channel label images are class indices already."""
        plain = self.ids == tuple(range(len(self.ids)))
        return plain and self.ignore_value == self.decoded_ignore

    def _pixel_keys(self, labels: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
        """Return one integer per pixel (the value or packed colour), and the label of each integer.

        Args:
            labels: as `decode` takes them; RGB only if ``colors`` are known.

        Returns:
            H x W int64, and labels by integer: class indices, and ``decoded_ignore``.
        """
        if labels.ndim == 2:
            values, ignored = labels.astype(np.int64), self.ignore_value
            class_keys: Iterable[int] = self.ids
        else:
            values, ignored = _pack(labels[..., :3]), None
            class_keys = _pack(np.array(self.colors)).tolist()
            if self.ignore_color is not None:
                ignored = int(_pack(np.array(self.ignore_color)))
        label_by_key = {key: index for index, key in enumerate(class_keys)}
        if ignored is not None:
            label_by_key[ignored] = self.decoded_ignore
        return values, label_by_key


def _unknown_problem(keys: list[int], label_file: str, *, are_colors: bool) -> Problem:
    shown = [f"#{key:06x}" if are_colors else str(key) for key in keys[:5]]
    kind = "colour" if are_colors else "value"
    found = (
        f"{label_file} has {kind}s that are not classes: {', '.join(shown)}"
        f"{', ...' if keys[5:] else ''}"
    )
    fix = (
        "Add them to the class file, or set "
        f"ignore_{'color' if are_colors else 'value'} to the {kind} of unlabelled pixels."
    )
    return Problem("label-value", found, fix)


def _pack(rgb: np.ndarray) -> np.ndarray:
    """Pack RGB colours, (..., 3), into int64, (...)."""
    red, green, blue = np.moveaxis(rgb.astype(np.int64), -1, 0)
    return (red << 16) | (green << 8) | blue
