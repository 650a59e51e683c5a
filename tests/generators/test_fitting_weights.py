"""Checkpoints as trainers write them, matched against the keys of a module."""

import json

import pytest
import tiny_torch
from tiny_torch import nn, safetensors_torch, torch

from qsens.core.errors import LoadError, SpecError
from qsens.generators.checkpoint import state_digest
from qsens.generators.torch_export import inputs_and_outputs
from qsens.generators.torch_module import open_torch

FACTORY = f"{__name__}:{{}}".format
SHAPES = {"image": (1, 3, 8, 8)}


class Pair(nn.Sequential):
    """Two convolutions."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))

    def forward(self, image):
        return super().forward(image)


def tied():
    """Two convolutions of one weight."""
    torch.manual_seed(6)
    module = Pair()
    module[1].weight = module[0].weight
    return module


class WithLabel(nn.Module):
    """An image, a class number and a mask."""

    def __init__(self):
        super().__init__()
        self.classes = nn.Embedding(4, 3)
        self.out = nn.Conv2d(3, 3, 1)

    def forward(self, image, label):
        return self.out(image + self.classes(label)[:, :, None, None])


class WithOrder(nn.Module):
    """Channels in an order that a buffer of whole numbers holds."""

    def __init__(self):
        super().__init__()
        self.out = nn.Conv2d(3, 3, 1)
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, image):
        return self.out(image)[:, self.order]


class WithDecay(nn.Module):
    """A value that it computes with bears the name of a counter."""

    def __init__(self):
        super().__init__()
        self.out = nn.Conv2d(3, 3, 1)
        self.register_buffer("decay", torch.ones(1))

    def forward(self, image):
        return self.out(image) * self.decay


def under(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


RAW = tiny_torch.small().state_dict()
OTHER = {name: value + 1 for name, value in RAW.items()}
PARAMETERS_ONLY = {name: value for name, value in OTHER.items() if "running" not in name}
ADAM = {
    "state": {0: {"exp_avg": torch.zeros(4, 3, 3, 3), "step": torch.tensor(9.0)}},
    "param_groups": [{"lr": 1}],
}
DISCRIMINATOR = {"conv.weight": torch.zeros(1, 3, 4, 4)}


def opened(content, tmp_path, *, factory="tiny_torch:small", save=torch.save, name="weights.pth", **options):
    save(content, tmp_path / name)
    return open_torch(tmp_path / name, factory=factory, input_shapes=SHAPES, **options)


WRITTEN = {
    "basicsr": {"params_ema": RAW},
    "stylegan2": {"g_ema": RAW, "d": DISCRIMINATOR, "g_optim": ADAM, "latent_avg": torch.zeros(8)},
    "statistics beside the weights": {**RAW, "latent_avg": torch.zeros(8)},
    "lightning": {
        "state_dict": under("generator.", RAW) | under("discriminator.", DISCRIMINATOR),
        "optimizer_states": [ADAM],
        "callbacks": {"EarlyStopping": {"best": torch.tensor(1.0)}},
    },
    "lightning, both alike": {"state_dict": under("netD.", OTHER) | under("netG.", RAW)},
    "averaged": {"n_averaged": torch.tensor(3), **under("module.", RAW)},
    "averaged and compiled": {"n_averaged": torch.tensor(3), **under("module._orig_mod.", RAW)},
    "parallel in compiled": {"model": under("_orig_mod.module.", RAW), "optimizer": ADAM},
    "a compiled part": {name.replace("body.", "body._orig_mod."): value for name, value in RAW.items()},
    "profiled": {**RAW, "total_ops": torch.zeros(1), "body.0.total_params": torch.zeros(1)},
    "deep": {"states": {"networks": {"netG": RAW, "netD": DISCRIMINATOR}}},
    "parts in dicts": {
        "body": {name[5:]: value for name, value in RAW.items() if name.startswith("body.")},
        "out": {"weight": RAW["out.weight"], "bias": RAW["out.bias"]},
    },
    "an optimiser's averages by name": {
        "model": RAW,
        "optimizer": {"exp_avg": OTHER, "exp_avg_sq": RAW},
        "optim_g": OTHER,
    },
    "a list of dicts": [{"epoch": 3}, {"model": RAW}, ADAM],
    "a pair": (RAW, ADAM),
    "a critic of each side": {"netG": RAW, "netD_A": OTHER, "net_d_b": OTHER},
    "twice the same": {"state_dict": RAW, "model": {name: value.clone() for name, value in RAW.items()}},
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_weights_are_found_wherever_they_are(kind, tmp_path):
    generator = opened(WRITTEN[kind], tmp_path)
    assert generator.digest == state_digest(RAW)
    assert generator.weights_read.startswith(f"read {len(RAW)} tensors of weights.pth, ")


@pytest.mark.parametrize(
    ("content", "choices"),
    [
        ({"params": RAW, "params_ema": OTHER}, ("params", "params_ema")),
        ([RAW, OTHER], ("0", "1")),
        (under("online_model.", RAW) | under("ema_model.", OTHER), ("online_model", "ema_model")),
    ],
)
def test_several_that_fit_are_a_choice(content, choices, tmp_path):
    with pytest.raises(LoadError, match="different weights that fit") as caught:
        opened(content, tmp_path)
    assert all(choice in caught.value.message for choice in choices)
    assert caught.value.hint == f"say which: --option model.weights={choices[1]}"
    assert opened(content, tmp_path, weights=choices[0]).digest == state_digest(RAW)
    assert opened(content, tmp_path, weights=choices[1]).digest == state_digest(OTHER)


def test_the_usual_place_is_taken_and_the_others_are_named(tmp_path):
    content = {"state_dict": RAW, "state_dict_ema": OTHER}
    generator = opened(content, tmp_path)
    assert generator.digest == state_digest(RAW)
    assert "'state_dict_ema' would fit too" in generator.weights_read
    named = opened(content, tmp_path, weights="state_dict_ema")
    assert named.digest == state_digest(OTHER)
    assert named.weights_read == "read 9 tensors of weights.pth, under 'state_dict_ema'"


@pytest.mark.parametrize("wanted", ["state_dict_ema", "state_dict_ema.module"])
def test_a_dict_is_named_with_or_without_the_prefix_in_it(wanted, tmp_path):
    content = {"state_dict": RAW, "state_dict_ema": under("module.", OTHER)}
    assert opened(content, tmp_path, weights=wanted).digest == state_digest(OTHER)


def test_a_dict_that_is_not_there(tmp_path):
    with pytest.raises(SpecError, match="under 'ema'") as caught:
        opened({"params": RAW}, tmp_path, weights="ema")
    assert "'params'" in caught.value.hint


def test_an_average_without_statistics_is_named_and_not_taken(tmp_path):
    generator = opened({"state_dict": RAW, "ema": PARAMETERS_ONLY}, tmp_path)
    assert "'ema' lack 2 of the module's keys" in generator.weights_read
    with pytest.raises(LoadError, match=r"2 missing: body\.1\.running_mean, body\.1\.running_var"):
        opened({"state_dict": RAW, "ema": PARAMETERS_ONLY}, tmp_path, weights="ema")


SHADOW = [value for name, value in RAW.items() if name.endswith(("weight", "bias"))]


def test_an_average_without_names_is_told_in_words(tmp_path):
    average = {"shadow_params": SHADOW, "decay": 0.99}
    assert "'ema.shadow_params' has as many" in opened({"model": RAW, "ema": average}, tmp_path).weights_read
    with pytest.raises(LoadError) as caught:
        opened(average, tmp_path)
    assert "'shadow_params' is a list of tensors without names" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"g_ema": {**RAW, "out.weight": torch.zeros(3, 6, 1, 1)}, "d": DISCRIMINATOR},
            r"'g_ema' fit best; keys 1 of another shape: out.weight \(3x6x1x1 in the file, 3x4x1x1",
        ),
        ({"model": {**RAW, "more.weight": torch.zeros(3)}}, "1 unexpected: more.weight"),
        ({"model": {**RAW, "out.bias": torch.zeros(3, dtype=torch.int8)}}, r"out.bias \(int8 in the file"),
        ({"optimizer": {"exp_avg": RAW}}, "none of the module's keys; its own begin with optimizer.exp_avg"),
        (
            {"netG": {**RAW, "more.weight": torch.zeros(3)}, "netD": OTHER},
            "'netG' fit best; keys 1 unexpected",
        ),
        (DISCRIMINATOR, "none of the module's keys; its own begin with conv.weight"),
        ({"epoch": 3}, "none of the module's keys"),
    ],
)
def test_near_misses_list_the_first_keys(content, message, tmp_path):
    with pytest.raises(LoadError, match=message):
        opened(content, tmp_path)


def test_a_value_named_like_a_counter_must_be_there(tmp_path):
    weights = WithDecay().state_dict()
    factory = FACTORY("WithDecay")
    assert opened(weights, tmp_path, factory=factory).digest == state_digest(weights)
    with pytest.raises(LoadError, match="keys 1 missing: decay"):
        opened({name: value for name, value in weights.items() if name != "decay"}, tmp_path, factory=factory)


def test_whole_numbers_stored_as_floats_must_be_whole(tmp_path):
    weights, factory = WithOrder().state_dict(), FACTORY("WithOrder")
    stored = {**weights, "order": weights["order"].float()}
    assert opened(stored, tmp_path, factory=factory).digest == state_digest(weights)
    with pytest.raises(LoadError, match=r"order \(float32 in the file, int64 in the module\)"):
        opened({**stored, "order": stored["order"] + 0.5}, tmp_path, factory=factory)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_weights_are_widened_and_said(dtype, tmp_path):
    narrow = {name: value.to(getattr(torch, dtype)) if value.ndim else value for name, value in RAW.items()}
    generator = opened({"params": narrow}, tmp_path)
    assert generator.digest == state_digest(
        {name: value.to(RAW[name].dtype) for name, value in narrow.items()}
    )
    assert generator.weights_read.endswith(f"{dtype} read as float32")


@pytest.mark.parametrize("factory", ["tied", "Pair"])
def test_tied_weights_are_stored_once(factory, tmp_path):
    def save(module, path):
        safetensors_torch.save_model(module, str(path))

    generator = opened(tied(), tmp_path, factory=FACTORY(factory), save=save, name="tied.safetensors")
    assert generator.digest == state_digest(tied().state_dict())


def test_a_missing_twin_is_the_tied_one_and_a_different_twin_is_refused(tmp_path):
    weights = tied().state_dict()
    once = {name: value for name, value in weights.items() if name != "1.weight"}
    assert opened(once, tmp_path, factory=FACTORY("tied")).digest == state_digest(weights)
    with pytest.raises(LoadError, match=r"1 different here and one tensor in the module: 1\.weight"):
        opened({**weights, "1.weight": weights["0.weight"] + 1}, tmp_path, factory=FACTORY("tied"))


def test_the_parts_of_an_index_are_joined(tmp_path):
    names = list(RAW)
    parts = {"model-00001-of-00002.safetensors": names[:4], "model-00002-of-00002.safetensors": names[4:]}
    for part, held in parts.items():
        safetensors_torch.save_file({name: RAW[name] for name in held}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {name: part for part, held in parts.items() for name in held}})
    )
    assert open_torch(index, factory="tiny_torch:small", input_shapes=SHAPES).digest == state_digest(RAW)
    with pytest.raises(LoadError) as caught:
        open_torch(tmp_path / next(iter(parts)), factory="tiny_torch:small", input_shapes=SHAPES)
    assert ".index.json" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"weight_map": {"a": "../other.pth"}}', '{"weight_map": {"a": 3}}']
)
def test_a_wrong_index_is_refused(text, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(LoadError, match="damaged"):
        open_torch(index, factory="tiny_torch:small", input_shapes=SHAPES)


def test_a_whole_module_beside_others_needs_trust(tmp_path):
    content = {"g_ema": tiny_torch.small(), "args": {"size": 8}}
    with pytest.raises(LoadError, match="wants to run code"):
        opened(content, tmp_path)
    assert opened(content, tmp_path, trust_checkpoint=True).digest == state_digest(RAW)


def test_a_file_that_holds_itself_ends(tmp_path):
    content = {"params": RAW}
    content["self"] = content
    assert opened(content, tmp_path).digest == state_digest(RAW)


def test_an_input_of_whole_numbers_gets_them_where_the_module_asks():
    given = open_torch(None, factory=FACTORY("WithLabel"), input_shapes={**SHAPES, "label": (1,)})
    inputs, output = inputs_and_outputs(given.module, given.example_inputs)
    assert {name: value.dtype for name, value in inputs.items()} == {
        "image": torch.float32,
        "label": torch.int64,
    }
    assert output.shape == (1, 3, 8, 8)
