import hashlib

import numpy as np
import pytest
import torch

from qsens.core.errors import LoadError
from qsens.scoring.cpu_torchvision import import_torchvision
from qsens.zoo.training import extractors
from qsens.zoo.training.extractors import Vgg16Stages, open_extractor

PICTURES = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def torchvision_weights(tmp_path, monkeypatch):
    """Random weights in torchvision's format, and the network they came from; its digest is expected."""
    torch.manual_seed(0)
    vgg = import_torchvision().models.vgg
    network = vgg.make_layers(vgg.cfgs["D"])  # the whole network has 120 million weights more
    path = tmp_path / "vgg16.pth"
    state = {f"features.{name}": value for name, value in network.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(4)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(extractors, "VGG16_SHA256_PREFIX", digest[:8])
    return path, network


@pytest.mark.slow
def test_vgg16_stages_are_those_of_torchvision(torchvision_weights):
    path, network = torchvision_weights
    extractor = open_extractor("vgg16", path)
    expected = [network[: end + 1](PICTURES) for end in (3, 8, 15, 22)]
    found = extractor.stages(PICTURES)
    assert [stage.shape for stage in found] == [stage.shape for stage in expected]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert extractor.identity.startswith("vgg16/")
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


@pytest.mark.slow
def test_auto_prefers_given_weights_then_the_cache_then_the_embedded_extractor(
    torchvision_weights, monkeypatch, tmp_path
):
    path, _ = torchvision_weights
    assert open_extractor("auto", path).identity.startswith("vgg16/")
    monkeypatch.setattr(extractors, "cached_vgg16", lambda: path)
    assert open_extractor("auto", None).identity.startswith("vgg16/")
    monkeypatch.setattr(extractors, "cached_vgg16", lambda: None)
    assert open_extractor("auto", None).identity.startswith("lite0/")
    monkeypatch.setattr(extractors, "_lite0", raising_load_error)
    assert "random" in open_extractor("auto", None).identity


def raising_load_error():
    raise LoadError("not installed")


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(b"something else")
    with pytest.raises(LoadError, match="sha256 starts with") as caught:
        open_extractor("vgg16", path)
    assert "vgg16-397923af.pth" in caught.value.hint


def test_the_random_extractor_is_always_the_same_and_says_so():
    one, other = (open_extractor("random", None) for _ in range(2))
    assert isinstance(one, Vgg16Stages)
    assert "random" in one.identity
    stages = zip(one.stages(PICTURES), other.stages(PICTURES), strict=True)
    assert all(torch.equal(first, second) and float(first.std()) > 1e-3 for first, second in stages)


def test_lite0_stages_are_those_of_the_published_torch_network():
    published = pytest.importorskip("efficientnet_lite_pytorch")
    from qsens.scoring.lite0 import locate_weights

    network = published.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(locate_weights(), weights_only=True))
    network.eval()
    extractor = open_extractor("lite0", None)
    doubled = torch.nn.functional.interpolate(PICTURES, scale_factor=2, mode="bilinear")
    current = network._swish(network._bn0(network._conv_stem((doubled * 255 - 127) / 128)))
    expected = []
    for index, block in enumerate(network._blocks[:11]):
        current = block(current)
        if index in (0, 2, 4, 10):
            expected.append(current)
    found = extractor.stages(PICTURES)
    assert [stage.shape[-1] for stage in found] == [32, 16, 8, 4]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), atol=2e-3)
