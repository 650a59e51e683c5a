"""Modules that a program holds, and the notebook of the docs. torch exports them, which takes seconds."""

import json
from pathlib import Path

import pytest

import qsens

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytestmark = pytest.mark.slow
NOTEBOOK = Path(__file__).parents[2] / "docs" / "from_python.ipynb"


def test_a_module_in_training_and_half_precision_is_exported_and_stays_as_it_is():
    from tiny_torch import small

    from qsens.generators.live_module import LiveModule

    module, seen = small().half().train(), []
    module.out.register_forward_hook(lambda *given: seen.append(1))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    # A sample without a batch axis; a module alone would take it for a picture of eight channels.
    sample, random = torch.rand(3, 8, 8).half(), torch.get_rng_state()
    live = LiveModule(module)
    digest = live.digest
    model = live.export(None, sample)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert (model.graph.input[0].name, [side.dim_param or side.dim_value for side in sides]) == (
        "image",
        ["batch", 3, 8, 8],
    )
    assert module.training
    assert module.out.weight.dtype is torch.half
    assert len(module.out._forward_hooks) == 1
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert live.digest == digest


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names = {"__name__": "notebook"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert "data:image/png" in names["run"]._repr_html_()
    assert names["chosen"].layers["out"].reason
    assert names["other"].spec.metrics == ("psnr", "object:Closeness")
    assert qsens.open_run("own").study.metrics == ("psnr", "closeness")
