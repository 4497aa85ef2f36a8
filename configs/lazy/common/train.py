"""Settings of a training: those of Detectron2, and its seed (-1: another one for each run)."""

from pointrend_seg.config.detectron2_configs import get_config

train = get_config("common/train.py").train
train.update(seed=-1, cudnn_benchmark=False)
