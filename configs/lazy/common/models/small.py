"""Makes an R-CNN so small that it trains in minutes on two CPU cores."""


def make_small(model):
    """Change a model of common/models/ to ResNet-18, a narrow FPN and few boxes."""
    model.pixel_std = [57.375, 57.120, 58.395]
    model.backbone.bottom_up.stem.norm = "BN"
    model.backbone.bottom_up.stages.update(depth=18, norm="BN")
    del model.backbone.bottom_up.stages.stride_in_1x1  # ResNet-18 has no blocks with such a layer
    model.backbone.update(out_channels=64, norm="BN")
    model.proposal_generator.update(pre_nms_topk=(500, 300), post_nms_topk=(300, 150))
    model.proposal_generator.head.in_channels = 64
    model.proposal_generator.anchor_generator.sizes = [[24], [48], [96], [160], [256]]
    heads = model.roi_heads
    heads.update(num_classes=9, batch_size_per_image=64, positive_fraction=0.5)
    heads.train_on_pred_boxes = False
    heads.box_pooler.sampling_ratio = 1
    heads.box_head.fc_dims = [256, 256]
    heads.box_head.input_shape.channels = 64
    heads.box_predictor.input_shape.channels = 256
    heads.box_predictor.test_topk_per_image = 30
    heads.mask_head.train_num_points = 392
