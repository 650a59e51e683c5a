"""Contract checks for authors of plug-ins: each raises `PluginError` naming the promise that is broken."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qsens.core.errors import BuildError, PluginError
from qsens.core.interfaces import (
    Backend,
    Extractor,
    Loop,
    Measurement,
    Metric,
    Role,
    SampleSet,
    ScoredBatch,
    ScoringContext,
    Strategy,
)
from qsens.core.layer import Layer
from qsens.core.maps import anchor_maps
from qsens.core.plugins import with_defaults
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Score, Screen, Trial, Yardstick, requested_map, untried

Array = np.ndarray[Any, np.dtype[Any]]
Feed = Mapping[str, Array]
Call = Callable[[Feed], Feed]
_IMAGES = 48
_DIMENSION = 8
_SIDE = 16


def example_layers(count: int, *, per_block: int = 2) -> tuple[Layer, ...]:
    """A chain of `count` convolutions in blocks of `per_block`, all precisions allowed."""
    return tuple(
        Layer(
            name=f"block{index // per_block}.conv{index % per_block}",
            node=f"/block{index // per_block}/conv{index % per_block}/Conv",
            kind="Conv",
            block=f"block{index // per_block}",
            index=index,
            parameters=100 + index,
            macs=1000 * (1 + index),
            macs_torchprofile=1000 * (1 + index),
            output_shape=(1, 4, 8, 8),
        )
        for index in range(count)
    )


def example_trial(number: int, requested: PrecisionMap, layers: Sequence[Layer]) -> Trial:
    """A scored trial whose distance from FP32 grows with the INT8 layers, later layers hurting more."""
    damage = sum(
        0.5 + layer.index / len(layers) for layer in layers if requested[layer.name] is Precision.INT8
    )
    trial = Trial(number, requested, requested, Outcome.SCORED, _example_scores(damage))
    if requested != PrecisionMap(Precision.FP32):
        return trial
    # FP32 carries the yardstick of the default budget.
    return replace(trial, yardsticks=(Yardstick("jpeg:95", _example_scores(0.5)),))


def _example_scores(damage: float) -> tuple[Score, ...]:
    return (
        Score("fid", 10 + damage, _IMAGES, "example", True, 0.1, damage, 0.1),  # noqa: FBT003
        Score("fid-fp32", damage, _IMAGES, "example", True, 0.1, damage, 0.1),  # noqa: FBT003
        Score("psnr", 60 - damage if damage else math.inf, _IMAGES, "example", False),  # noqa: FBT003
    )


def check_strategy(strategy: Strategy, layers: Sequence[Layer], *, limit: int = 5000) -> tuple[Trial, ...]:
    """Check that a strategy ends, never repeats, respects `allowed`, and replays from any journal prefix.

    Returns the trials of the whole run, the anchors first.

    Raises:
        PluginError: naming the broken promise.
    """
    names = [layer.name for layer in layers]
    trials = [
        example_trial(number, requested, layers)
        for number, requested in enumerate(dict.fromkeys(anchor_maps(layers).values()))
    ]
    anchors = len(trials)
    while proposed := _proposals(strategy, layers, trials):
        for request in proposed:
            _promise(len(trials) < limit, f"the strategy {strategy.name!r} did not end after {limit} maps")
            _check_proposal(strategy, request, layers, trials)
            canonical = PrecisionMap.over(requested_map(request).assignment(names))
            trial = example_trial(len(trials), canonical, layers)
            outcome = Outcome.SCREENED if isinstance(request, Screen) else Outcome.SCORED
            trials.append(replace(trial, outcome=outcome))
    _check_replay(strategy, layers, trials, anchors)
    return tuple(trials)


class ExampleSamples(SampleSet):
    """Twelve clips of four frames whose annotations are the clip, the frame and the real picture."""

    name = "example"
    digest = "2" * 16
    clusters: tuple[str, ...] | None = tuple(f"clip{index // 4}" for index in range(_IMAGES))

    def __init__(self, side: int = _SIDE) -> None:
        self._pictures = _example_batch(noise=0, side=side).baseline

    def __len__(self) -> int:
        return _IMAGES

    def sample(self, index: int) -> Mapping[str, Array]:
        return {"image": self._pictures[index].astype(np.float32) / 255}

    def annotation(self, index: int) -> Mapping[str, Any]:
        """`clip`, `frame` and `target`, as `qsens.core.interfaces.SampleSet` describes them."""
        return {"clip": f"clip{index // 4}", "frame": index % 4, "target": self._pictures[index]}

    def describe(self) -> Mapping[str, str]:
        return {"count": str(_IMAGES)}


def check_metric(make: Callable[[], Metric], *, samples: SampleSet | None = None, side: int = _SIDE) -> None:
    """Check that a metric's batches do not matter, its states are separate and identical images score best.

    The images are 48 seeded pictures of `side` x `side` pixels with 8 features each. `samples` are 48
    samples for a metric that reads more annotations than those of `ExampleSamples`.

    Raises:
        PluginError: naming the broken promise.
    """
    known = ExampleSamples(side) if samples is None else samples
    metric, context, batch = make(), _example_context(known), _example_batch(noise=40, side=side)
    who = f"the metric {metric.name!r}"
    whole = _measure(metric, context, [batch])
    split = _measure(metric, context, _split(batch, 7))
    again = _measure(make(), context, [batch])
    label = metric.label(context)
    _promise(
        label.startswith(metric.name), f"{who} has the label {label!r}, which does not begin with its name"
    )
    _promise(whole.score.metric == label, f"{who} scores as {whole.score.metric!r}, its label is {label!r}")
    _promise(whole.score.images == _IMAGES, f"{who} says {whole.score.images} images of {_IMAGES}")
    _promise(whole.score.lower_is_better == metric.lower_is_better, f"{who} is of two minds on its direction")
    _check_facts(who, metric)
    _promise(_close(whole.score.value, split.score.value), f"{who} depends on the batch size")
    _promise(whole.score == again.score, f"{who} gives two values for the same images")
    _check_influence(who, whole)
    best = _measure(metric, context, [_example_batch(noise=0, side=side)]).score.value
    sign = 1 if metric.lower_is_better else -1
    against_fp32 = not metric.needs_reference
    _promise(
        not against_fp32 or sign * best <= sign * whole.score.value,
        f"{who} prefers damaged images ({whole.score.value:g}) to identical ones ({best:g})",
    )


def _check_facts(who: str, metric: Metric) -> None:
    facts = with_defaults(Metric, metric).facts
    try:
        title = facts.title.format("NAME[x]", "[x]")
    except (IndexError, KeyError, ValueError):
        title = ""
    _promise(title, f"{who} has the title {facts.title!r}, which cannot be filled in")
    is_distance = facts.role in (Role.REAL_DISTANCE, Role.FP32_DISTANCE)
    is_consistent = facts.role is None or is_distance is metric.lower_is_better
    _promise(is_consistent, f"{who} is a {facts.role}, for which its direction is wrong")


def check_backend(
    backend: Backend,
    lower: Callable[[PrecisionMap], Any],
    layers: Sequence[Layer],
    inputs: Mapping[str, Array],
    *,
    expected: Mapping[str, Array] | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Check a backend on the anchors of a graph: `lower` makes its lowered graph of a map.

    `inputs` is one batch; `expected` are the FP32 outputs for it, compared within `tolerance` of their
    largest magnitude.

    Raises:
        PluginError: naming the broken promise.
    """
    who = f"the backend {backend.name!r}"
    for precision, requested in anchor_maps(layers).items():
        engine = _build(who, backend, lower(requested))
        with engine:
            first, second = engine.run(inputs), engine.run(inputs)
            for name, values in first.items():
                same = np.array_equal(np.asarray(values), np.asarray(second[name]), equal_nan=True)
                _promise(same, f"{who} gives two outputs {name!r} for the same inputs at {precision}")
            _check_applied(who, engine.applied, layers)
            _promise(engine.size_bytes > 0, f"{who} says an engine of {engine.size_bytes} bytes")
            unknown = set(engine.fp16_overflows()) - {layer.name for layer in layers}
            _promise(not unknown, f"{who} counts FP16 overflows in unknown layers {sorted(unknown)}")
            if precision is Precision.FP32 and expected is not None:
                _check_outputs(who, first, expected, tolerance)


def check_loop(loop: Loop, call: Call, feeds: Sequence[Feed]) -> None:
    """Check a loop on feeds of samples, or on the frames of a clip, with a network `call`.

    Raises:
        PluginError: naming the promise that it broke.
    """
    loop = with_defaults(Loop, loop)
    who = type(loop).__name__
    _promise(set(loop.started) <= set(loop.fed), f"{who} starts inputs that it does not feed")
    made = loop.play(call, feeds)
    _promise(len(made) == len(feeds), f"{who} made {len(made)} results of {len(feeds)} feeds")
    _promise(all(made), f"{who} made no picture")
    _promise(_are_equal(made, loop.play(call, feeds)), f"{who} makes other pictures when it plays again")
    if not loop.plays_clips:
        alone = [loop.play(call, [feed])[0] for feed in feeds]
        _promise(_are_equal(made, alone), f"{who} makes another picture of a feed beside others")


def _are_equal(first: Sequence[Feed], second: Sequence[Feed]) -> bool:
    return all(
        one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
        for one, other in zip(first, second, strict=True)
    )


def _promise(kept: object, broken: str) -> None:
    if not kept:
        raise PluginError(broken, "see qsens.core.interfaces for what a plug-in promises")


def _proposals(strategy: Strategy, layers: Sequence[Layer], trials: Sequence[Trial]) -> Sequence[Request]:
    proposed = strategy.propose(tuple(layers), tuple(trials))
    again = strategy.propose(tuple(layers), tuple(trials))
    _promise(isinstance(proposed, list), f"the strategy {strategy.name!r} proposes no list")
    _promise(proposed == again, f"the strategy {strategy.name!r} proposes other maps when asked twice")
    return proposed


def _check_proposal(
    strategy: Strategy, request: Request, layers: Sequence[Layer], trials: Sequence[Trial]
) -> None:
    requested = requested_map(request)
    names = [layer.name for layer in layers]
    who = f"the strategy {strategy.name!r}"
    unknown = {name for name, _ in requested.overrides} - set(names)
    _promise(not unknown, f"{who} proposes unknown layers {sorted(unknown)}")
    assignment = requested.assignment(names)
    is_fp32 = set(assignment.values()) == {Precision.FP32}
    for layer in layers:
        allowed = is_fp32 or assignment[layer.name] in layer.allowed
        _promise(allowed, f"{who} proposes {assignment[layer.name]} for {layer.name!r}, which forbids it")
    canonical = PrecisionMap.over(assignment)
    is_new = untried([Screen(canonical) if isinstance(request, Screen) else canonical], trials)
    _promise(bool(is_new), f"{who} repeats a map: {requested.to_json()}")


def _check_replay(strategy: Strategy, layers: Sequence[Layer], trials: Sequence[Trial], anchors: int) -> None:
    names = [layer.name for layer in layers]
    step = max(1, (len(trials) - anchors) // 32)
    for count in range(anchors, len(trials), step):
        proposed = _proposals(strategy, layers, trials[:count])
        wanted = trials[count].requested.assignment(names)
        is_same = bool(proposed) and requested_map(proposed[0]).assignment(names) == wanted
        _promise(is_same, f"the strategy {strategy.name!r} goes another way when resumed after {count} maps")


def _example_batch(*, noise: int, side: int = _SIDE) -> ScoredBatch:
    generator, feature_generator = np.random.default_rng(0), np.random.default_rng(2)
    baseline = generator.integers(0, 256, (_IMAGES, 3, side, side), dtype=np.uint8)
    change = generator.integers(-noise, noise + 1, baseline.shape)
    images = np.clip(baseline.astype(np.int64) + change, 0, 255).astype(np.uint8)
    features = feature_generator.normal(size=(_IMAGES, _DIMENSION)) + noise / 40
    return ScoredBatch(0, images, baseline, features.astype(np.float32))


def _example_context(samples: SampleSet) -> ScoringContext:
    generator = np.random.default_rng(1)
    baseline = _example_batch(noise=0).features
    reference = generator.normal(size=(2 * _IMAGES, _DIMENSION)).astype(np.float32)
    extractor = Extractor("example", _DIMENSION, _SIDE, "none", "0" * 64, None)
    return ScoringContext(_IMAGES, extractor, baseline, reference, "1" * 16, "2" * 16, None, samples)


def _split(batch: ScoredBatch, size: int) -> list[ScoredBatch]:
    parts = []
    for start in range(0, len(batch.images), size):
        part = slice(start, start + size)
        features = None if batch.features is None else batch.features[part]
        parts.append(ScoredBatch(start, batch.images[part], batch.baseline[part], features))
    return parts


def _measure(metric: Metric, context: ScoringContext, batches: Sequence[ScoredBatch]) -> Measurement:
    state, bystander = metric.start(context), metric.start(context)
    for batch in batches:
        state.update(batch)
        # A second state sees other images: sharing anything with the first would change its score.
        bystander.update(ScoredBatch(batch.start, 255 - batch.images, batch.baseline, batch.features))
    return state.compute()


def _check_influence(who: str, measured: Measurement) -> None:
    error = measured.score.standard_error
    _promise(error is None or error >= 0, f"{who} gives the standard error {error}")
    if measured.influence is None:
        return
    influence = np.asarray(measured.influence)
    _promise(influence.shape == (_IMAGES,), f"{who} gives influences of shape {influence.shape}")
    scale = float(np.abs(influence).max()) or 1.0
    _promise(abs(float(influence.mean())) < 1e-6 * scale, f"{who} gives influences whose mean is not zero")


def _close(one: float, other: float) -> bool:
    return one == other or math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _build(who: str, backend: Backend, lowered: Any) -> Any:
    try:
        return backend.build(lowered)
    except BuildError as error:
        raise PluginError(f"{who} cannot build an anchor: {error.message}", error.hint) from error


def _check_applied(who: str, applied: PrecisionMap, layers: Sequence[Layer]) -> None:
    unknown = {name for name, _ in applied.overrides} - {layer.name for layer in layers}
    _promise(not unknown, f"{who} reports unknown layers {sorted(unknown)}")


def _check_outputs(
    who: str, outputs: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float
) -> None:
    for name, values in expected.items():
        largest = float(np.abs(values).max()) or 1.0
        distance = float(np.abs(np.asarray(outputs[name]) - values).max()) / largest
        _promise(distance <= tolerance, f"{who} is {distance:.2g} away from FP32 in {name!r} at all-FP32")
