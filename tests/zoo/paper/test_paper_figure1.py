import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from qsens.zoo.paper.classifiers import CLASSIFIERS, Work, vit_b16, work_of
from qsens.zoo.paper.figure1 import Network, cost_text, figure1, networks


@pytest.fixture(scope="module")
def counted():
    return networks()


def test_counts_by_hand_of_a_convolution_its_norm_and_a_transposed_one():
    module = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 2, 2))
    work = work_of(module, {"x": torch.zeros(1, 2, 5, 5)})
    first, transposed = 4 * 25 * 2 * 9, 4 * 25 * 3 * 4
    assert work.macs == first + transposed
    assert work.macs_paper == first + 4 * 25 + 4 * transposed
    assert work.parameters == (2 * 4 * 9 + 4) + 8 + (4 * 3 * 4 + 3)
    assert module.training


@pytest.mark.slow
def test_classifiers_have_the_published_parameters_and_cost(counted):
    by_name = {network.name: network for network in counted}
    for known in CLASSIFIERS:
        work = by_name[known.name].work
        assert work.parameters == known.parameters
        assert round(work.macs / 1e9, 3) == known.giga_macs


def test_attention_agrees_with_torchs_own_counter():
    with torch.device("meta"):
        module, picture = vit_b16().eval(), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        module(picture)
    assert work_of(module, {"x": picture}).macs * 2 == counter.get_total_flops()


def test_generators_have_the_pinned_cost(counted):
    found = {network.name: (network.work.macs, network.work.macs_paper) for network in counted}
    assert found["teacher"] == (3_966_984_192, 6_206_881_024)
    assert found["student-residual"] == (256_300_032, 397_130_560)
    assert found["student"] == (75_002_880, 215_161_472)


def test_generators_come_after_classifiers_each_from_small_to_large(counted):
    for is_generator in (False, True):
        costs = [network.work.macs for network in counted if network.is_generator is is_generator]
        assert costs == sorted(costs)
    assert [network.is_generator for network in counted] == sorted(n.is_generator for n in counted)


def test_every_published_cost_is_near_ours_in_its_convention(counted):
    for network in counted:
        ours = network.work.macs_paper if network.is_generator else network.work.macs
        assert network.published_macs == pytest.approx(ours, rel=0.025)
        assert network.published_source


def test_a_second_is_25_frames():
    assert Network("n", "N", True, Work(1, 40, 50), None, "").macs_per_second == 1000


def test_the_text_names_both_counts_where_they_differ():
    assert cost_text(Network("n", "N", True, Work(1, 75_002_880, 215_161_472), None, "")) == (
        "0.075 (paper's count 0.215)"
    )
    assert cost_text(Network("n", "N", False, Work(1, 4_089_184_256, 4_100_298_240), None, "")) == "4.09"


def test_the_figure_has_a_row_a_network(counted):
    axes = figure1(counted).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [network.title for network in counted]
    low, high = axes.get_xlim()
    assert all(
        low < network.work.macs / 1e9 < network.work.macs_paper / 1e9 * 1.01 < high for network in counted
    )
