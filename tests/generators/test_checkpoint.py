import os
import pickle
from pathlib import Path

import pytest
import tiny_torch
from tiny_torch import safetensors_torch, torch

from qsens.core.errors import LoadError, SpecError
from qsens.generators.checkpoint import read_weights, state_digest, without_prefix
from qsens.generators.torch_module import open_torch

SHAPES = {"image": (1, 3, 8, 8)}


@pytest.fixture(scope="module")
def weights():
    return tiny_torch.small().state_dict()


def save_scripted(weights, path):
    module = tiny_torch.small()
    module.load_state_dict(weights)
    torch.jit.trace(module, torch.zeros(1, 3, 8, 8)).save(path)


SAVERS = {
    "state_dict": torch.save,
    "wrapped": lambda weights, path: torch.save(
        {"state_dict": weights, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}, "global_step": 7},
        path,
    ),
    "data parallel": lambda weights, path: torch.save(
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path
    ),
    "compiled": lambda weights, path: torch.save(
        {f"_orig_mod.{name}": value for name, value in weights.items()}, path
    ),
    "another wrapper": lambda weights, path: torch.save({"params_ema": weights, "iteration": 3}, path),
    "old format": lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=False),
    "safetensors": safetensors_torch.save_file,
    "torchscript": save_scripted,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SAVERS)
def test_every_kind_of_checkpoint_gives_the_same_weights(kind, weights, tmp_path):
    path = tmp_path / "weights.bin"
    SAVERS[kind](weights, path)
    generator = open_torch(path, factory="tiny_torch:small", input_shapes=SHAPES)
    assert generator.digest == state_digest(weights)
    assert generator.name == "weights"
    assert not generator.module.training


def test_a_prefix_is_removed_only_at_the_start_and_only_from_every_key():
    one = torch.zeros(1)
    assert set(without_prefix({"module.a.module.b": one})) == {"a.module.b"}
    assert set(without_prefix({"module.a": one, "b": one})) == {"module.a", "b"}


def test_the_digest_does_not_depend_on_order_and_follows_values(weights):
    backwards = dict(reversed(list(weights.items())))
    changed = {**weights, "out.bias": weights["out.bias"] + 1}
    assert state_digest(backwards) == state_digest(weights) != state_digest(changed)


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("made-by-the-checkpoint",))


@pytest.mark.parametrize("protocol", ["zip", "pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": RunsCode()}, path, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(LoadError, match="wants to run code") as caught:
        read_weights(path)
    assert "--trust-checkpoint" in caught.value.hint
    assert not Path("made-by-the-checkpoint").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_is_refused_and_does_not_run(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"state_dict": RunsCode()}, protocol))
    with pytest.raises(LoadError, match="is a plain pickle"):
        read_weights(path)
    assert not Path("made-by-the-checkpoint").exists()


def test_a_whole_module_needs_trust(tmp_path):
    path = tmp_path / "module.pth"
    torch.save(tiny_torch.small(), path)
    with pytest.raises(LoadError, match=r"wants to run code.*tiny_torch"):
        read_weights(path)
    trusted = read_weights(path, trust_checkpoint=True)
    assert state_digest(trusted) == state_digest(tiny_torch.small().state_dict())


FILES = {
    "empty": (b"", "is empty"),
    "html": (b"\n<!DOCTYPE html><html><title>Quota exceeded</title>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 435\n", "git-LFS pointer"),
    "noise": (bytes(range(256)) * 8, "damaged or no checkpoint"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_no_checkpoint_are_named(case, tmp_path):
    content, message = FILES[case]
    path = tmp_path / "wav2lip.pth"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=message):
        read_weights(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["state_dict", "safetensors", "old format", "torchscript"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_files_are_damaged(kind, share, weights, tmp_path):
    path = tmp_path / "cut.pth"
    SAVERS[kind](weights, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(LoadError, match="is damaged"):
        read_weights(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(LoadError, match="No such file"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(LoadError, match="is a folder"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"x": torch.zeros(1)}, "b": {"y": torch.zeros(1)}}, "it holds: a, b"),
        ({"epoch": 3}, "no tensors at its top"),
        ([torch.zeros(1)], "holds a list"),
    ],
)
def test_dictionaries_without_weights_list_what_they_hold(value, message, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(value, path)
    with pytest.raises(LoadError, match=message):
        read_weights(path)


def test_keys_that_do_not_fit_are_listed(weights, tmp_path):
    path = tmp_path / "weights.pth"
    renamed = {name.replace("out.", "head."): value for name, value in weights.items()}
    torch.save(renamed, path)
    with pytest.raises(LoadError) as caught:
        open_torch(path, factory="tiny_torch:small", input_shapes=SHAPES)
    assert "2 missing: out.weight, out.bias" in caught.value.message
    assert "2 unexpected: head.weight, head.bias" in caught.value.message


def test_another_width_is_named_by_shape(weights, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    with pytest.raises(LoadError, match=r"body.0.weight \(4x3x3x3 in the file, 6x3x3x3 in the module\)"):
        open_torch(path, factory="tiny_torch:small", arguments={"width": 6}, input_shapes=SHAPES)


def test_missing_batch_counters_do_not_matter(weights, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({name: value for name, value in weights.items() if "num_batches" not in name}, path)
    open_torch(path, factory="tiny_torch:small", input_shapes=SHAPES)


@pytest.mark.parametrize(
    ("factory", "message", "hint"),
    [
        ("tiny_torch", "not a factory", "package.module:function"),
        ("tiny_torhc:small", "cannot import 'tiny_torhc'", "install the package"),
        ("tiny_torch:smallest", "has no 'smallest'", "did you mean 'small'"),
        ("tiny_torch:not_a_module", "returned a str", "torch.nn.Module"),
        ("tiny_torch:__doc__", "is not a function", "package.module:function"),
    ],
)
def test_wrong_factories(factory, message, hint):
    with pytest.raises(SpecError, match=message) as caught:
        open_torch(None, factory=factory, input_shapes=SHAPES)
    assert hint in caught.value.hint


def test_wrong_factory_arguments_show_the_right_ones():
    with pytest.raises(SpecError, match="'depth'") as caught:
        open_torch(None, factory="tiny_torch:small", arguments={"depth": 3}, input_shapes=SHAPES)
    assert "width" in caught.value.hint


@pytest.mark.parametrize(
    ("shapes", "message", "hint"),
    [
        (None, "does not say what goes in", "--input-shape image=1x3x96x96"),
        ({"imge": (1, 3, 8, 8)}, "no parameter named 'imge'", "did you mean 'image'"),
    ],
)
def test_unknown_inputs(shapes, message, hint):
    with pytest.raises(SpecError, match=message) as caught:
        open_torch(None, factory="tiny_torch:small", input_shapes=shapes)
    assert hint in caught.value.hint


def test_every_required_input_needs_a_shape():
    with pytest.raises(SpecError, match="no shape for input 'audio'"):
        open_torch(None, factory="tiny_torch:everything", input_shapes={"image": (1, 3, 8, 8)})


def test_a_module_that_cannot_run_on_its_inputs_is_one_clear_error():
    generator = open_torch(None, factory="tiny_torch:small", input_shapes={"image": (1, 4, 8, 8)})
    with pytest.raises(LoadError, match="cannot run on image 1x4x8x8"):
        generator.export()
