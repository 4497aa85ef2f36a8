"""`PointRendROIHeads`, which Detectron2's older configs and checkpoints name."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import StandardROIHeads

from ..checkpoint.names import upgrade_name
from ..config import adopt_config


class PointRendROIHeads(StandardROIHeads):
    """`StandardROIHeads` that also take configs and weights from before version 2."""

    _version = 2

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        if cfg.MODEL.MASK_ON and cfg.MODEL.ROI_MASK_HEAD.NAME == "CoarseMaskHead":
            cfg = adopt_config(cfg.clone())
        return super()._init_mask_head(cfg, input_shape)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *arguments: Any
    ) -> None:
        if (local_metadata.get("version") or 0) < 2:
            for name in list(state_dict):
                if name.startswith(prefix):
                    state_dict[upgrade_name(name)] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *arguments)
