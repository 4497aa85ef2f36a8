"""The coarse mask head against Detectron2's, and where that fails."""

import copy

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend.mask_head import ConvFCHead as BuiltinConvFCHead
from torch import nn

from layer_changes import wrap
from pointrend_seg.modeling.coarse_mask_head import ConvFCHead


def ours(in_channels=24, size=14, fc_dims=(20, 20), output_shape=(5, 7, 7)):
    torch.manual_seed(0)
    settings = {"conv_dim": 16, "fc_dims": list(fc_dims), "output_shape": output_shape}
    return ConvFCHead(in_channels=in_channels, pooler_size=size, **settings)


def theirs(in_channels=24, size=14, fc_dims=(20, 20), output_shape=(5, 7, 7)):
    torch.manual_seed(0)
    settings = {"conv_dim": 16, "fc_dims": list(fc_dims), "output_shape": output_shape}
    return BuiltinConvFCHead(ShapeSpec(channels=in_channels, height=size, width=size), **settings)


@pytest.mark.parametrize("in_channels", [24, 16])
@pytest.mark.parametrize("output_shape", [(5, 7, 7), (321,)], ids=str)
def test_same_weights_same_output_as_detectron2(in_channels, output_shape):
    mine = ours(in_channels, output_shape=output_shape)
    builtin = theirs(in_channels, output_shape=output_shape)
    assert list(mine.state_dict()) == list(builtin.state_dict())
    assert all(map(torch.equal, mine.state_dict().values(), builtin.state_dict().values()))
    x = torch.randn(3, in_channels, 14, 14)
    assert torch.equal(mine(x), builtin(x))
    assert mine(x).shape == (3, *output_shape)


def test_fewer_channels_than_conv_dim():
    with pytest.raises(RuntimeError, match="channels"):
        theirs(in_channels=8)(torch.randn(2, 8, 14, 14))
    assert ours(in_channels=8)(torch.randn(2, 8, 14, 14)).shape == (2, 5, 7, 7)


@pytest.mark.parametrize("size", [2, 3, 7, 15])
def test_pooler_sizes(size):
    """Of an odd size the last row and column do not count."""
    x = torch.randn(2, 24, size, size)
    if size % 2:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            theirs(size=size)(x)
    head, even = ours(size=size), 2 * (size // 2)
    got = head(x)
    assert got.shape == (2, 5, 7, 7)
    torch.testing.assert_close(head(x[:, :, :even, :even]), got)


def test_no_hidden_layer():
    with pytest.raises(IndexError):
        theirs(fc_dims=())
    assert ours(fc_dims=())(torch.randn(2, 24, 14, 14)).shape == (2, 5, 7, 7)


def test_no_box_gives_gradients_of_zero():
    head = ours()
    got = head(torch.zeros(0, 24, 14, 14))
    assert got.shape == (0, 5, 7, 7)
    got.sum().backward()
    assert all(value.grad.eq(0).all() for value in head.parameters())


LAYERS = ["reduce_channel_dim_conv", "reduce_spatial_dim_conv", "fc1", "fc2", "prediction"]


@pytest.mark.parametrize("name", LAYERS)
def test_a_swapped_layer_is_used(name):
    x, head, builtin = torch.randn(2, 24, 14, 14), ours(), theirs()
    for changed, is_used in ((head, True), (builtin, name == "prediction")):
        before = changed(x)
        wrap(changed, name)
        assert torch.equal(changed(x), before) != is_used


@pytest.mark.parametrize("name", LAYERS)
def test_hooks_of_layers_are_called(name):
    head, calls = ours(), []
    getattr(head, name).register_forward_hook(lambda *_: calls.append(name))
    head(torch.randn(2, 24, 14, 14))
    assert calls == [name]


def test_dynamic_quantisation():
    """Detectron2's head goes on with the layers in its list, as they were."""
    head, x = ours(), torch.randn(2, 24, 14, 14)
    want = head(x)
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(head), {nn.Linear})
    assert "quantized" in type(quantised.fc1).__module__
    calls = []
    quantised.fc1.register_forward_hook(lambda *_: calls.append("fc1"))
    got = quantised(x)
    assert calls == ["fc1"]
    assert 0 < (got - want).abs().max() < 0.05 * want.abs().max() + 1e-3


def in_old_format(state_dict, prefix=""):
    return {
        name.replace(f"{prefix}fc", f"{prefix}coarse_mask_fc"): value
        for name, value in state_dict.items()
    }


def test_weights_of_the_format_before_version_2(caplog):
    head = ours()
    want = {name: torch.randn_like(value) for name, value in head.state_dict().items()}
    old = in_old_format(want)
    assert "coarse_mask_fc1.weight" in old
    with caplog.at_level("INFO"):
        head.load_state_dict(old, strict=True)
    assert all(torch.equal(value, want[name]) for name, value in head.state_dict().items())
    assert "before version 2: coarse_mask_fc* -> fc*" in caplog.text


def test_weights_of_the_old_format_in_a_model():
    model = nn.ModuleDict({"coarse_head": ours(), "parameter_head": ours()})
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(in_old_format(state, "coarse_head."), strict=True)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_weights_of_the_present_format_both_ways(caplog):
    mine, builtin = ours(), theirs()
    for value in mine.parameters():
        nn.init.normal_(value)
    builtin.load_state_dict(mine.state_dict(), strict=True)
    back = ours()
    with caplog.at_level("INFO"):
        back.load_state_dict(builtin.state_dict(), strict=True)
    assert torch.equal(back.fc1.weight, mine.fc1.weight)
    assert "version 2" not in caplog.text
