"""The loop: order, failures, resuming, pins, Ctrl-C, broken strategies."""

from dataclasses import replace

import pytest

from qsens.core.errors import BuildError, PluginError, ScoreError, SpecError
from qsens.core.interfaces import Strategy
from qsens.core.layer import nearest_allowed
from qsens.core.maps import anchor_maps, anchor_trial, pin_layers
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Study
from qsens.run.journal import Journal
from qsens.run.loop import (
    StoppedError,
    expecting,
    plan_maps,
    plan_without_scores,
    too_few_maps_warning,
    try_maps_here,
)
from qsens.search.enumerations import Boundary, Chain, Ends
from qsens.testing import example_layers, example_trial

FP32, FP16, INT8 = Precision
LAYERS = example_layers(5)


class OneByOne(Strategy):
    """Each layer INT8 alone, one proposal at a time, the rest FP16."""

    name = "one-by-one"

    def propose(self, layers, trials):
        tried = {trial.requested for trial in trials}
        maps = [
            PrecisionMap(FP16).with_layers([layer.name], nearest_allowed(layer, INT8))
            for layer in layers
            if FP16 in layer.allowed
        ]
        return [entry for entry in maps if entry not in tried][:1]


class Fixed(Strategy):
    """Proposes the same list for ever."""

    name = "fixed"

    def __init__(self, *maps):
        self.maps = list(maps)

    def propose(self, layers, trials):
        tried = {trial.requested for trial in trials}
        return [] if tried & set(self.maps) else self.maps


class Stubborn(Fixed):
    def propose(self, layers, trials):
        return self.maps


def evaluate(number, requested):
    return example_trial(number, requested, LAYERS)


@pytest.fixture
def sweep(tmp_path):
    """Runs a sweep on one journal; call again to resume."""
    heard = []

    def hear(done, total, label):
        heard.append((done, total, label))

    def sweep(strategy=None, evaluate=evaluate, layers=LAYERS):
        strategy = strategy or OneByOne()
        with Journal(tmp_path / "journal.jsonl", "spec") as journal:
            return try_maps_here(
                layers,
                strategy=strategy,
                evaluate=evaluate,
                journal=journal,
                progress=expecting(plan_without_scores(layers, strategy), hear),
            )

    sweep.heard = heard
    return sweep


def test_anchors_come_first_then_the_strategy_until_it_ends(sweep):
    trials = sweep().trials
    assert [trial.requested for trial in trials[:3]] == [
        PrecisionMap(FP32),
        PrecisionMap(FP16),
        PrecisionMap(INT8),
    ]
    assert [trial.number for trial in trials] == list(range(8))
    assert trials[3].requested == PrecisionMap(FP16, ((LAYERS[0].name, INT8),))


def test_progress_says_how_many_are_done_and_known(sweep):
    sweep(Fixed(PrecisionMap(FP16, ((LAYERS[0].name, INT8),))))
    assert sweep.heard == [
        (0, 1, "reference: all FP32"),
        (1, 4, "all FP16"),
        (2, 4, "all INT8"),
        (3, 4, "first 1 INT8, last 4 FP16"),
        (4, 4, "finished"),
    ]


def test_a_strategy_that_wants_scores_is_not_asked_to_plan(sweep):
    class Guided(Fixed):
        def propose(self, layers, trials):
            assert trials[0].score("fid").value > 0
            return super().propose(layers, trials)

    guided = Guided(PrecisionMap(FP16, ((LAYERS[0].name, INT8),)))
    assert plan_without_scores(LAYERS, guided) is None
    assert len(sweep(guided).trials) == 4
    assert [total for _, total, _ in sweep.heard] == [1, 3, 3, 4, 4]


def test_a_strategy_that_refuses_the_layers_does_so_before_the_first_map(sweep):
    class Refuses(Fixed):
        def propose(self, layers, trials):
            raise SpecError("too many maps")

    with pytest.raises(SpecError, match="too many maps"):
        sweep(Refuses(), evaluate=lambda number, requested: pytest.fail("a map was scored"))


def test_a_finished_sweep_evaluates_nothing_more(sweep):
    first = sweep()
    again = sweep(evaluate=lambda number, requested: pytest.fail("evaluated again"))
    assert again == first


@pytest.mark.parametrize("error", [BuildError("no kernel", "use FP16"), ScoreError("NaN in the output")])
def test_a_failed_map_is_recorded_and_the_sweep_goes_on(sweep, error):
    def fails_at_four(number, requested):
        if number == 4:
            raise error
        return evaluate(number, requested)

    trials = sweep(evaluate=fails_at_four).trials
    assert [trial.outcome for trial in trials].count(Outcome.FAILED) == 1
    assert trials[4].applied is None
    assert error.message in trials[4].error
    assert error.hint in trials[4].error
    assert len(sweep().trials) == len(trials) == 8, "a failed map is not tried again"


def test_a_failing_fp32_is_fatal_and_tried_again_later(sweep):
    def fails(number, requested):
        raise ScoreError("NaN in the output")

    with pytest.raises(ScoreError):
        sweep(evaluate=fails)
    assert sweep().trials[0].outcome is Outcome.SCORED


def test_a_bug_is_not_swallowed(sweep):
    def fails(number, requested):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        sweep(evaluate=fails)


@pytest.mark.parametrize("at", range(8))
def test_a_sweep_stopped_by_the_user_resumes_to_the_same_study(sweep, tmp_path, at):
    def stops(number, requested):
        if number == at:
            raise KeyboardInterrupt
        return evaluate(number, requested)

    with pytest.raises(StoppedError, match=f"after {at} map") as caught:
        sweep(evaluate=stops)
    assert caught.value.exit_code == 130
    resumed = sweep()
    expected = [trial.requested for trial in plan_all(OneByOne())]
    assert [trial.requested for trial in resumed.trials] == expected


def plan_all(strategy):
    trials = [evaluate(number, entry) for number, entry in enumerate(anchor_maps(LAYERS).values())]
    while proposed := strategy.propose(LAYERS, trials):
        trials += [evaluate(len(trials), entry) for entry in proposed[:1]]
    return trials


def test_equal_assignments_written_differently_are_tried_once(sweep):
    all_but_one = PrecisionMap(FP16, tuple((layer.name, INT8) for layer in LAYERS[1:]))
    same = PrecisionMap(INT8, ((LAYERS[0].name, FP16),))
    trials = sweep(Fixed(all_but_one, same)).trials
    assert [trial.requested for trial in trials[3:]] == [same]


BROKEN = {
    "unknown layer": (PrecisionMap(FP16, (("ghost", INT8),)), "'ghost'"),
    "forbidden precision": (PrecisionMap(INT8, (("block0.conv0", FP16),)), "block0.conv1.*allows fp16, fp32"),
    "only tried maps": (PrecisionMap(FP32), "tried already"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_strategy_that_breaks_its_promise_is_named(sweep, case):
    requested, message = BROKEN[case]
    layers = [LAYERS[0], replace(LAYERS[1], allowed=frozenset({FP32, FP16})), *LAYERS[2:]]
    with pytest.raises(PluginError, match=message):
        sweep(Stubborn(requested), layers=layers)


def test_anchors_respect_pins_except_fp32():
    layers = pin_layers(LAYERS, ["block0.*=fp16", "block2.conv0=int8"])
    anchors = anchor_maps(layers)
    assert anchors[FP32] == PrecisionMap(FP32)
    assert anchors[FP16][LAYERS[4].name] is INT8
    assert anchors[FP16][LAYERS[0].name] is FP16
    assert anchors[INT8].assignment(layer.name for layer in LAYERS) == {
        "block0.conv0": FP16,
        "block0.conv1": FP16,
        "block1.conv0": INT8,
        "block1.conv1": INT8,
        "block2.conv0": INT8,
    }


def test_anchors_that_are_equal_are_scored_once(sweep):
    layers = pin_layers(LAYERS, ["*=fp16"])
    trials = sweep(Fixed(), layers=layers).trials
    assert [trial.requested for trial in trials] == [PrecisionMap(FP32), PrecisionMap(FP16)]
    study = Study("spec", layers, trials)
    assert anchor_trial(study, INT8) is trials[1]


@pytest.mark.parametrize(
    ("allowed", "wanted", "expected"),
    [
        ({FP32, FP16, INT8}, INT8, INT8),
        ({FP32, FP16}, INT8, FP16),
        ({FP32, INT8}, FP16, FP32),
        ({INT8}, FP16, INT8),
        ({FP32}, INT8, FP32),
    ],
)
def test_the_nearest_allowed_precision_is_the_next_wider_one(allowed, wanted, expected):
    assert nearest_allowed(replace(LAYERS[0], allowed=frozenset(allowed)), wanted) is expected


def test_later_pins_win():
    layers = pin_layers(LAYERS, ["*=fp16", "block1.*=fp32"])
    assert [next(iter(layer.allowed)) for layer in layers] == [FP16, FP16, FP32, FP32, FP16]


@pytest.mark.parametrize(
    ("pin", "message"),
    [("decodr.*=fp16", "matches no layer"), ("block0", "cannot read the pin"), ("block0=fp8", "'fp8'")],
)
def test_a_wrong_pin_is_named(pin, message):
    with pytest.raises(SpecError, match=message):
        pin_layers(LAYERS, [pin])


def test_a_plan_counts_the_maps_and_says_whether_more_may_follow():
    maps = [PrecisionMap(FP16, ((layer.name, INT8),)) for layer in LAYERS]
    complete = plan_maps(LAYERS, Fixed(*maps))
    assert len(complete.maps) == 8
    assert complete.is_complete
    assert not plan_maps(LAYERS, OneByOne()).is_complete


def test_a_plan_of_a_chain_counts_the_maps_of_every_member():
    maps = [PrecisionMap(FP16, ((layer.name, INT8),)) for layer in LAYERS]
    plan = plan_maps(LAYERS, Chain([Fixed(*maps[:3]), Fixed(*maps[3:])]))
    assert plan.maps[3:] == tuple(maps)
    assert plan.is_complete
    assert len(plan_without_scores(LAYERS, Chain([Fixed(*maps[:2]), OneByOne()])).maps) > 3 + 2
    assert not plan_maps(LAYERS, Chain([OneByOne(), Fixed(*maps)])).is_complete


@pytest.mark.parametrize(
    ("strategy", "is_one_block", "is_warned"),
    [
        (Ends(), True, True),
        (Boundary(by="block"), True, True),
        (Boundary(by="layer"), True, False),
        (Ends(), False, False),
        (Ends(first=0, last=0), False, False),
    ],
)
def test_a_strategy_by_block_says_that_all_layers_are_one_block(strategy, is_one_block, is_warned):
    layers = [replace(layer, block="model") for layer in LAYERS] if is_one_block else LAYERS
    warning = too_few_maps_warning(layers, strategy.name, plan_without_scores(layers, strategy))
    assert (warning is not None) == is_warned
    assert warning is None or ("all 5 layers are one block, 'model'" in warning and "--by layer" in warning)
