"""Checks a bundle with qsens at hand: the device's own checks, and compiling where nothing can run it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qsens.core.errors import BuildError, PluginError, RunFolderError, SpecError
from qsens.core.schema import check_schema
from qsens.deploy.bundle_script import Compared, Refused, compare
from qsens.device.audit import LayerAudit, audit_layers
from qsens.device.bundle_files import DOCUMENT, Bundle
from qsens.device.bundle_model import open_bundle
from qsens.device.check import BundleReport, ComparedFiles, check_engine
from qsens.device.errors import DeviceError
from qsens.device.latency_file import write_latency
from qsens.engines.lowering.lowered_graph import Flavour

PROVES = (
    "This proves that NVIDIA's compiler parses, types, optimises and serialises the graph. It does not prove "
    "what TensorRT runs on the target, that the pictures are right there, or any speed: run verify.py there."
)


@dataclass(frozen=True)
class CheckedFiles:
    """A bundle whose files are as they were exported."""

    bundle: Bundle
    files: ComparedFiles


@dataclass(frozen=True)
class CompiledBundle:
    """What TensorRT-RTX's compiler made of a bundle for TensorRT; nothing was run."""

    version: str
    plan_bytes: int
    audit: tuple[LayerAudit, ...]
    warnings: tuple[str, ...]


def checked_files(folder: Path, digest: str | None = None) -> CheckedFiles:
    """Compare all files with their checksums, those with `digest`; read `bundle.json`.

    Raises:
        RunFolderError: naming what is missing, damaged, or not part of the bundle, or the other digest.
        SpecError: naming the key that is wrong.
    """
    if not (folder / DOCUMENT).is_file():
        raise RunFolderError(
            f"{folder} is not a bundle: it has no {DOCUMENT}", "write one with: qsens export"
        )
    compared = _compared(folder, digest)
    try:
        bundle = open_bundle(folder)
    except DeviceError as error:
        raise RunFolderError(error.message, error.hint) from error
    check_schema(bundle.document, "bundle", str(folder / DOCUMENT))
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


def write_bundle_latency(report: BundleReport, path: Path) -> None:
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
