"""The names of a checkpoint's weights that Detectron2's PointRend has spelled differently in time.

==========================================  ==========================================
once                                        now
==========================================  ==========================================
``roi_heads.mask_coarse_head.…``            ``roi_heads.mask_head.coarse_head.…``
``roi_heads.mask_point_head.…``             ``roi_heads.mask_head.point_head.…``
``….coarse_head.coarse_mask_fc1.…``         ``….coarse_head.fc1.…``
==========================================  ==========================================

The first two are from before version 2 of its ``PointRendROIHeads``, the last from before version 2
of its coarse mask head.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping

from ..errors import InputError

_ROI_HEADS = re.compile(r"(^|\.)mask_(coarse|point)_head(?=\.|$)")
_COARSE_FC = re.compile(r"(^|\.)(coarse_head|parameter_head)\.coarse_mask_fc(?=\d)")


def upgrade_name(name: str) -> str:
    """The present name of a weight, or of a module; one that is present stays as it is."""
    return _COARSE_FC.sub(r"\1\2.fc", _ROI_HEADS.sub(r"\1mask_head.\2_head", name))


def upgrade_names(state_dict: Mapping) -> OrderedDict:
    """A state dict under the present names.

    Args:
        state_dict: weights by name, with any prefix; not changed. PyTorch's ``_metadata``, the
            versions of the modules, comes along if it is there.

    Returns:
        the same values in the same order.

    Raises:
        InputError: a weight is there under its old and under its present name.
    """
    upgraded = OrderedDict()
    for name, value in state_dict.items():
        new = upgrade_name(name)
        if new in upgraded:
            raise InputError(
                f"The checkpoint holds {new} twice, once under a name of an older format. Remove "
                "one of the two."
            )
        upgraded[new] = value
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is not None:
        upgraded._metadata = OrderedDict((upgrade_name(k), v) for k, v in metadata.items())
    return upgraded
