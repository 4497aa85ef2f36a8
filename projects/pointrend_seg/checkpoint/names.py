"""Rename weights of checkpoints in older formats of Detectron2's PointRend.

==========================================  ==========================================
old name                                    current name
==========================================  ==========================================
``roi_heads.mask_coarse_head.…``            ``roi_heads.mask_head.coarse_head.…``
``roi_heads.mask_point_head.…``             ``roi_heads.mask_head.point_head.…``
``….coarse_head.coarse_mask_fc1.…``         ``….coarse_head.fc1.…``
==========================================  ==========================================

The first two precede version 2 of ``PointRendROIHeads`` in Detectron2, the last precedes version 2
of its coarse mask head.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping

from ..errors import InputError

_ROI_HEADS = re.compile(r"(^|\.)mask_(coarse|point)_head(?=\.|$)")
_COARSE_FC = re.compile(r"(^|\.)(coarse_head|parameter_head)\.coarse_mask_fc(?=\d)")


def upgrade_name(name: str) -> str:
    """Return the current name of a weight or module; current names are unchanged."""
    return _COARSE_FC.sub(r"\1\2.fc", _ROI_HEADS.sub(r"\1mask_head.\2_head", name))


def upgrade_names(state_dict: Mapping) -> OrderedDict:
    """Return a state dict with current names, with the same values in the same order.

    Args:
        state_dict: weights by name, with any prefix; not modified. PyTorch's ``_metadata``
            (versions of the modules) is renamed too, if present.

    Raises:
        InputError: a weight exists under both its old and its current name.

    Example:
        >>> list(upgrade_names({"roi_heads.mask_point_head.fc1.weight": 0}))
        ['roi_heads.mask_head.point_head.fc1.weight']
    """
    upgraded: OrderedDict = OrderedDict()
    for name, value in state_dict.items():
        new = upgrade_name(name)
        if new in upgraded:
            raise InputError(
                f"The checkpoint contains {new} twice, once under the name of an older format. "
                "Remove one of the two."
            )
        upgraded[new] = value
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is not None:
        renamed = OrderedDict((upgrade_name(name), version) for name, version in metadata.items())
        upgraded._metadata = renamed  # type: ignore[attr-defined]  # as PyTorch does
    return upgraded
