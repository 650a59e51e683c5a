"""A metric with the wrong direction is impossible: its negative, declared the other way, decides the same."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from latency_tables import measured, write_table

from qsens.core.errors import BudgetError, PluginError
from qsens.core.interfaces import Measurement
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.report.figures.boundary import boundary_figure
from qsens.report.figures.boundary_curve import boundary_curve
from qsens.report.figures.ends import ends_figure, ends_grid
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.figures.sensitivity_bars import sensitivity_figure
from qsens.report.figures.strip import strip_choices
from qsens.report.figures.tradeoff import tradeoff
from qsens.report.findings import masks_damage
from qsens.run.stages import measured_by
from qsens.search.additive import Additive
from qsens.selection.budget import Budget
from qsens.selection.choose import candidates_of, cheapest_within, limits_of, pareto_front, violation
from qsens.selection.choose_by_latency import best_within_time, fastest_within, latency_front
from qsens.selection.timings import read_latency_table, timings_of
from qsens.testing import check_metric, example_layers

NAME = "likeness"
LAYERS = example_layers(4)
MAPS = [
    PrecisionMap(Precision.FP32),
    *(
        PrecisionMap.over(dict(zip((layer.name for layer in LAYERS), chosen, strict=True)))
        for chosen in product((Precision.FP16, Precision.INT8), repeat=len(LAYERS))
    ),
]
SEEDS = range(12)


def study_of(seed, maps=MAPS, layers=LAYERS):
    """Random scores, some of them equal, beside a Fréchet distance to FP32 that tells another story."""
    random = np.random.default_rng(seed)
    trials = []
    for number, requested in enumerate(maps):
        value = 10.0 if number == 0 else 10.0 + round(random.gamma(2.0) - 1.0, 1)
        error = None if number == 0 else 0.2
        score = Score(NAME, value, 64, "real", True, 0.5, value - 10.0, error)
        far = Score("fid-fp32", 0.0 if number == 0 else random.gamma(2.0), 64, "fp32", True)
        trials.append(Trial(number, requested, requested, Outcome.SCORED, (score, far)))
    return Study("spec", layers, tuple(trials))


def negated(study, metric=NAME):
    return replace(study, trials=tuple(negated_trial(trial, metric) for trial in study.trials))


def negated_trial(trial, metric=NAME):
    scores = (negated_score(score) if score.metric == metric else score for score in trial.scores)
    return replace(trial, scores=tuple(scores))


def negated_score(score):
    difference = None if score.difference is None else -score.difference
    return replace(
        score, value=-score.value, difference=difference, lower_is_better=not score.lower_is_better
    )


def both(study, decide):
    """The same decision for a study and for its negative, which must agree."""
    one, other = decide(study), decide(negated(study))
    assert one == other
    return one


def chosen_by(select):
    """Trial numbers of the choice and of its ties, or the map that an error names as the nearest."""

    def decide(study):
        try:
            selection = select(study)
        except BudgetError as error:
            return error.message.partition(":")[0], error.message.partition("trial ")[2].partition(" ")[0]
        ties = [trial.number for trial in selection.ties]
        return selection.trial.number, ties, round(selection.excess, 9), selection.is_interval_within

    return decide


@pytest.mark.parametrize("budget", ["0", "0.5", "5%", "1.5", "100"])
def test_the_choice_its_ties_and_the_nearest_miss(budget):
    amount = Budget.parse(budget)
    found = {
        repr(
            both(study_of(seed), chosen_by(lambda study: cheapest_within(study, budget=amount, metric=NAME)))
        )
        for seed in SEEDS
    }
    assert len(found) > 1 or budget == "100"


def test_a_guard_is_the_same_guard():
    def select(study):
        return cheapest_within(study, budget=Budget(2.0), guard=Budget(1.5), metric=NAME)

    assert len({repr(both(study_of(seed), chosen_by(select))) for seed in SEEDS}) > 1


def test_a_miss_is_as_large():
    def misses(study):
        limits = limits_of(study, Budget(0.1), None, NAME)
        return [round(violation(trial, limits), 9) for trial in candidates_of(study, NAME)]

    assert any(miss > 0 for miss in both(study_of(0), misses))


def test_the_pareto_front():
    for seed in SEEDS:
        front = both(study_of(seed), lambda study: [trial.number for trial in pareto_front(study, NAME)])
        assert 0 < len(front) < len(MAPS)


def test_choices_by_time(tmp_path):
    study = study_of(3)
    entries = [measured(str(n), shape, LAYERS, 5.0 - 0.2 * (n % 7)) for n, shape in enumerate(MAPS)]
    table = read_latency_table(write_table(tmp_path / "table.json", entries, LAYERS))
    timings = timings_of(study, table)
    both(study, lambda given: [trial.number for trial in latency_front(given, timings, NAME)])
    within = both(
        study, chosen_by(lambda given: fastest_within(given, timings, budget=Budget(1.0), metric=NAME))
    )
    best = both(study, chosen_by(lambda given: best_within_time(given, timings, limit_ms=4.5, metric=NAME)))
    assert within[0] != best[0]


def additive_maps(*, is_negated, budget):
    """What `additive` proposes round by round; the score is a sum of damages and a product of two."""
    damages = {layer.name: 0.3 + 0.5 * (layer.index % 3) for layer in LAYERS}
    strategy, trials, tried = Additive(metric=NAME, budget=budget), [], []

    def add(requested):
        lost = sum(damage for name, damage in damages.items() if requested[name] is Precision.INT8)
        score = Score(NAME, 10.0 + lost + 0.1 * lost**2, 64, "real", True)
        trial = Trial(len(trials), requested, requested, Outcome.SCORED, (score,))
        trials.append(negated_trial(trial) if is_negated else trial)

    for requested in anchor_maps(LAYERS).values():
        add(requested)
    while maps := strategy.propose(LAYERS, trials):
        tried += maps
        for requested in maps:
            add(requested)
    return tried


@pytest.mark.parametrize("budget", [None, "1.5", "10%"])
def test_the_additive_strategy_tries_the_same_maps(budget):
    plain = additive_maps(is_negated=False, budget=budget)
    assert additive_maps(is_negated=True, budget=budget) == plain
    assert len(plain) > len(LAYERS)  # more than the single units


def test_figures_say_which_way_is_better():
    study = study_of(1)
    other = negated(study)
    for given, words in ((study, "lower is better"), (other, "higher is better")):
        figure = boundary_figure([boundary_curve(given, NAME)], LAYERS, "title")
        assert any(words in axes.get_ylabel() for axes in figure.axes)
    fronts = [[p.trial for p in tradeoff(given, NAME).front] for given in (study, other)]
    assert fronts[0] == fronts[1]
    strips = [[choice.trial for choice in strip_choices(given, NAME, 5)] for given in (study, other)]
    assert strips[0] == strips[1]


def test_bars_that_are_worse_stay_worse():
    singles = [shape for shape in MAPS if sum(p is Precision.INT8 for _, p in shape.overrides) != 2]

    def colours(study):
        found = sensitivity_of(study, NAME)
        figure = sensitivity_figure(found, "title")
        return [
            {round(bar.get_y(), 3): bar.get_facecolor() for bar in axes.patches if bar.get_width() != 0}
            for axes in figure.axes
        ]

    study = study_of(2, singles)
    effects = sensitivity_of(study, NAME).effects
    assert {effect.value > 0 for effect in effects} == {True, False}
    both(study, colours)


def test_dark_cells_stay_worse():
    layers = example_layers(6)
    ends = [
        PrecisionMap.over(
            {
                layer.name: Precision.INT8 if first <= layer.index < 6 - last else Precision.FP16
                for layer in layers
            }
        )
        for first, last in product(range(3), range(3))
    ]

    def shades(study):
        picture = ends_figure([ends_grid(study, NAME)], "title").axes[0].images[0]
        return picture.to_rgba(picture.get_array())[..., :3].sum(axis=-1).round(3).tolist()

    assert len({shade for row in both(study_of(4, ends, layers), shades) for shade in row}) > 4


def test_masking_is_seen_in_both_directions():
    gained = Score("fid", 9.0, 64, "real", True, 0.1, -1.0, 0.1)
    far = Score("fid-fp32", 3.0, 64, "fp32", True)
    trial = Trial(1, MAPS[3], MAPS[3], Outcome.SCORED, (gained, far))
    assert masks_damage(trial, "fid", "fid-fp32")
    assert masks_damage(negated_trial(trial, "fid"), "fid", "fid-fp32")
    lost = replace(trial, scores=(replace(gained, value=11.0, difference=1.0), far))
    assert not masks_damage(lost, "fid", "fid-fp32")
    assert not masks_damage(negated_trial(lost, "fid"), "fid", "fid-fp32")


class Brightness:
    """Distance of the pictures from FP32's; its score may claim another direction than the metric."""

    name = "brightness"
    lower_is_better = True
    needs_features = False
    needs_reference = False

    def __init__(self, sign=1.0, *, said=True, declared=True):
        self.sign, self.said, self.lower_is_better = sign, said, declared

    def label(self, context):
        return self.name

    def start(self, context):
        return Accumulated(self)


class Accumulated:
    def __init__(self, metric):
        self.metric, self.found = metric, []

    def update(self, batch):
        found = np.abs(batch.images.astype(float) - batch.baseline).mean(axis=(1, 2, 3))
        self.found += found.tolist()

    def compute(self):
        value = self.metric.sign * float(np.mean(self.found))
        return Measurement(Score("brightness", value, len(self.found), "fp32", self.metric.said), None)


def test_a_score_of_the_other_direction_than_its_metric_is_refused():
    metric = Brightness(said=False)
    accumulator = metric.start(None)
    images = np.zeros((2, 3, 4, 4), np.uint8)
    accumulator.update(SimpleNamespace(images=images, baseline=images))
    with pytest.raises(PluginError, match="'brightness' declares that lower is better, its score says that"):
        measured_by(metric, accumulator)


def test_the_contract_check_finds_a_wrong_direction():
    check_metric(Brightness)
    check_metric(lambda: Brightness(-1.0, said=False, declared=False))
    with pytest.raises(PluginError, match="of two minds on its direction"):
        check_metric(lambda: Brightness(said=False))
    with pytest.raises(PluginError, match="prefers damaged images"):
        check_metric(lambda: Brightness(said=False, declared=False))
    with pytest.raises(PluginError, match="prefers damaged images"):
        check_metric(lambda: Brightness(-1.0))
