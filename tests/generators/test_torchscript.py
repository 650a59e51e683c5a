import pickle

import pytest
from crafted_archives import RUNS_CODE, parts_of, write_archive
from tiny_torch import torch

from qsens.core.errors import LoadError
from qsens.generators.checkpoint import read_weights

pytestmark = pytest.mark.filterwarnings("ignore")


class Widgets(torch.nn.Module):
    """Every kind of attribute that a scripted module may have."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
        self.shared = self.body[0]
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(2)) for _ in range(2)])
        self.tied = self.body[0].weight
        self.constant = torch.ones(3)
        self.register_buffer("scale", torch.full((2,), 3.0), persistent=False)
        self.names, self.sizes = ["a", "b"], [1, 2]

    def forward(self, image):
        return self.body(image) * self.constant[0] + self.shared(image) * self.scale[1]


class Restored(torch.nn.Module):
    """A module that is restored by code."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        while True:
            self.training = state[1]

    def forward(self, image):
        return image * self.weight[0]


@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_weights_of_torchscript_are_those_of_the_loaded_module(kind, tmp_path):
    path, module = tmp_path / "module.pt", Widgets().eval()
    scripted = (
        torch.jit.script(module) if kind == "scripted" else torch.jit.trace(module, torch.rand(1, 3, 8, 8))
    )
    scripted.save(path)
    expected, found = torch.jit.load(path).state_dict(), read_weights(path)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.fixture(scope="module")
def traced_parts(tmp_path_factory):
    path = tmp_path_factory.mktemp("traced") / "module.pt"
    torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)).save(path)
    return parts_of(path)


def test_a_module_that_restores_itself_is_refused_and_does_not_run(tmp_path):
    path = tmp_path / "module.pt"
    torch.jit.script(Restored()).save(path)
    with pytest.raises(LoadError, match=r"wants to run code.*'Restored' is restored by code of its own"):
        read_weights(path)


@pytest.mark.parametrize("part", ["data.pkl", "constants.pkl"])
def test_pickles_in_torchscript_do_not_run(part, traced_parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_archive(tmp_path / "evil.pt", {**traced_parts, part: RUNS_CODE})
    if part == "data.pkl":
        with pytest.raises(LoadError, match="wants to run code"):
            read_weights(path)
    else:
        assert set(read_weights(path)) == {"weight", "bias"}
    assert not (tmp_path / "ran").exists()


def test_a_class_that_the_archive_does_not_define_is_refused(traced_parts, tmp_path):
    parts = {name: content for name, content in traced_parts.items() if not name.startswith("code/")}
    with pytest.raises(LoadError, match="'Conv2d' is not among its classes"):
        read_weights(write_archive(tmp_path / "evil.pt", parts))


def test_modules_that_hold_each_other_end(traced_parts, tmp_path):
    module = traced_parts["data.pkl"].split(b"\n")[0].removeprefix(b"\x80\x02c__torch__.").decode()
    name = traced_parts["data.pkl"].split(b"\n")[1].decode()
    # A module whose attribute `again` is itself.
    holds_itself = f"c__torch__.{module}\n{name}\n".encode() + b")\x81q\x00}X\x05\x00\x00\x00againh\x00sb."
    with pytest.raises(LoadError, match="no readable tensors"):
        read_weights(
            write_archive(tmp_path / "loop.pt", {**traced_parts, "data.pkl": b"\x80\x02" + holds_itself})
        )


def test_torchscript_that_holds_something_else_is_refused(traced_parts, tmp_path):
    path = write_archive(tmp_path / "list.pt", {**traced_parts, "data.pkl": pickle.dumps([1, 2], 2)})
    with pytest.raises(LoadError, match="is damaged or no checkpoint"):
        read_weights(path)
