"""What can be refused before anything is calibrated, minutes or hours earlier than it would come to light."""

import math
from collections.abc import Mapping, Sequence

from qsens.core.errors import SpecError
from qsens.core.interfaces import Metric, SampleSet, Strategy, annotation_of
from qsens.core.metric_names import DAMAGE, HEADLINES, PSNR
from qsens.core.spec import SweepSpec
from qsens.graph.graph import Graph
from qsens.run.loop import planned_count
from qsens.scoring.pictures import check_output
from qsens.selection.budget import Budget, no_budget
from qsens.selection.choose import guard_without_score


def check_before_calibrating(
    spec: SweepSpec, graph: Graph, strategy: Strategy, metrics: Sequence[Metric]
) -> None:
    """What would otherwise come to light only after minutes or hours of work. Raises `SpecError`."""
    check_output(graph.outputs, spec.output)
    planned_count(graph.layers, strategy)
    names = [metric.name for metric in metrics]
    check_limits(spec.budget, spec.guard, names)
    if getattr(strategy, "needs_budget", False) and HEADLINES[0] not in names:
        raise no_budget(strategy.name)


def check_limits(budget: str | None, guard: str | None, metrics: Sequence[str]) -> None:
    """Check that a budget and a guard can be read on the scores of `metrics`, before anything is scored.

    Raises:
        SpecError: for an amount that cannot be read, a share of a score that FP32 does not have, or a guard
            without the score it is on.
    """
    if guard is not None and DAMAGE not in metrics:
        raise guard_without_score(guard)
    headline = next((name for name in HEADLINES if name in metrics), None)
    of_fp32 = {DAMAGE: 0.0, PSNR: math.inf}
    for amount in (Budget.parse(text) for text in (budget, guard) if text is not None):
        if headline in of_fp32:
            amount.points(headline, of_fp32[headline])


def check_annotations(metrics: Sequence[Metric], samples: SampleSet) -> None:
    """Refuse a metric that reads what the evaluation set does not know. Raises `SpecError`."""
    known = annotation_of(samples, 0)
    for metric in metrics:
        missing = [key for key in getattr(metric, "needs_annotations", ()) if key not in known]
        if missing:
            raise SpecError(
                f"metric {metric.name!r} reads the {missing[0]} of each sample, "
                f"which {samples.name!r} does not state",
                "leave the metric out, or evaluate on a set whose plug-in states it",
            )


def check_shapes(given: Mapping[str, Sequence[int]], of_sample: Mapping[str, Sequence[int]]) -> None:
    """Refuse a stated shape that the samples do not have: MACs would be of another size than scores."""
    for name, shape in of_sample.items():
        stated = given.get(name, shape)
        if tuple(stated[1:]) != tuple(shape[1:]):
            texts = ["x".join(map(str, sides)) for sides in (stated, shape)]
            raise SpecError(
                f"input {name!r} is stated as {texts[0]}, but its samples are {texts[1]}",
                "leave --input-shape out, or bring the images to that size with --resize HxW",
            )
