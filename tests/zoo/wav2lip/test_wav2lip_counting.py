import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from qsens.generators.torch_module import TorchModule
from qsens.run.open import load_graph
from qsens.zoo.cli.table2 import table2
from qsens.zoo.wav2lip.generator import Wav2Lip
from qsens.zoo.wav2lip.table2 import Cost, cost_of

# Measured with torchprofile 0.1.0 (the paper's convention) and torch's FlopCounterMode (true).
PINNED = {
    (1.0, True): Cost(36_298_035, 3_966_984_192, 6_206_881_024, 51),
    (0.25, True): Cost(2_275_983, 256_300_032, 397_130_560, 51),
    (0.25, False): Cost(1_258_143, 75_002_880, 215_161_472, 23),
}


def test_a_convolution_by_hand():
    module = nn.Sequential(nn.Conv2d(3, 8, (3, 5), padding=1, stride=2), nn.BatchNorm2d(8))
    # Output 8x4x3 from 8x8: 96 elements, 3 * 15 taps each.
    counted = cost_of(module, {"input": torch.zeros(1, 3, 8, 8)})
    assert counted == Cost(8 * 45 + 8 + 16, 96 * 45, 96 * 45 + 96, 1)


def test_a_transposed_convolution_by_hand():
    module = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1))
    # 25 positions of 4 channels, each multiplied with 6 * 9 weights; 100 positions come out.
    counted = cost_of(module, {"input": torch.zeros(1, 4, 5, 5)})
    assert counted == Cost(4 * 54 + 6, 25 * 4 * 54, 100 * 6 * 4 * 9, 1)


def test_groups_and_matrix_products_by_hand():
    grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
    assert cost_of(grouped, {"input": torch.zeros(1, 8, 2, 2)}).macs == 32 * 2 * 9
    assert cost_of(nn.Linear(10, 7), {"input": torch.zeros(1, 10)}).macs == 70


def test_counting_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    before = module[1].running_mean.clone()
    cost_of(module, {"input": torch.ones(1, 1, 2, 2)})
    assert module.training
    assert torch.equal(module[1].running_mean, before)
    assert not module[0]._forward_hooks


@pytest.mark.parametrize(("width", "residual"), PINNED)
def test_costs_of_the_paper(width, residual):
    with torch.device("meta"):
        module = Wav2Lip(width, residual=residual)
        inputs = {"mel": torch.empty(1, 1, 80, 16), "face": torch.empty(1, 6, 96, 96)}
        assert cost_of(module, inputs) == PINNED[width, residual]


def test_true_macs_without_residual_layers_at_full_width():
    with torch.device("meta"):
        module = Wav2Lip(1.0, residual=False)
        inputs = {"mel": torch.empty(1, 1, 80, 16), "face": torch.empty(1, 6, 96, 96)}
        assert cost_of(module, inputs).macs == 1_066_229_760


@pytest.mark.slow
@pytest.mark.parametrize("residual", [True, False])
def test_the_exported_graph_costs_the_same(residual):
    module = Wav2Lip(0.25, residual=residual).eval()
    graph = load_graph(TorchModule("generator", module, module.example_inputs()))
    pinned = PINNED[0.25, residual]
    assert sum(layer.macs for layer in graph.layers) == pinned.macs
    assert sum(layer.macs_torchprofile for layer in graph.layers) == pinned.macs_torchprofile
    assert len(graph.layers) == pinned.layers


@pytest.fixture(scope="module")
def as_json():
    done = CliRunner().invoke(table2, ["--json"], catch_exceptions=False)
    return json.loads(done.output)


def test_table2_agrees_with_every_digit_of_the_paper(as_json):
    rows = {row["name"]: row for row in as_json["generators"]}
    for row in rows.values():
        millions, _, ratio = row["paper_parameters"].partition(" ")
        assert f"{row['parameters'] / 1e6:.1f}M" == millions
        assert ratio in ("", f"({row['parameters_ratio']:.1f}x)")
        giga, _, ratio = row["paper_macs"].partition(" ")
        assert f"{row['macs_torchprofile'] / 1e9:.2f}G" == giga
        assert ratio in ("", f"({row['macs_paper_ratio']:.1f}x)")
    assert [row["layers"] for row in rows.values()] == [51, 51, 23, 51]
    assert round(rows["student"]["macs_ratio"], 2) == 52.89
    assert round(rows["student-residual"]["macs_ratio"], 2) == 15.48


def test_table2_counts_the_networks_that_train_and_judge(as_json):
    assert [helper["parameters"] for helper in as_json["helpers"]] == [16_435_072, 14_113_793, 13_631_616]
    assert round(as_json["helpers"][0]["macs"] / 1e9, 2) == 1.21
    assert any("output resolution" in note for note in as_json["notes"])


def test_table2_as_text_and_csv(monkeypatch):
    from qsens.zoo.wav2lip import table2 as content

    cost = PINNED[0.25, False]
    row = content.Row("student", "small", cost, 28.85, 28.85, 52.89, "1.3M", "0.22G")
    monkeypatch.setattr(content, "generator_rows", lambda: (row,))
    monkeypatch.setattr(content, "helper_rows", lambda: (content.Helper("expert", row.cost),))
    text = CliRunner().invoke(table2, [], catch_exceptions=False).output
    assert "student    1,258,143 (28.9x)  1.3M   0.2152G (28.9x)  0.22G  0.0750G (52.9x)      23" in text
    assert max(map(len, text.splitlines())) <= 110
    lines = CliRunner().invoke(table2, ["--csv"], catch_exceptions=False).output.splitlines()
    assert lines[0].startswith("name,title,parameters,macs,macs_torchprofile,layers,")
    assert lines[1].startswith("student,small,1258143,75002880,215161472,23,")
    both = CliRunner().invoke(table2, ["--csv", "--json"])
    assert both.exit_code != 0
