"""Every configuration key of this package, and the way in for configs of Detectron2's PointRend."""

from detectron2.config import CfgNode as CN

# The config nodes of the point heads.
INSTANCE_NODE, SEMANTIC_NODE = "MODEL.POINT_HEAD", "MODEL.SEM_SEG_POINT_HEAD"


def add_pointrend_config(cfg: CN) -> None:
    """Add the keys of this package, and DeepLab's, to a Detectron2 config.

    Keys that are there already, with whatever value, stay as they are: calling it again, or after
    the functions of the same purpose in `detectron2.projects`, changes nothing that was set.
    Keys that Detectron2's PointRend has too have its names and its defaults.
    """
    from detectron2.projects.deeplab import add_deeplab_config

    new = CN({"INPUT": {"CROP": {}}, "SOLVER": {}, "MODEL": {}, "DATASETS": {}, "TEST": {}})
    new.MODEL = CN({"SEM_SEG_HEAD": {}, "ROI_MASK_HEAD": {}, "RESNETS": {}})
    add_deeplab_config(new)
    _add_dataset_keys(new)
    _add_input_keys(new)
    _add_semantic_keys(new)
    _add_instance_keys(new)
    _add_missing(cfg, new)


def _add_dataset_keys(cfg: CN) -> None:
    # Data sets of your own: a list of dicts with name, images, annotations and, as wanted, classes,
    # ignore_value, ignore_color; see docs/custom-dataset.md.
    cfg.DATASETS.CUSTOM = []
    # Set the class counts (and the ignored label) of the model to those of the first training
    # data set. False: they are only compared.
    cfg.DATASETS.CLASSES_FROM_DATA = False
    # After evaluation write report.html beside the predictions, see docs/evaluation.md.
    cfg.TEST.REPORT = True


def _add_input_keys(cfg: CN) -> None:
    # Random crops are drawn again, ten times at most, until no class fills more than this part.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # The colour jitter of SSD, in training of semantic models.
    cfg.INPUT.COLOR_AUG_SSD = False


def _point_head_keys() -> CN:
    """What both branches' point heads share."""
    node = CN()
    # A name in POINT_HEAD_REGISTRY.
    node.NAME = "PointMLP"
    # Feature maps of the backbone that the points are read from, put together in this order.
    node.IN_FEATURES = ("p2",)
    # Width of the hidden layers.
    node.FC_DIM = 256
    # Number of the hidden layers.
    node.NUM_FC = 3
    # Give the coarse prediction to every layer of the MLP, not only to the first.
    node.COARSE_PRED_EACH_LAYER = True
    # One mask for all classes, coarse and fine (instances only).
    node.CLS_AGNOSTIC_MASK = False
    # A name in POINT_SAMPLER_REGISTRY: where the training points are. Those of the implicit head
    # are uniform.
    node.SAMPLER = "ImportancePointSampler"
    # Training points of each image, or of each box.
    node.TRAIN_NUM_POINTS = 14 * 14
    # The paper's k: candidates for each point.
    node.OVERSAMPLE_RATIO = 3
    # The paper's beta: the part of the points that are the least certain candidates.
    node.IMPORTANCE_SAMPLE_RATIO = 0.75
    # How often the resolution doubles in inference, from OUTPUT_SIDE_RESOLUTION: 7 * 2**5 = 224.
    # The implicit head starts from a grid of SUBDIVISION_NUM_POINTS, 28 * 28, and takes 3.
    node.SUBDIVISION_STEPS = 5
    # Points that are predicted again at each step, at most.
    node.SUBDIVISION_NUM_POINTS = 28 * 28
    # Beyond the edge of a feature map: "zeros", as in Detectron2's PointRend, or "border".
    node.PADDING_MODE = "zeros"
    # Weight of the point loss.
    node.LOSS_WEIGHT = 1.0
    # Compute in the fast order. False: in that of the paper and of Detectron2, whose results are
    # then repeated to the last bit. Training of semantic models is the same with both; the
    # implicit head does not read it.
    node.FAST_PATH = True
    return node


def _add_semantic_keys(cfg: CN) -> None:
    # Weights of the classes in both losses, for a binary model of background and foreground.
    cfg.MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS = ()

    # The point head of PointRendSemanticHead.
    node = cfg.MODEL.SEM_SEG_POINT_HEAD = _point_head_keys()
    # The head that is refined; any that coarse_semantic.py describes.
    node.COARSE_SEM_SEG_HEAD_NAME = "SemSegFPNHead"
    # Training points as a part of the image's height, e.g. 0.0625 for a sixteenth. 0:
    # TRAIN_NUM_POINTS of them.
    node.TRAIN_POINTS_PER_HEIGHT = 0.0
    # Draw no training points where the label is ignored, padding included.
    node.AVOID_IGNORED = False
    # -1: as many as lead from the coarse head's stride to the image's own size. No other number
    # but that one is accepted.
    node.SUBDIVISION_STEPS = -1


def _add_instance_keys(cfg: CN) -> None:
    # Feature maps that the coarse mask head sees.
    cfg.MODEL.ROI_MASK_HEAD.IN_FEATURES = ("p2",)
    # Width of its hidden layers.
    cfg.MODEL.ROI_MASK_HEAD.FC_DIM = 1024
    # Number of its hidden layers.
    cfg.MODEL.ROI_MASK_HEAD.NUM_FC = 2
    # Side of the coarse mask.
    cfg.MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION = 7
    # False leaves the coarse mask as it is.
    cfg.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = False

    # The point head of the instance branch. In configs that are written for Detectron2's
    # PointRend it is that of the semantic head too: see adopt_config.
    node = cfg.MODEL.POINT_HEAD = _point_head_keys()
    # Not read: it is MODEL.ROI_HEADS.NUM_CLASSES. Here so that configs of Detectron2's load.
    node.NUM_CLASSES = 80
    # Not read; here so that configs of Detectron2's load.
    node.COARSE_SEM_SEG_HEAD_NAME = "SemSegFPNHead"
    # Side of the masks in their boxes, any number of cells. 0: the coarse side (of the implicit
    # head the root of SUBDIVISION_NUM_POINTS) times 2 ** SUBDIVISION_STEPS. -1: for each box the
    # smallest such product that is its longer side in pixels of the image that the model sees.
    node.MASK_RESOLUTION = 0

    cfg.MODEL.IMPLICIT_POINTREND = CN()
    # The implicit function sees the fine features.
    cfg.MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED = True
    # The implicit function sees the place in the box.
    cfg.MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED = True
    # Weight of loss_l2, the mean square of the parameters.
    cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER = 0.00001


def _add_missing(cfg: CN, new: CN) -> None:
    for key, value in new.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CN):
            _add_missing(cfg[key], value)
