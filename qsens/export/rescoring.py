"""Scores a bundle's engine again on the run's evaluation set and compares with what the run scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from qsens.core.errors import BuildError, RunFolderError, ScoreError, SpecError
from qsens.core.interfaces import Engine, Progress
from qsens.core.metric_names import PSNR, Z95
from qsens.core.precision import Precision, PrecisionMap
from qsens.device.bundle_files import Bundle
from qsens.device.errors import DeviceError
from qsens.device.executed import DeviceEngine
from qsens.device.goldens import run_in_batches
from qsens.device.leftovers import temporary_folder
from qsens.device.open_engine import open_engine
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.evaluate import Evaluator
from qsens.run.open import scoring_context
from qsens.run.reopen import ReopenedRun, reopen_run
from qsens.run.stages import Workload
from qsens.scoring.extractors import reference_features

# What an engine may lose against exact arithmetic beyond the score's own error, as for the goldens.
PSNR_ALLOWANCE_DB = 0.5
OTHER_ALLOWANCE = 0.02
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ComparedScore:
    """One metric: what the run scored, what the engine scores, and how much worse it may be."""

    metric: str
    expected: float
    found: float
    allowance: float
    lower_is_better: bool

    @property
    def is_worse(self) -> bool:
        """Whether the engine is worse than the run's score by more than the allowance; NaN is."""
        excess = self.found - self.expected if self.lower_is_better else self.expected - self.found
        return not excess <= self.allowance


def run_of_bundle(
    bundle: Bundle, run: Path | None, data: Path | None, *, trust_checkpoint: bool
) -> ReopenedRun:
    """The run that a bundle came from: the given one, else where the bundle says it lies.

    `data` is where its evaluation set (or the one set that it split) is now.

    Raises:
        RunFolderError: if it is not there, or is another run.
    """
    recorded = bundle.document["run"]["path"]
    if run is None and recorded is None:
        raise RunFolderError("the bundle does not say where its run lies", "name it with --run")
    path = run if run is not None else bundle.folder / recorded
    reopened = reopen_run(path, trust_checkpoint=trust_checkpoint)
    if reopened.study.spec_digest != bundle.document["run"]["spec_digest"]:
        raise RunFolderError(f"the bundle is not of the run {path}", "name its own run with --run")
    if reopened.graph.digest != bundle.document["model"]["graph"]:
        raise RunFolderError(f"the bundle holds another generator than {path}", "name its own run with --run")
    if data is None:
        return reopened
    if reopened.spec.evaluation is None:
        return replace(reopened, spec=replace(reopened.spec, calibration=str(data.absolute())))
    return replace(reopened, spec=replace(reopened.spec, evaluation=str(data.absolute())))


def score_again(bundle: Bundle, run: ReopenedRun, progress: Progress) -> tuple[ComparedScore, ...]:
    """Score the bundle's engine with the run's metrics on its evaluation set.

    Raises:
        SpecError: for a bundle of FP32, which scores are relative to.
        DataError, RunFolderError: if the set is not at hand or not the one that was scored on.
        BuildError, ScoreError: if the engine cannot be built or its outputs cannot be scored.
    """
    deployed = PrecisionMap.from_json(bundle.document["map"]["deployed"])
    if deployed == PrecisionMap(Precision.FP32):
        raise SpecError("FP32 is what scores compare with: there is nothing to score", "leave --score out")
    with temporary_folder() as folder:
        workload = _workload(bundle, run, folder, progress)
        trial = Evaluator(workload, evidence=folder, samples=folder, fp32=None)(1, deployed)
    found = {score.metric: score for score in trial.scores}
    return tuple(
        _compared(expected, found[expected["metric"]].value)
        for expected in bundle.document["scores"]["chosen"]
        if expected["metric"] in found and expected["value"] is not None
    )


class _EngineOfBundle:
    """The bundle's engine as a sweep sees an engine: any number of samples, run in the bundle's batches."""

    def __init__(self, bundle: Bundle, applied: PrecisionMap) -> None:
        self._bundle = bundle
        self._engine: DeviceEngine = open_engine(bundle)
        self.applied = applied
        self.size_bytes = self._engine.size_bytes

    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        entries = self._bundle.inputs
        count = next((len(batch[entry.name]) for entry in entries if entry.is_batched), 1)
        samples = {
            entry.name: batch[entry.name]
            if entry.is_batched
            else np.broadcast_to(batch[entry.name], (count, *batch[entry.name].shape))
            for entry in entries
        }
        try:
            return run_in_batches(self._engine.run, samples, entries, self._bundle.batch)
        except DeviceError as error:
            raise ScoreError(error.message, error.hint) from error

    def fp16_overflows(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> "_EngineOfBundle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _BackendOfBundle:
    """FP32 as the run computed it, and the bundle's engine for its map."""

    name = "bundle"
    flavour = "exact"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._bundle = bundle
        self._exact = OnnxRuntimeBackend(threads=threads)

    def build(self, lowered: LoweredGraph) -> Engine:
        if lowered.requested == PrecisionMap(Precision.FP32):
            return cast("Engine", self._exact.build(lowered))
        try:
            return _EngineOfBundle(self._bundle, lowered.requested)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error


def _workload(bundle: Bundle, run: ReopenedRun, folder: Path, progress: Progress) -> Workload:
    assembled = run.assembled
    features = None
    if assembled.reference is not None and assembled.extractor is not None:
        path = folder / "reference-features.npz"
        features = reference_features(assembled.reference, assembled.extractor, path=path, progress=progress)
    return Workload(
        plan=run.plan,
        ranges=run.ranges,
        options=run.options,
        backend=_BackendOfBundle(bundle, run.spec.threads),
        samples=assembled.evaluation,
        output=run.spec.output,
        metrics=assembled.metrics,
        context=scoring_context(assembled, features),
        batch_size=run.spec.batch_size,
    )


def _compared(expected: Mapping[str, Any], found: float) -> ComparedScore:
    value = float(expected["value"])
    is_psnr = expected["metric"].partition("[")[0] == PSNR
    allowance = PSNR_ALLOWANCE_DB if is_psnr else OTHER_ALLOWANCE * abs(value)
    error = expected["standard_error"] or 0.0
    return ComparedScore(
        metric=expected["metric"],
        expected=value,
        found=found,
        allowance=allowance + Z95 * error,
        lower_is_better=bool(expected["lower_is_better"]),
    )


def worse_scores(scores: Sequence[ComparedScore]) -> list[ComparedScore]:
    """Those that are worse than they may be."""
    return [score for score in scores if score.is_worse]
