"""Scores of several runs that may share an axis, and the reasons that others may not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qsens.core.errors import SpecError
from qsens.core.metric_names import base_name, facts_of, no_such_score
from qsens.core.trial import Score
from qsens.report.comparable import is_against_fp32, reference_of
from qsens.report.compare.runs import ComparedRun, short_digest

_PAIR = re.compile(r"([\w-]+)=([^\s(]+(?:\([^)]*\))?)")


@dataclass(frozen=True)
class SharedMetric:
    """A metric that all runs measured against the same thing.

    `images` is the number of images of each score. `is_own_fp32` says that every run measured against its
    own FP32 outputs and that these are of different generators: damage, which says nothing of whose
    pictures are better.
    """

    name: str
    lower_is_better: bool
    images: int
    is_own_fp32: bool


@dataclass(frozen=True)
class LeftOutMetric:
    """A metric that the runs must not be compared on, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ComparableMetrics:
    """The metrics that several runs can and cannot be compared on, in the order of the first run."""

    shared: tuple[SharedMetric, ...]
    left_out: tuple[LeftOutMetric, ...]


def comparable_metrics(runs: Sequence[ComparedRun], asked: Sequence[str] = ()) -> ComparableMetrics:
    """Sort the runs' metrics into those that may be compared and those that may not.

    `asked` names the wanted ones, all of them where it is empty; `fid` stands for `fid[lite0]` too.

    Raises:
        SpecError: for a wanted metric that no run has or that the runs must not be compared on, and where
            nothing is left to compare.
    """
    names = tuple(dict.fromkeys(name for run in runs for name in run.study.metrics))
    reasons = {name: _reason(name, runs) for name in names}
    for wanted in asked:
        _check_asked(wanted, names, reasons)
    chosen = [name for name in names if not asked or _is_asked(name, asked)]
    shared = tuple(_shared(name, runs) for name in chosen if reasons[name] is None)
    left_out = tuple(LeftOutMetric(name, reason) for name in chosen if (reason := reasons[name]) is not None)
    if not shared:
        raise _nothing_comparable(left_out)
    return ComparableMetrics(shared, left_out)


def reference_score(run: ComparedRun, metric: str) -> Score | None:
    """The first score of the metric that was measured against what FP32's was; `None` without any."""
    against = reference_of(run.study, metric)
    scores = (trial.score(metric) for trial in run.study.scored())
    return next((score for score in scores if score is not None and score.against == against), None)


def _is_asked(name: str, asked: Sequence[str]) -> bool:
    return name in asked or base_name(name) in asked


def _check_asked(wanted: str, names: Sequence[str], reasons: dict[str, str | None]) -> None:
    found = [name for name in names if _is_asked(name, (wanted,))]
    if not found:
        raise no_such_score(wanted, names)
    if all(reasons[name] is not None for name in found):
        texts = "; ".join(f"{name}: {reasons[name]}" for name in found)
        possible = [name for name in names if reasons[name] is None]
        hint = f"these can be compared: {', '.join(possible)}" if possible else _HINT
        raise SpecError(f"the runs must not be compared on {wanted!r}: {texts}", hint)


def _reason(name: str, runs: Sequence[ComparedRun]) -> str | None:
    """The reason that the runs must not be compared on the metric, `None` where they may."""
    scores = [reference_score(run, name) for run in runs]
    without = [run.label for run, score in zip(runs, scores, strict=True) if score is None]
    if without:
        return f"not scored in {', '.join(without)}"
    known = [score for score in scores if score is not None]
    if len({score.lower_is_better for score in known}) > 1:
        return "higher is better in one run and lower in another"
    first, label = known[0], runs[0].label
    for run, score in zip(runs[1:], known[1:], strict=True):
        if (score.against, score.images) != (first.against, first.images):
            return _difference_of(name, (label, first), (run.label, score))
    return None


def _difference_of(name: str, one: tuple[str, Score], other: tuple[str, Score]) -> str:
    before, after = _parts(one[1].against), _parts(other[1].against)
    texts = [
        f"{key} {before.get(key, 'none')} in {one[0]}, {after.get(key, 'none')} in {other[0]}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]
    counts = one[1].images, other[1].images
    if counts[0] != counts[1]:
        bias = ", and Fréchet distances fall as that number grows" if facts_of(name).is_frechet else ""
        texts.append(f"{counts[0]} images in {one[0]}, {counts[1]} in {other[0]}{bias}")
    return "; ".join(texts)


def _parts(against: str) -> dict[str, str]:
    """The named parts of what a score was measured against; the rest is `measured by`."""
    named = {key: short_digest(value) for key, value in _PAIR.findall(against)}
    rest = " ".join(_PAIR.sub("", against).split())
    return {**({"measured by": short_digest(rest)} if rest else {}), **named}


def _shared(name: str, runs: Sequence[ComparedRun]) -> SharedMetric:
    score = reference_score(runs[0], name)
    assert score is not None, "metrics without a score have a reason"
    is_against = all(is_against_fp32(run.study, name) for run in runs)
    graphs = {run.contents.get("graph") for run in runs}
    return SharedMetric(name, score.lower_is_better, score.images, is_against and len(graphs) > 1)


_HINT = "sweep the runs with the same --evaluation, --evaluation-samples, --reference, --extractor and --seed"


def _nothing_comparable(left_out: Sequence[LeftOutMetric]) -> SpecError:
    names: dict[str, list[str]] = {entry.reason: [] for entry in left_out}
    for entry in left_out:
        names[entry.reason].append(entry.name)
    texts = "; ".join(f"{', '.join(members)}: {reason}" for reason, members in names.items())
    return SpecError(f"the runs have no score in common: {texts or 'nothing is scored yet'}", _HINT)
