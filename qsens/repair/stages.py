"""The stages of a repair, in order; each is taken only where samples that it was not fitted to improve."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from qsens.calibration.ranges import Ranges
from qsens.calibration.splits import SampleView, spread_places
from qsens.core.errors import BuildError, DataError, install_hint
from qsens.core.interfaces import Hear, OutputRule, Progress, SampleSet, unheard
from qsens.engines.lowering.exact import FP16_MAXIMUM, OVERFLOW_MARGIN
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan
from qsens.repair.candidates import range_candidates
from qsens.repair.channel_scales import LARGEST_EXPONENT, ScalableLayer, scalable_layers
from qsens.repair.picture_error import PictureError
from qsens.repair.range_search import search_ranges
from qsens.repair.repair import Repair, StageResult, load_repair, repair_digest, save_repair, stage_texts
from qsens.repair.tries import Tries
from qsens.repair.weights import compensate_weights

STAGES = ("ranges", "scales", "weights")
RECIPES: Mapping[str, tuple[str, ...]] = {"none": (), "auto": ("ranges", "weights")}
# Fewer leave nothing to fit to, or nothing to hold against it.
FEWEST_SAMPLES = 8
# Samples whose pictures tell which range is better, and those that a stage has to improve.
FITTED_PICTURES = 40
# Samples that scales are learned on, so many at a time as leave gradients this much memory.
LEARNED_PICTURES = 96
LEARNED_AT_ONCE = 8
GRADIENT_BYTES = 512 * 2**20
# What gradients keep of each value of a layer's output: quotients, codes, sums and activations.
_BYTES_PER_OUTPUT = 20
HELD_OUT_PICTURES = 24
# A scaled channel may be 2^LARGEST_EXPONENT times larger, and layers in FP16 compute with it too.
_LARGEST_SCALABLE = FP16_MAXIMUM / OVERFLOW_MARGIN / 2**LARGEST_EXPONENT
_VERSION = 1
# A repair with one more stage, and what that did.
Proposal = tuple[Repair, StageResult]


def stages_of(recipe: str) -> tuple[str, ...]:
    """The stages of a spec's `repair`: `auto`, `none`, or names joined by commas. They run in their order."""
    if recipe in RECIPES:
        return RECIPES[recipe]
    return tuple(name for name in STAGES if name in recipe.split(","))


@dataclass(frozen=True, eq=False)
class Subject:
    """Everything a repair is made from: the calibrated plan, and the calibration samples.

    `apart_from` is the digest of the evaluation set where samples were left out that are in it too. `hear` is
    told what a stage did when it ends.
    """

    plan: LoweringPlan
    ranges: Ranges
    options: LoweringOptions
    samples: SampleSet
    output: OutputRule
    threads: int
    progress: Progress
    apart_from: str | None = None
    hear: Hear = unheard

    @cached_property
    def parts(self) -> tuple[SampleSet, SampleSet]:
        """The samples that stages are fitted to, and those held out."""
        return fitted_and_held_out(self.samples)

    @cached_property
    def judge(self) -> PictureError:
        """The measure on held-out samples, the same for all stages. Raises `DataError`."""
        return self.measure(_spread(self.parts[1], HELD_OUT_PICTURES))

    @cached_property
    def scalable(self) -> tuple[ScalableLayer, ...]:
        """Layers whose channels may be scaled, without those whose values could come near FP16's limit."""
        found = []
        for entry in scalable_layers(self.plan):
            extremes = self.ranges[entry.result]
            if max(-extremes.minimum, extremes.maximum) <= _LARGEST_SCALABLE:
                found.append(entry)
        return tuple(found)

    def measure(self, samples: SampleSet, batch_size: int = 8) -> PictureError:
        """A measure of pictures on other samples. Raises `DataError`."""
        return PictureError.of(
            self.plan,
            self.options,
            samples,
            rule=self.output,
            threads=self.threads,
            batch_size=batch_size,
        )


def make_repair(subject: Subject, recipe: str, path: Path) -> Repair:
    """The repair of that recipe, read from `path` if it is there, else made and written.

    A stage that was finished before a stop is not made again, nor what a search in one had tried.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    stages = stages_of(recipe)
    digests = [
        recipe_digest(subject.ranges, stages[:count], subject.apart_from) for count in range(len(stages) + 1)
    ]
    repair = load_repair(path, digests[1:]) or Repair(digests[0])
    done = digests.index(repair.digest)
    tries = Tries(path.with_name("repair-tries.jsonl"), digests[-1])
    told = _tell(subject, repair.stages)
    for stage, digest in zip(stages[done:], digests[done + 1 :], strict=True):
        repair = replace(_with_stage(subject, repair, stage, tries), digest=digest)
        save_repair(path, repair)
        # Stages that are left out for one reason share a sentence.
        if repair.stages[-1].left_out is None:
            told += _tell(subject, repair.stages[told:])
    _tell(subject, repair.stages[told:])
    # A stop between the two lines above and below leaves the file to the next call.
    tries.remove()
    return repair


def _tell(subject: Subject, stages: Sequence[StageResult]) -> int:
    """Say what stages did; returns their number."""
    for text in stage_texts(stages):
        subject.hear(f"Repair: {text}")
    return len(stages)


def recipe_digest(ranges: Ranges, stages: tuple[str, ...], apart_from: str | None = None) -> str:
    """The digest of the repair of these ranges by these stages, without what that evaluation set holds."""
    apart = {} if apart_from is None else {"apart_from": apart_from}
    return repair_digest(ranges, {"version": _VERSION, "stages": stages, **apart})


def _with_stage(subject: Subject, repair: Repair, stage: str, tries: Tries) -> Repair:
    """The repair with one more stage, or with the reason why it was not taken."""
    start = time.perf_counter()
    judge = _judge_or_reason(subject, stage)
    if isinstance(judge, str):
        return _extended(repair, StageResult(stage, is_taken=False, skipped=((stage, judge),)))
    before = judge(*repair.applied(subject.plan, subject.ranges))
    proposed, result = _PROPOSERS[stage](subject, repair, tries)
    after = judge(*proposed.applied(subject.plan, subject.ranges))
    result = replace(result, is_taken=after < before, error_before=before, error_after=after)
    result = replace(result, duration_s=time.perf_counter() - start)
    return _extended(proposed if result.is_taken else repair, result)


def _judge_or_reason(subject: Subject, stage: str) -> PictureError | str:
    """The measure that a stage has to improve, or why it is left out."""
    if len(subject.samples) < FEWEST_SAMPLES:
        which = "" if subject.apart_from is None else " that are not in the evaluation set"
        return (
            f"{len(subject.samples)} calibration samples{which}, {FEWEST_SAMPLES} are needed (a larger set, "
            "or --calibration-samples)"
        )
    if stage == "scales" and (reason := _why_no_scales(subject)):
        return reason
    try:
        return subject.judge
    except DataError as error:
        return error.message


def _why_no_scales(subject: Subject) -> str | None:
    if find_spec("torch") is None:
        return f"torch is not installed ({install_hint('torch')})"
    if not subject.scalable:
        return "no layer hands its channels to other layers alone, through activations like ReLU"
    # torch is optional, and everything else runs without.
    from qsens.repair.gradient_graph import check_operators

    try:
        check_operators(subject.plan)
    except BuildError as error:
        return f"gradients go through torch, and {error.message}"
    return None


def _extended(repair: Repair, result: StageResult) -> Repair:
    return replace(repair, stages=(*repair.stages, result))


def fitted_and_held_out(samples: SampleSet) -> tuple[SampleSet, SampleSet]:
    """Two parts of a set without a common sample, nor a common clip where there are at least four clips.

    Every fourth sample, or clip, is held out.
    """
    labels = np.arange(len(samples)).astype(str) if samples.clusters is None else np.array(samples.clusters)
    order = list(dict.fromkeys(labels.tolist()))
    # Every fourth of fewer clips would be none.
    if len(order) < 4:
        labels = np.arange(len(samples)).astype(str)
        order = labels.tolist()
    held = set(order[3::4])
    is_held = [label in held for label in labels.tolist()]
    parts = [[index for index, value in enumerate(is_held) if value is kind] for kind in (False, True)]
    return (
        SampleView(samples, parts[0], ", a repair is fitted to"),
        SampleView(samples, parts[1], ", held out of a repair"),
    )


def _spread(samples: SampleSet, count: int) -> SampleSet:
    return SampleView(samples, spread_places(len(samples), count), "")


def _ranges_by_picture(subject: Subject, repair: Repair, tries: Tries) -> Proposal:
    tensors = subject.plan.quantized_tensors(subject.options.placement)
    observer = subject.plan.observer(subject.options.placement, subject.threads)
    fitted, _ = subject.parts
    candidates = range_candidates(observer, tensors, fitted, subject.progress)
    measure = subject.measure(_spread(fitted, FITTED_PICTURES))

    def error_of(amax: Mapping[str, float]) -> float:
        tried = replace(repair, amax=amax).repaired_ranges(subject.ranges)
        return float(tries.outcome(["ranges", dict(amax)], lambda: measure(subject.plan, tried)))

    start = {name: subject.ranges[name].amax for name in tensors}
    offered = {name: tuple(methods) for name, methods in candidates.items()}
    found = search_ranges(start, offered, error_of, subject.progress)
    methods = {name: candidates[name][amax] for name, amax in found.amax.items()}
    result = StageResult("ranges", is_taken=True, changed=len(found.amax), tries=found.tries)
    return replace(repair, amax=found.amax, methods=methods), result


def _scales_learned(subject: Subject, repair: Repair, tries: Tries) -> Proposal:
    # torch is optional, and everything else runs without.
    from qsens.repair.learned_scales import learn_scales

    outputs = sum(int(np.prod(layer.output_shape)) for layer in subject.plan.graph.layers)
    batch_size = max(1, min(LEARNED_AT_ONCE, GRADIENT_BYTES // (_BYTES_PER_OUTPUT * max(outputs, 1))))
    found = learn_scales(
        subject.plan,
        repair.repaired_ranges(subject.ranges),
        subject.scalable,
        subject.measure(_spread(subject.parts[0], LEARNED_PICTURES), batch_size),
        tries=tries,
        progress=subject.progress,
    )
    methods = {**repair.methods, **dict.fromkeys(found.amax, "scales")}
    changed = sum(int(np.count_nonzero(values)) for values in found.exponents.values())
    amax = {**repair.amax, **found.amax}
    proposed = replace(repair, exponents=found.exponents, amax=amax, methods=methods)
    return proposed, StageResult("scales", is_taken=True, changed=changed)


def _weights_compensated(subject: Subject, repair: Repair, _: Tries) -> Proposal:
    found = compensate_weights(
        *repair.applied(subject.plan, subject.ranges),
        subject.options,
        subject.parts[0],
        threads=subject.threads,
        progress=subject.progress,
    )
    result = StageResult("weights", is_taken=True, changed=len(found.layers), skipped=found.skipped)
    return replace(repair, layers=found.layers), result


_PROPOSERS: Mapping[str, Callable[[Subject, Repair, Tries], Proposal]] = {
    "ranges": _ranges_by_picture,
    "scales": _scales_learned,
    "weights": _weights_compensated,
}
