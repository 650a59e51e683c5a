"""Trained generators whose maps can all be scored: their layers merged into a few groups, ready to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.interfaces import Measurement, ScoredBatch, ScoringContext
from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Score
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.evidence import load_evidence
from qsens.run.folder import RunFolder
from qsens.run.open import open_sweep
from qsens.scoring.fid import FidAgainstFp32
from qsens.scoring.fidelity import mean_squared_errors

CALIBRATION_SAMPLES = 32
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one map gave: `features` (N, D) and `errors` (N,), mean squared errors in squared grey levels."""

    features: Array
    errors: Array


@dataclass(frozen=True, eq=False)
class Network:
    """A generator whose `layers` carry their group as block, and what scores its maps but FP32.

    `context` is that of a sweep over the same inputs, with the features of FP32.
    """

    layers: tuple[Layer, ...]
    context: ScoringContext
    run: Callable[[PrecisionMap], Outputs]


@contextmanager
def opened_network(name: str, *, groups: int, images: int, threads: int, folder: Path) -> Iterator[Network]:
    """Open, calibrate and group a generator; its files are made in `folder`, once."""
    values = {**NETWORKS[name](folder), **_shared_values(images, threads)}
    values = {key: value for key, value in values.items() if key not in _LEFT_OUT}
    opened = open_sweep(SweepSpec.from_mapping(values))
    with RunFolder.open(folder / f"{name}-{images}", opened.spec) as run:
        work = replace(
            calibrated_workload(opened, run, _silent), metrics=(FidAgainstFp32(), _SquaredErrors())
        )
        evaluate = Evaluator(work, evidence=run.evidence, samples=run.samples, fp32=None)
        evaluate(0, PrecisionMap(Precision.FP32))

        def outputs(requested: PrecisionMap) -> Outputs:
            mean = evaluate(1, requested).score(_SquaredErrors.name)
            evidence = load_evidence(run.evidence, 1)
            assert mean is not None, "the metric is among those of the workload"
            assert evidence is not None, "the evaluator has just written it"
            return Outputs(evidence.features, evidence.influences[_SquaredErrors.name] + mean.value)

        baseline = load_evidence(run.evidence, 0)
        assert baseline is not None, "the evaluator has just written it"
        layers = merged(opened.graph.layers, groups)
        yield Network(layers, replace(work.context, baseline_features=baseline.features), outputs)


def merged(layers: Sequence[Layer], groups: int) -> tuple[Layer, ...]:
    """The layers in execution order, cut into groups of as equal a number as can be; groups are blocks."""
    ordered = sorted(layers, key=lambda layer: layer.index)
    parts = np.array_split(np.arange(len(ordered)), min(groups, len(ordered)))
    return tuple(
        replace(ordered[place], block=f"group{index}") for index, part in enumerate(parts) for place in part
    )


class _SquaredErrors:
    """Mean squared error against FP32; the influences tell that of each image."""

    name = "squared-error"
    lower_is_better = True
    needs_features = False
    needs_reference = False

    def label(self, context: ScoringContext) -> str:
        return self.name

    def start(self, context: ScoringContext) -> _ErrorAccumulator:
        return _ErrorAccumulator()


class _ErrorAccumulator:
    def __init__(self) -> None:
        self._parts: list[Array] = []

    def update(self, batch: ScoredBatch) -> None:
        self._parts.append(mean_squared_errors(batch.images, batch.baseline))

    def compute(self) -> Measurement:
        errors = np.concatenate(self._parts)
        mean = float(errors.mean())
        score = Score("squared-error", mean, len(errors), "fp32", lower_is_better=True)
        return Measurement(score, errors - mean)


def _talker(folder: Path) -> dict[str, Any]:
    from qsens.zoo.talker.demo import TalkerDemo

    return dict(TalkerDemo().spec_values(folder))


def _style(folder: Path) -> dict[str, Any]:
    from qsens.cli.demo import StyleDemo

    return dict(StyleDemo().spec_values(folder))


def superresolution_values(folder: Path, **size: int) -> dict[str, Any]:
    """Values of a spec for a super-resolution network of that many `blocks` and `channels`, trained once."""
    from search_superresolution import LOW_SIDE, write_low_resolution, write_trained

    from qsens.cli.demo import write_demo_sets

    inputs, training = write_demo_sets(folder)
    return {
        "checkpoint": str(write_trained(folder, training, **size)),
        "model": "search_superresolution:SuperResolution",
        "model_options": {"arguments": size},
        "input_shapes": {"image": [1, 3, LOW_SIDE, LOW_SIDE]},
        "calibration": str(write_low_resolution(folder / "low", inputs)),
        "placement": "dense",
    }


NETWORKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "talker": _talker,
    "style": _style,
    "superresolution": superresolution_values,
}
_LEFT_OUT = ("reference", "strategy_options", "strategy", "budget", "target")


def _shared_values(images: int, threads: int) -> dict[str, Any]:
    return {
        "metrics": ["fid-fp32", "psnr"],
        "extractor": "lite0",
        "repair": "none",
        "calibration_samples": CALIBRATION_SAMPLES,
        "evaluation_samples": images,
        "threads": threads,
    }


def _silent(done: int, total: int, label: str) -> None:
    """A `Progress` that shows nothing."""
