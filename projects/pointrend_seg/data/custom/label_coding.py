"""Decode label images whose values are not 0, 1, 2, …, or that have colours."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..problems import Problem

_IGNORED_INDEX, _NO_COLOR = 1 << 24, 1 << 25  # keys beside packed colours


@dataclass(frozen=True)
class LabelCoding:
    """The values and colours of classes in a data set's label images.

    Attributes:
        ids: the value of each class 0 to C - 1 in single-channel label images.
        colors: the RGB colour of each class in RGB label images, None if unknown.
        ignore_value: value of unlabelled pixels in single-channel label images, or None.
        ignore_color: colour of unlabelled pixels in RGB label images, or None.
        decoded_ignore: the label that unlabelled pixels get.
        palette: RGB colours that the indices of palette images have in the data set, if ``colors``
            are unknown; an image in which they have others is a problem. None: not compared.
        is_255_unclear: whether 255 may be the foreground or unlabelled, so that it is a problem.

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
    palette: tuple[tuple[int, int, int], ...] | None = None
    is_255_unclear: bool = False

    def decode(
        self, labels: np.ndarray, label_file: str, *, palette: np.ndarray | None = None
    ) -> tuple[np.ndarray | None, Problem | None]:
        """Convert a label image to class indices.

        Args:
            labels: H x W, integer or bool; or uint8, H x W x 3 (RGB).
            label_file: path of the image, for error messages.
            palette: K x 3, RGB, of a palette image whose indices are ``labels``. Where the colours
                of the classes are known, those of the palette count, not the indices; an index
                that is the ``ignore_value`` and has none of these colours is unlabelled.

        Returns:
            labels: H x W, uint8, or uint16 for more than 255 classes; values and colours that are
                not classes become ``decoded_ignore``. If the values are class indices already
                (``is_plain``), they are returned unchanged and unchecked. None if the file has
                colours and the classes have none.
            problem: the problem of the label image, or None.
        """
        has_colors = labels.ndim == 3 or (palette is not None and self.colors is not None)
        if has_colors and self.colors is None:
            found = f"{label_file} has colours ({labels.shape[2]} channels) instead of class values"
            fix = (
                "Add the colour of each class to the class file (NAME #rrggbb), or use "
                "single-channel label images."
            )
            return None, Problem("label-value", found, fix)
        if has_colors and self.colors is not None and len({*self.colors}) < len(self.colors):
            return None, self._same_colors(label_file)
        if not has_colors and palette is not None and self.palette is not None:
            problem = self._palette_problem(labels, palette, label_file)
            if problem is not None:
                return None, problem
        if not has_colors and self.is_plain:
            return labels, self._unclear_problem(labels, label_file)
        keys, label_by_key = self._pixel_keys(labels, palette)
        known = np.array(sorted(label_by_key))
        indices = np.searchsorted(known, keys).clip(max=len(known) - 1)
        unknown = known[indices] != keys
        dtype = np.uint8 if self.decoded_ignore <= 255 else np.uint16
        decoded = np.array([label_by_key[key] for key in known.tolist()], dtype)[indices]
        if not unknown.any():
            return decoded, None
        decoded[unknown] = self.decoded_ignore
        unknown_keys = np.unique(keys[unknown]).tolist()
        return decoded, _unknown_problem(unknown_keys, label_file, are_colors=has_colors)

    @property
    def is_plain(self) -> bool:
        """True if the values in single-channel label images are class indices already."""
        plain = self.ids == tuple(range(len(self.ids)))
        return plain and self.ignore_value == self.decoded_ignore

    def _pixel_keys(
        self, labels: np.ndarray, palette: np.ndarray | None
    ) -> tuple[np.ndarray, dict[int, int]]:
        """Return one integer per pixel (the value or packed colour), and the label of each integer.

        Args:
            labels, palette: as `decode` takes them.

        Returns:
            H x W int64, and labels by integer: class indices, and ``decoded_ignore``.
        """
        if labels.ndim == 2 and (palette is None or self.colors is None):
            values, ignored = labels.astype(np.int64), self.ignore_value
            class_keys: Iterable[int] = self.ids
        else:
            class_keys = _pack(np.array(self.colors)).tolist()
            values = _pack(labels) if palette is None else self._color_keys(labels, palette)
            ignored = None if self.ignore_color is None else int(_pack(np.array(self.ignore_color)))
        label_by_key = {key: index for index, key in enumerate(class_keys)}
        if ignored is not None:
            label_by_key[ignored] = self.decoded_ignore
        if palette is not None:
            label_by_key[_IGNORED_INDEX] = self.decoded_ignore
        return values, label_by_key

    def _color_keys(self, labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
        """Return the packed colour of each pixel of a palette image."""
        keys = np.full(256, _NO_COLOR, np.int64)
        keys[: len(palette)] = _pack(palette)
        ignored = self.ignore_value
        class_keys = _pack(np.array(self.colors)).tolist()
        if ignored is not None and ignored < 256 and keys[ignored] not in class_keys:
            keys[ignored] = _IGNORED_INDEX
        return keys[labels]

    def _same_colors(self, label_file: str) -> Problem:
        colors = list(self.colors or ())
        number = next(n for n, color in enumerate(colors) if color in colors[:n])
        shown = bytes(colors[number]).hex()
        found = f"{label_file} has colours, but two classes have the colour #{shown}"
        fix = "Give each class a colour of its own, or use single-channel label images."
        return Problem("label-value", found, fix)

    def _palette_problem(
        self, labels: np.ndarray, palette: np.ndarray, label_file: str
    ) -> Problem | None:
        """Find an index that has another colour than in the first label image."""
        expected = np.array(self.palette)
        for index in np.unique(labels).tolist():
            known = index < min(len(expected), len(palette))
            if known and (expected[index] != palette[index]).any():
                found = (
                    f"{label_file} has the colour #{bytes(palette[index].tolist()).hex()} at index "
                    f"{index} of its palette, but other label images of the data set have "
                    f"#{bytes(expected[index].tolist()).hex()}"
                )
                fix = (
                    "Add the colour of each class to the class file (NAME #rrggbb), or save the "
                    "class values without a palette."
                )
                return Problem("label-value", found, fix)
        return None

    def _unclear_problem(self, labels: np.ndarray, label_file: str) -> Problem | None:
        if not (self.is_255_unclear and (labels == 255).any()):
            return None
        found = f"{label_file} has the value 255, which may be the foreground or unlabelled"
        fix = (
            "Say which: give the foreground its value in the class file (255 NAME or 1 NAME), or "
            "use --ignore-value 255."
        )
        return Problem("label-value", found, fix)


def _unknown_problem(keys: list[int], label_file: str, *, are_colors: bool) -> Problem:
    shown = [f"#{key:06x}" if are_colors else str(key) for key in keys[:5]]
    if keys[-1] == _NO_COLOR:
        shown = ["an index without a colour in its palette", *shown[:-1]]
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
