"""The search benchmark: its reference schemes, what it counts as missed, and its file of scores."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from qsens.core.interfaces import Extractor, ScoringContext
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision
from qsens.search.enumerations import Boundary, Exhaustive
from qsens.testing import check_strategy, example_layers

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the benchmarks by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def problem_of(module, damage, macs):
    """A problem of one seed whose damage is a function of the numbers of the INT8 groups."""
    scores = module("search_scores")
    layers = tuple(
        scores.plain_layer(index, name=f"conv{index}", block=f"group{index}", macs=size)
        for index, size in enumerate(macs)
    )
    measures = {}
    for word, requested in scores.every_map(layers):
        inside = {place for place, bit in enumerate(word) if bit == "1"}
        measures[requested] = (scores.Measure(damage(inside), 0.0, 50.0),)
    return scores.Problem("test", layers, measures, measures, 8, 2, 0.0)


def words(problem, trials) -> list[str]:
    """INT8 groups of each trial after the anchors."""
    return [
        "".join(
            str(index)
            for index, layer in enumerate(problem.layers)
            if trial.requested[layer.name] is Precision.INT8
        )
        for trial in trials[3:]
    ]


@pytest.mark.parametrize("name", ["RankedBinarySearch", "GreedyRevert"])
@pytest.mark.parametrize("budget", [0.0, 1.5, 3.0, 100.0])
@pytest.mark.parametrize("per_block", [1, 2])
def test_the_schemes_keep_the_contract_of_strategies(module, name, budget, per_block):
    scheme = getattr(module("search_schemes"), name)(budget=budget, metric="fid-fp32")
    check_strategy(scheme, example_layers(6, per_block=per_block))


def test_ranked_bisection_finds_the_longest_part_of_the_ranking_within_the_budget(module):
    own = [4.0, 0.5, 2.0, 1.0, 8.0]
    problem = problem_of(module, lambda inside: sum(own[place] for place in inside), [1] * 5)
    scheme = module("search_schemes").RankedBinarySearch(budget=3.6, metric="fid-fp32[lite0]")
    trials = module("search").replayed(scheme, problem, 0)
    # Ranking 1 3 2 0 4: three of five, which is 3.5; then four, which is 7.5.
    assert words(problem, trials) == ["0", "1", "2", "3", "4", "123", "0123"]


def test_ranked_bisection_believes_in_its_ranking(module):
    def masking(inside):
        return 9.0 if {0, 1} <= inside else 0.1 * len(inside)

    problem = problem_of(module, masking, [1] * 4)
    scheme = module("search_schemes").RankedBinarySearch(budget=0.35, metric="fid-fp32[lite0]")
    trials = module("search").replayed(scheme, problem, 0)
    assert module("search").regret_of(problem, 0, trials, 0.35).cost == pytest.approx(0.5)


def test_greedy_revert_reverts_the_most_damaging_first_until_the_budget_is_met(module):
    own = [1.0, 8.0, 2.0, 4.0]
    problem = problem_of(module, lambda inside: sum(own[place] for place in inside), [1] * 4)
    scheme = module("search_schemes").GreedyRevert(budget=3.5, metric="fid-fp32[lite0]")
    trials = module("search").replayed(scheme, problem, 0)
    assert words(problem, trials) == ["123", "023", "013", "012", "02"]


def test_greedy_revert_takes_a_harmful_step_back_and_ranks_again(module):
    # Reverting 0 helps most, reverting 1 next; but without 0, INT8 in 1 is what keeps the damage down.
    damages = {"012": 10.0, "12": 4.0, "02": 5.0, "01": 6.0, "2": 7.0, "1": 3.0, "0": 9.0, "": 0.0}
    problem = problem_of(module, lambda inside: damages["".join(map(str, sorted(inside)))], [1] * 3)
    scheme = module("search_schemes").GreedyRevert(budget=3.5, metric="fid-fp32[lite0]")
    trials = module("search").replayed(scheme, problem, 0)
    assert words(problem, trials) == ["12", "02", "01", "2", "1"]


def test_greedy_revert_gives_up_where_no_step_helps(module):
    problem = problem_of(module, lambda inside: 5.0 if inside else 0.0, [1] * 3)
    scheme = module("search_schemes").GreedyRevert(budget=1.0, metric="fid-fp32[lite0]")
    trials = module("search").replayed(scheme, problem, 0)
    assert words(problem, trials) == ["12", "02", "01"]


def test_regret_by_hand(module):
    # Shares of INT8: group 0 has 1/4, group 1 has 3/4. Within 2: only group 1 (3/4) or 0 (1/4).
    damages = {(): 0.0, (0,): 1.0, (1,): 1.5, (0, 1): 5.0}
    problem = problem_of(module, lambda inside: damages[tuple(sorted(inside))], [1, 3])
    int8, fp16 = (anchor_maps(problem.layers)[each] for each in (Precision.INT8, Precision.FP16))
    trials = [problem.trial(number, wanted, 0) for number, wanted in enumerate((fp16, fp16, int8))]
    missed = module("search").regret_of(problem, 0, trials, 2.0)
    assert missed.maps == 2
    assert missed.cost == pytest.approx(0.75)
    assert missed.score == pytest.approx((5.0 - 1.5) / 2.0)
    assert not missed.is_optimal


def test_exhaustive_misses_nothing_and_boundary_fails_at_a_fragile_middle(module):
    search, scores = module("search"), module("search_scores")
    problem = scores.planted_problem(7, 2)
    for seed in problem.seeds:
        int8 = problem.trial(0, anchor_maps(problem.layers)[Precision.INT8], seed)
        limit = 0.3 * search.damage_of(int8)
        everything = search.replayed(Exhaustive(), problem, seed)
        assert search.regret_of(problem, seed, everything, limit) == search.Regret(2**7, 0.0, 0.0)
        cuts = search.replayed(Boundary(by="block"), problem, seed)
        assert search.regret_of(problem, seed, cuts, limit).cost > 0.2


def test_the_table_of_the_planted_case(module, monkeypatch, capsys):
    search = module("search")
    monkeypatch.setattr("sys.argv", ["search.py", "--networks", "planted", "--groups", "5", "--seeds", "2"])
    search.main()
    printed = capsys.readouterr().out
    assert "planted: 5 groups, 32 maps" in printed
    assert all(printed.count(f"\n{name} ") == 3 for name in search.STRATEGIES)


def test_layers_are_merged_into_groups_that_differ_by_one_at_most(module):
    layers = example_layers(11)
    found = module("search_networks").merged(layers[::-1], 4)
    assert [layer.name for layer in found] == [layer.name for layer in layers]
    sizes = [sum(layer.block == f"group{index}" for layer in found) for index in range(4)]
    assert sizes == [3, 3, 3, 2]


class FakeNetwork:
    """Four features; a map moves the first by its number of INT8 layers. Counts what it is asked for."""

    def __init__(self, networks, stop_after=math.inf):
        self.layers = networks.merged(example_layers(6), 3)
        self._baseline = np.random.default_rng(0).normal(size=(20, 4))
        extractor = Extractor("lite0", 4, 16, "none", "0" * 64, None)
        self.context = ScoringContext(20, extractor, self._baseline, None, None, "1" * 16, None)
        self.runs = 0
        self._outputs = networks.Outputs
        self._stop_after = stop_after

    def run(self, requested):
        if self.runs == self._stop_after:
            raise KeyboardInterrupt
        self.runs += 1
        count = sum(requested[layer.name] is Precision.INT8 for layer in self.layers)
        return self._outputs(self._baseline + np.array([count, 0, 0, 0]), np.full(20, 1.0 + count))


@pytest.fixture
def fakes(module, monkeypatch):
    """Gives `search_scores` this network, and the setting for it."""
    scores, networks = module("search_scores"), module("search_networks")

    def use(**options):
        network = FakeNetwork(networks, **options)
        context = _Opened(network)
        monkeypatch.setattr(scores, "opened_network", lambda *_, **__: context)
        return network

    return use, scores.Setting("talker", 3, 20, 12, 4, 2)


class _Opened:
    def __init__(self, network):
        self._network = network

    def __enter__(self):
        return self._network

    def __exit__(self, *_):
        return None


def test_scores_of_every_map_are_run_once_and_then_only_read(module, fakes, tmp_path):
    use, setting = fakes
    scores = module("search_scores")
    network = use()
    problem = scores.scored_problem(setting, tmp_path, threads=1)
    again = scores.scored_problem(setting, tmp_path, threads=1)
    assert network.runs == 2**3
    assert again.measures == problem.measures
    int8 = anchor_maps(problem.layers)[Precision.INT8]
    # A shift of 6 in one feature, the same covariance: a distance of 36.
    assert [measure.distance for measure in problem.measures[int8]] == pytest.approx([36.0, 36.0])
    assert problem.measures[int8][0].psnr == pytest.approx(10 * math.log10(255**2 / 7.0))


def test_scoring_goes_on_where_it_was_stopped_even_behind_a_torn_line(module, fakes, tmp_path):
    use, setting = fakes
    scores = module("search_scores")
    use(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        scores.scored_problem(setting, tmp_path, threads=1)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text(path.read_text()[:-20])
    rest = use()
    problem = scores.scored_problem(setting, tmp_path, threads=1)
    assert rest.runs == 2**3 - 2
    assert len(problem.measures) == 2**3


def test_subsets_are_of_the_asked_size_and_differ_by_seed(module):
    scores = module("search_scores")
    first, second = scores.subsets(20, scores.Setting("talker", 3, 20, 12, 4, 2))
    assert len(set(first)) == len(set(second)) == 12
    assert set(first) != set(second)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_generator_is_made_scored_and_read_again(module, monkeypatch, tmp_path):
    """Three steps of training are enough to see that every piece fits."""
    monkeypatch.setattr(module("search_superresolution"), "STEPS", 3)
    scores = module("search_scores")
    setting = scores.Setting("superresolution", 2, 8, 6, 3, 2)
    problem = scores.scored_problem(setting, tmp_path, threads=1)
    assert {layer.block for layer in problem.layers} == {"group0", "group1"}
    assert len(problem.layers) == 12
    fp16, int8 = (anchor_maps(problem.layers)[each] for each in (Precision.FP16, Precision.INT8))
    for seed in problem.seeds:
        assert problem.measures[fp16][seed].distance < problem.measures[int8][seed].distance
        assert problem.measures[fp16][seed].psnr > problem.measures[int8][seed].psnr
        assert problem.measures[int8][seed].error > 0.0
    monkeypatch.setattr(scores, "opened_network", None)
    assert scores.scored_problem(setting, tmp_path, threads=1).measures == problem.measures
