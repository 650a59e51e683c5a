"""The contract checks themselves: each must catch the plug-in that breaks its promise."""

from dataclasses import replace

import numpy as np
import pytest

from qsens.core.errors import BuildError, PluginError
from qsens.core.interfaces import Measurement, MetricFacts, Role
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Score
from qsens.testing import check_backend, check_metric, check_strategy, example_layers

FP32, FP16, INT8 = Precision
LAYERS = example_layers(4)


class Alone:
    name = "alone"

    def propose(self, layers, trials):
        tried = {trial.requested for trial in trials}
        maps = [PrecisionMap(FP16, ((layer.name, INT8),)) for layer in layers if INT8 in layer.allowed]
        return [entry for entry in maps if entry not in tried]


class Repeating(Alone):
    def propose(self, layers, trials):
        return [PrecisionMap(FP16)]


class Remembering(Alone):
    def __init__(self):
        self.calls = 0

    def propose(self, layers, trials):
        self.calls += 1
        return super().propose(layers, trials)[self.calls % 2 :]


class Endless(Alone):
    def propose(self, layers, trials):
        places = [place for place in range(len(layers)) if len(trials) >> place & 1]
        return [PrecisionMap(FP16, tuple((layers[place].name, INT8) for place in places))]


class Backwards(Alone):
    """Goes another way when it is resumed in the middle of a batch."""

    def propose(self, layers, trials):
        proposed = super().propose(layers, trials)
        return proposed if len(trials) % 2 else proposed[::-1]


class Careless(Alone):
    def propose(self, layers, trials):
        tried = {trial.requested for trial in trials}
        return [entry for entry in [PrecisionMap(INT8, ((layers[0].name, FP16),))] if entry not in tried]


def test_a_good_strategy_passes():
    assert len(check_strategy(Alone(), LAYERS)) == 7


@pytest.mark.parametrize(
    ("strategy", "layers", "message"),
    [
        (Repeating(), LAYERS, "repeats a map"),
        (Remembering(), LAYERS, "when asked twice"),
        (Endless(), example_layers(14), "did not end|repeats"),
        (Backwards(), LAYERS, "goes another way"),
        (
            Careless(),
            (LAYERS[0], replace(LAYERS[1], allowed=frozenset({FP32, FP16})), *LAYERS[2:]),
            "forbids",
        ),
        (Careless(), (LAYERS[0], replace(LAYERS[1], allowed=frozenset({FP16})), *LAYERS[2:]), "forbids"),
    ],
)
def test_a_strategy_that_breaks_a_promise_is_caught(strategy, layers, message):
    with pytest.raises(PluginError, match=message):
        check_strategy(strategy, layers, limit=500)


class Error:
    """Mean absolute difference from FP32; a metric small enough to break in every way."""

    name = "error"
    lower_is_better = True
    needs_features = False
    needs_reference = False

    def label(self, context):
        return "error[plain]"

    def start(self, context):
        return ErrorState()


class ErrorState:
    def __init__(self):
        self.errors = []

    def update(self, batch):
        difference = np.abs(batch.images.astype(float) - batch.baseline)
        self.errors += list(difference.mean(axis=(1, 2, 3)))

    def compute(self):
        return self.measurement(np.array(self.errors))

    def measurement(self, errors):
        score = Score("error[plain]", float(errors.mean()), len(errors), "fp32", lower_is_better=True)
        return Measurement(score, errors - errors.mean())


def broken_metric(state=ErrorState, **attributes):
    return type("Broken", (Error,), {"start": lambda self, context: state(), **attributes})


class SharedState(ErrorState):
    shared: list = []  # noqa: RUF012

    def __init__(self):
        self.errors = self.shared


class BatchMean(ErrorState):
    def update(self, batch):
        super().update(batch)
        self.errors = [*self.errors[: batch.start], *[max(self.errors)] * (len(self.errors) - batch.start)]


class Biased(ErrorState):
    def measurement(self, errors):
        return replace(super().measurement(errors), influence=errors)


class Shorter(ErrorState):
    def measurement(self, errors):
        return replace(super().measurement(errors), influence=np.zeros(3))


class Reversed(ErrorState):
    def measurement(self, errors):
        found = super().measurement(errors)
        return replace(found, score=replace(found.score, value=-found.score.value))


def test_a_good_metric_passes():
    check_metric(Error)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken_metric(SharedState), "images of 48"),
        (broken_metric(BatchMean), "batch size"),
        (broken_metric(Biased), "mean is not zero"),
        (broken_metric(Shorter), r"shape \(3,\)"),
        (broken_metric(Reversed), "prefers damaged images"),
        (broken_metric(name="other"), "does not begin with its name"),
        (broken_metric(label=lambda self, context: "error[other]"), "its label is"),
        (broken_metric(lower_is_better=False), "two minds"),
        (broken_metric(facts=MetricFacts(title="{2}")), r"title '\{2\}', which cannot be filled in"),
        (broken_metric(facts=MetricFacts(role=Role.DECIBELS)), "for which its direction is wrong"),
    ],
)
def test_a_metric_that_breaks_a_promise_is_caught(make, message):
    with pytest.raises(PluginError, match=message):
        check_metric(make)


class FakeEngine:
    size_bytes = 10

    def __init__(self, requested):
        self.applied = requested

    def run(self, batch):
        return {"out": batch["in"] * 2}

    def fp16_overflows(self):
        return {}

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FakeBackend:
    name = "fake"
    flavour = "exact"
    engine = FakeEngine

    def build(self, lowered):
        return self.engine(lowered)


def engine_with(**attributes):
    return type("Broken", (FakeBackend,), {"engine": type("Engine", (FakeEngine,), attributes)})()


INPUTS = {"in": np.ones((1, 3), np.float32)}


def check(backend):
    check_backend(backend, lambda requested: requested, LAYERS, INPUTS, expected={"out": INPUTS["in"] * 2})


def test_a_good_backend_passes():
    check(FakeBackend())


def refuse(self, lowered):
    raise BuildError("no kernel")


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (engine_with(size_bytes=0), "0 bytes"),
        (engine_with(run=lambda self, batch: {"out": np.random.default_rng().normal(size=3)}), "two outputs"),
        (engine_with(run=lambda self, batch: {"out": batch["in"] * 2.1}), "away from FP32"),
        (engine_with(fp16_overflows=lambda self: {"ghost": 1}), "ghost"),
        (type("Refusing", (FakeBackend,), {"build": refuse})(), "cannot build an anchor"),
    ],
)
def test_a_backend_that_breaks_a_promise_is_caught(backend, message):
    with pytest.raises(PluginError, match=message):
        check(backend)
