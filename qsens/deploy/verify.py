"""Checks a bundle with qsens at hand: the device's own checks, and compiling where nothing can run it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from qsens.core.errors import BuildError, PluginError, RunFolderError, ScoreError, SpecError
from qsens.core.interfaces import Backend, Engine, Progress, Role
from qsens.core.metric_names import Z95, role_of
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import check_schema
from qsens.core.targets import declared_targets
from qsens.deploy.bundle_script import Compared, Refused, compare
from qsens.deploy.other_grid import scored_workload
from qsens.device.audit import DeviceEngine, LayerAudit, audit_layers
from qsens.device.bundle_files import DOCUMENT, Bundle
from qsens.device.bundle_model import open_bundle
from qsens.device.check import BundleReport, ComparedFiles, check_engine
from qsens.device.errors import DeviceError
from qsens.device.goldens import run_in_batches
from qsens.device.latency import write_latency
from qsens.device.leftovers import temporary_folder
from qsens.device.open_engine import open_engine
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.evaluate import Evaluator
from qsens.run.reopen import ReopenedRun, reopen_run

# What an engine may lose against exact arithmetic beyond the score's own error, as for the goldens.
PSNR_ALLOWANCE_DB = 0.5
OTHER_ALLOWANCE = 0.02
Array = np.ndarray[Any, np.dtype[Any]]
PROVES = (
    "This proves that NVIDIA's compiler parses, types, optimises and serialises the graph. It does not prove "
    "what TensorRT runs on the target, that the pictures are right there, or any speed: run verify.py there."
)


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

    @property
    def text(self) -> str:
        """Both in a sentence."""
        return f"{self.metric} is {self.found:.4g}, the run scored {self.expected:.4g}"


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
        workload = scored_workload(run, _BackendOfBundle(bundle, run.spec.threads), folder, progress)
        trial = Evaluator(workload, evidence=folder, samples=folder, fp32=None)(1, deployed)
    found = {score.metric: score for score in trial.scores}
    return tuple(
        _compared_score(expected, found[expected["metric"]].value)
        for expected in bundle.document["scores"]["chosen"]
        if expected["metric"] in found and expected["value"] is not None
    )


class _EngineOfBundle(Engine):
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


class _BackendOfBundle(Backend):
    """FP32 as the run computed it, and the bundle's engine for its map."""

    name = "bundle"
    flavour = "exact"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._bundle = bundle
        self._exact = OnnxRuntimeBackend(threads=threads)

    def build(self, lowered: LoweredGraph) -> Engine:
        if lowered.requested == PrecisionMap(Precision.FP32):
            return self._exact.build(lowered)
        try:
            return _EngineOfBundle(self._bundle, lowered.requested)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error


def _compared_score(expected: Mapping[str, Any], found: float) -> ComparedScore:
    value = float(expected["value"])
    is_psnr = role_of(expected["metric"]) is Role.DECIBELS
    error = expected["standard_error"] or 0.0
    # Both saw the same samples: of decibels, a mean over pictures, the choice of samples explains nothing.
    allowance = PSNR_ALLOWANCE_DB if is_psnr else OTHER_ALLOWANCE * abs(value) + Z95 * error
    return ComparedScore(
        metric=expected["metric"],
        expected=value,
        found=found,
        allowance=allowance,
        lower_is_better=bool(expected["lower_is_better"]),
    )


@dataclass(frozen=True)
class CheckedFiles:
    """A bundle whose files are as they were exported."""

    bundle: Bundle
    files: ComparedFiles


@dataclass(frozen=True)
class CompiledBundle:
    """The plan that TensorRT-RTX's compiler made of a bundle for TensorRT, and its audit; nothing was run."""

    version: str
    plan_bytes: int
    audit: tuple[LayerAudit, ...]
    warnings: tuple[str, ...]


def _no_bundle(folder: Path) -> RunFolderError:
    if not folder.is_dir():
        return RunFolderError(f"no folder {folder}", "give the folder that `qsens export` wrote")
    inside = ", ".join(str(path.parent) for path in sorted(folder.glob(f"*/{DOCUMENT}")))
    hint = f"give the bundle in it: {inside}" if inside else "write one with: qsens export"
    return RunFolderError(f"{folder} is not a bundle: it has no {DOCUMENT}", hint)


def checked_files(folder: Path, digest: str | None = None) -> CheckedFiles:
    """Compare all files with their checksums, those with `digest`; read `bundle.json`.

    Raises:
        RunFolderError: naming what is missing, damaged, or not part of the bundle, or the other digest.
        SpecError: naming the key that is wrong.
    """
    if not (folder / DOCUMENT).is_file():
        raise _no_bundle(folder)
    compared = _compared(folder, digest)
    try:
        bundle = open_bundle(folder)
    except DeviceError as error:
        raise RunFolderError(error.message, error.hint) from error
    check_schema(bundle.document, "bundle", str(folder / DOCUMENT))
    declared = declared_targets().get(bundle.document["target"])
    if declared is not None:
        bundle = replace(bundle, opened_by=declared.target.opened_by)
    again = partial(_compared, folder, compared.digest)
    return CheckedFiles(bundle, ComparedFiles(compared.files, compared.digest, again))


def _compared(folder: Path, digest: str | None) -> Compared:
    try:
        return compare(folder, digest)
    except Refused as error:
        raise RunFolderError(error.message, error.hint) from error


def verify_engine(checked: CheckedFiles, *, repeats: int) -> BundleReport:
    """Rebuild, audit, compare and time `repeats` runs, by the code that the bundle carries a copy of.

    Raises:
        BuildError: if the runtime is missing or refuses the graph.
    """
    try:
        return check_engine(checked.bundle, checked.files, repeats=repeats)
    except DeviceError as error:
        hint = error.hint
        if checked.bundle.runtime == "tensorrt":
            hint = f"{hint}; qsens verify --compile-only needs no GPU".lstrip("; ")
        raise BuildError(error.message, hint) from error


class Measured(Protocol):
    """A check that may have measured, here or on another device."""

    def latency_json(self) -> Mapping[str, Any] | None:
        """The content of its latency file."""


def write_bundle_latency(report: Measured, path: Path) -> None:
    """Write the latency file of a check that measured.

    Raises:
        RunFolderError: if it cannot be written.
    """
    document = report.latency_json()
    assert document is not None, "only what was measured is written"
    try:
        write_latency(path, document)
    except DeviceError as error:
        raise RunFolderError(error.message, error.hint) from error


def compile_only(checked: CheckedFiles) -> CompiledBundle:
    """Compile a bundle for TensorRT with TensorRT-RTX, which needs no GPU to build.

    Raises:
        SpecError: for a bundle of another runtime, or a weakly typed one, which TensorRT-RTX has not.
        PluginError: if TensorRT-RTX is not installed.
        BuildError: with the compiler's own words.
    """
    bundle = checked.bundle
    if bundle.flavour != Flavour.STRONG:
        raise SpecError(
            f"a bundle for {bundle.document['target']} cannot be compiled without its device: "
            "TensorRT-RTX builds strongly typed graphs only",
            "export --for tensorrt, or leave --compile-only out",
        )
    # loads TensorRT's libraries, a hundred megabytes
    from qsens.device.tensorrt_build import PlanOptions, compile_plan
    from qsens.device.tensorrt_module import TENSORRT_RTX, import_tensorrt
    from qsens.engines.tensorrt_rtx import executed_in

    try:
        trt = import_tensorrt(TENSORRT_RTX)
    except DeviceError as error:
        raise PluginError(error.message, error.hint) from error
    size = bundle.batch
    options = PlanOptions(bundle.flavour, batches=(size, size, size), input_shapes=bundle.input_shapes)
    try:
        built = compile_plan(trt, bundle.model_path.read_bytes(), options, keeps_log=True)
    except DeviceError as error:
        raise BuildError(error.message, error.hint) from error
    audit = audit_layers(bundle.asked, executed_in(built))
    return CompiledBundle(str(trt.__version__), len(built.plan), audit, built.warnings)
