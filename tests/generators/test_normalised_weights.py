"""Weights that were saved with weight or spectral normalisation, under either of torch's names for them."""

import warnings

import numpy as np
import pytest
from tiny_torch import nn, torch

from qsens.core.errors import LoadError
from qsens.generators.normalised_weights import other_spellings
from qsens.generators.torch_module import open_torch

SHAPES = {"input": (1, 3, 4, 4)}
NEW = torch.nn.utils.parametrizations
WAYS = {
    "plain": lambda layer: layer,
    "weight_norm": nn.utils.weight_norm,
    "new_weight_norm": NEW.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "new_spectral_norm": NEW.spectral_norm,
}


def module(way, seed=0):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(WAYS[way](nn.Conv2d(3, 4, 1)), nn.ReLU(), WAYS[way](nn.ConvTranspose2d(4, 3, 2)))


class Wrapped(nn.Module):
    """The generator one level down."""

    def __init__(self, way):
        super().__init__()
        self.net = module(way, seed=1)

    def forward(self, image):
        return self.net(image)


def opened(saved, way, tmp_path):
    torch.save(saved, tmp_path / "weights.pth")
    return open_torch(
        tmp_path / "weights.pth", factory=f"{__name__}:module", arguments={"way": way}, input_shapes=SHAPES
    )


@pytest.mark.parametrize(
    ("saved", "read"),
    [
        ("weight_norm", "new_weight_norm"),
        ("new_weight_norm", "weight_norm"),
        ("spectral_norm", "new_spectral_norm"),
    ],
)
def test_the_other_way_to_write_it_holds_the_same_values(saved, read, tmp_path):
    source = module(saved).eval()
    weights = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
    generator = opened({"generator": weights}, read, tmp_path)
    kind = saved.removeprefix("new_").replace("_", " ")
    assert f"its {kind} is named as another way of torch does, and was renamed" in generator.weights_read
    image = np.random.default_rng(0).random(SHAPES["input"]).astype(np.float32)
    with torch.no_grad():
        expected = source(torch.from_numpy(image)).numpy()
        actual = generator.module(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("saved", "read", "hint"),
    [
        ("weight_norm", "plain", "the file has weight norm: let the factory apply it"),
        ("new_spectral_norm", "plain", "the file has spectral norm: let the factory apply it"),
        ("plain", "new_weight_norm", "the module has weight norm and the file has not"),
    ],
)
def test_one_that_is_missing_on_one_side_is_named(saved, read, hint, tmp_path):
    with pytest.raises(LoadError, match="does not fit the module") as caught:
        opened(module(saved).state_dict(), read, tmp_path)
    assert hint in caught.value.hint


def test_names_that_agree_or_are_incomplete_stay():
    old, new = module("weight_norm").state_dict(), module("new_weight_norm").state_dict()
    assert other_spellings(old, old) == other_spellings(new, new) == {}
    assert other_spellings(["up.weight_g"], new) == {}
    assert other_spellings(["0.weight_g", "0.weight_v"], new) == {
        "0.weight_g": "0.parametrizations.weight.original0",
        "0.weight_v": "0.parametrizations.weight.original1",
    }


def test_a_file_of_other_keys_is_shown_beside_the_modules_own(tmp_path):
    torch.save(module("plain").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(LoadError, match=r"its own begin with .*, the module's with net\.0\.weight"):
        open_torch(
            tmp_path / "weights.pth",
            factory=f"{__name__}:Wrapped",
            arguments={"way": "plain"},
            input_shapes=SHAPES,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor.to("meta"), "holds no values for '0.weight'"),
        (lambda tensor: tensor.to_sparse(), "holds '0.weight' in the form sparse_coo"),
    ],
)
def test_tensors_without_values_of_their_own_are_refused(change, message, tmp_path):
    weights = module("plain").state_dict()
    with pytest.raises(LoadError, match=message):
        opened({**weights, "0.weight": change(weights["0.weight"])}, "plain", tmp_path)
