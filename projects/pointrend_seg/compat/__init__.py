"""The names of Detectron2's PointRend, over this package: change the import, and nothing else.

    import pointrend_seg.compat as point_rend      # was: from detectron2.projects import point_rend

The modules have the names of those of `detectron2.projects.point_rend`, and so have the functions
and classes in them, with the same arguments and results. After `add_pointrend_config` the heads'
registered names (``PointRendMaskHead``, …) stand for those of this package, so that configs need no
`adopt_config`. docs/moving-over.md has the table of names.
"""

from .color_augmentation import ColorAugSSDTransform
from .config import add_pointrend_config
from .mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from .roi_heads import PointRendROIHeads
from .semantic_seg import PointRendSemSegHead, SemSegDatasetMapper

__all__ = [
    "ColorAugSSDTransform",
    "ImplicitPointRendMaskHead",
    "PointRendMaskHead",
    "PointRendROIHeads",
    "PointRendSemSegHead",
    "SemSegDatasetMapper",
    "add_pointrend_config",
]
