"""Writes a bundle: a scored map, with golden samples, as a folder that checks its engine on the target."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.errors import RunFolderError, ScoreError, SpecError, VerificationError
from qsens.core.files import write_error
from qsens.core.interfaces import Hear, unheard
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import finite
from qsens.core.targets import Target, target_named
from qsens.deploy import bundle_script
from qsens.deploy.beyond_goldens import inputs_beyond
from qsens.deploy.bundle_document import (
    BundleFacts,
    bundle_document,
    layers_table,
    ranges_document,
    relative_run,
)
from qsens.deploy.bundle_readme import readme_text
from qsens.deploy.changed_map import changed_map
from qsens.deploy.chosen_map import ChosenMap
from qsens.deploy.device_code import device_code
from qsens.deploy.golden_samples import GoldenSamples, exact_outputs, golden_samples, picture_of_bundle
from qsens.deploy.other_grid import on_grid_of
from qsens.device.bundle_files import (
    BEYOND,
    CHECKSUMS,
    DOCUMENT,
    GOLDENS,
    BeyondGoldens,
    Bounds,
    Bundle,
    write_checksums,
)
from qsens.device.goldens import (
    GoldenResult,
    Goldens,
    compare_with_both,
    picture_psnr,
    write_goldens,
)
from qsens.device.leftovers import REPLACED, is_left, process_mark, remove_entry
from qsens.device.open_engine import open_engine
from qsens.engines.float_fallback import WEIGHTS_FILE, AgreedGraph, Drafting, ReturnedLayer, agreed_graph
from qsens.run.reopen import ReopenedRun

# On inputs beyond the calibration errors are cuts and not independent: both of one size, they differ by 6 dB.
BETWEEN_CUTS_DB = 6.5
# An engine may be this much further from FP32 than exact arithmetic: its roundings fall elsewhere.
ENGINE_ALLOWANCE_DB = 0.5
# Two right engines whose roundings are independent differ from each other by the sum of both errors, 3 dB
# more than each from FP32; the rest is room for the allowance above.
BETWEEN_ENGINES_DB = 4.0
GOLDEN_SAMPLES = 4
Array = np.ndarray[Any, np.dtype[Any]]


def bounds_for(exact_psnr_db: float, target: Target) -> Bounds:
    """The PSNR that an engine of the target must reach, given how close exact arithmetic comes to FP32."""
    return Bounds(
        fp32_psnr_db=min(exact_psnr_db - ENGINE_ALLOWANCE_DB, target.psnr_cap_db),
        exact_psnr_db=min(exact_psnr_db - BETWEEN_ENGINES_DB, target.psnr_cap_db),
    )


def goldens_beyond(run: ReopenedRun, deployed: PrecisionMap, calls: Mapping[str, Array]) -> Goldens | None:
    """Goldens of calls beyond the calibration; `None` where inputs or FP32 have no such values."""
    far = inputs_beyond(calls, run.graph.inputs, run.ranges, can_batch=run.graph.can_batch)
    if far is None:
        return None
    single = GoldenSamples((), far, far, None)
    try:
        fp32, exact = (exact_outputs(run, one, single) for one in (PrecisionMap(Precision.FP32), deployed))
    except ScoreError:
        return None
    return Goldens(far, fp32, exact)


def _with_beyond(bundle: Bundle, goldens: Goldens | None, target: Target) -> Bundle:
    if goldens is None:
        return bundle
    psnr = picture_psnr(goldens.exact[bundle.picture], goldens.fp32[bundle.picture], bundle.value_range)
    fp32_db = bounds_for(psnr, target).fp32_psnr_db
    bounds = Bounds(fp32_db, min(psnr - BETWEEN_CUTS_DB, target.psnr_cap_db))
    return replace(bundle, beyond=BeyondGoldens(len(goldens), bounds))


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    A map that the target cannot run as it is is not exported, unless `takes_back_to_float`; `strict` also
    refuses an engine whose pictures are off.
    """

    target: Target
    out: Path
    batch: int = 1
    golden_samples: int = GOLDEN_SAMPLES
    strict: bool = False
    takes_back_to_float: bool = False


@dataclass(frozen=True, eq=False)
class ExportedBundle:
    """A bundle on disk. `unaudited` says why this machine could not build its engine, `None` where it did.

    `digest` is the sha256 of its checksums. `compared` is how this machine's engine did against the goldens.
    """

    folder: Path
    title: str
    digest: str
    document: Mapping[str, Any]
    agreed: AgreedGraph
    compared: GoldenResult | None
    unaudited: str | None

    @property
    def returned(self) -> tuple[ReturnedLayer, ...]:
        """Layers that were to be INT8 and are exported in float."""
        return self.agreed.returned


def export_bundle(
    run: ReopenedRun,
    chosen: ChosenMap,
    options: ExportOptions,
    *,
    hear: Hear = unheard,
) -> ExportedBundle:
    """Export one map; an earlier bundle at the same place is replaced once the new one is complete.

    `hear` is told, before anything is written, of scores on another grid, and which layers go back to float
    where that is allowed.

    Raises:
        SpecError: for a batch that the graph cannot take.
        RunFolderError: if something that is not a bundle is in the way, or the folder cannot be written.
        DataError: if the evaluation set is not at hand, from which the goldens are taken.
        BuildError: if the target's runtime refuses the graph.
        VerificationError: if the engine runs something else and layers cannot or may not be taken back.
    """
    if options.batch > 1 and not run.graph.can_batch:
        raise SpecError(f"the graph takes one sample at a time, not {options.batch}", "leave --batch out")
    with _written_beside(options.out) as folder:
        return _export(run, chosen, options, folder, hear)


def _export(
    run: ReopenedRun, chosen: ChosenMap, options: ExportOptions, folder: Path, hear: Callable[[str], None]
) -> ExportedBundle:
    run, chosen = on_grid_of(options.target, run, chosen, hear)
    samples = golden_samples(run, options.golden_samples)
    fp32 = exact_outputs(run, PrecisionMap(Precision.FP32), samples)
    picture = picture_of_bundle(run, fp32)
    drafting = Drafting(run, options.target, folder, options.batch, samples.calls, picture)
    unaudited = target_named(options.target.name).problem
    agreed = agreed_graph(drafting, chosen.precision_map, builds=unaudited is None, strict=options.strict)
    changed = changed_map(run, chosen, options.target, agreed)
    if changed is not None:
        changed.say_first(hear, is_allowed=options.takes_back_to_float)
    kept = samples.without_fixed(agreed.lowered.graph.inputs)
    goldens = Goldens(kept.inputs, fp32, exact_outputs(run, agreed.deployed, samples))
    psnr = picture_psnr(goldens.exact[picture], fp32[picture], run.spec.output.pixel_range)
    bundle = drafting.bundle(agreed.lowered, chosen.precision_map, bounds_for(psnr, options.target))
    beyond = goldens_beyond(run, agreed.deployed, samples.calls)
    bundle = replace(_with_beyond(bundle, beyond, options.target), loop=kept.loop)
    compared = _compared(bundle, goldens, beyond) if agreed.engine is not None else None
    if options.strict and compared is not None and compared.problems:
        raise VerificationError("; ".join(compared.problems), "without --strict the bundle is written")
    facts = BundleFacts(
        run=run,
        target=options.target,
        chosen=chosen,
        agreed=agreed,
        bundle=bundle,
        golden_samples=samples.indices,
        exact_psnr_db=psnr,
        run_path=relative_run(run.path, options.out),
    )
    if beyond is not None:
        write_goldens(folder / BEYOND, beyond)
    document = _write_files(facts, goldens)
    digest = hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()
    return ExportedBundle(options.out, options.target.title, digest, document, agreed, compared, unaudited)


def _write_files(facts: BundleFacts, goldens: Goldens) -> dict[str, Any]:
    folder, document = facts.bundle.folder, bundle_document(facts)
    described, command = {}, None
    if (folder / WEIGHTS_FILE).exists():
        described[WEIGHTS_FILE] = "weights of `model.onnx`"
    if facts.target.extra_files is not None:
        extra = facts.target.extra_files(folder, facts.agreed.lowered, facts.run.ranges, facts.bundle.batch)
        described, command = {**described, **extra.described}, extra.command
    texts = {
        DOCUMENT: _json(document),
        "precision_map.json": _json(finite(facts.chosen.document)),
        "ranges.json": _json(ranges_document(facts.run.ranges)),
        "layers.csv": layers_table(facts.bundle.asked, facts.agreed),
        "verify.py": Path(bundle_script.__file__).read_text(encoding="utf-8"),
        "README.md": readme_text(document, facts.target, described, command=command),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_goldens(folder / GOLDENS, goldens)
    for name, content in device_code(facts.target.runtime, facts.target.opened_by).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_checksums(folder)
    return document


def _compared(bundle: Bundle, goldens: Goldens, beyond: Goldens | None) -> GoldenResult:
    engine = open_engine(bundle)
    try:
        return compare_with_both(engine.run, bundle, goldens, beyond)
    finally:
        engine.close()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


@contextmanager
def _written_beside(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when all went well, and vanishes where it did not."""
    try:
        _tidy(out)
        _check_replaceable(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{_beside(out)}-", suffix=".partial", dir=out.parent))
        partial.chmod(0o755)
    except OSError as error:
        raise write_error(out, error) from error
    try:
        yield partial
        _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(out: Path) -> str:
    """The name beside `out` of what this process writes there."""
    return f".{out.name}.{process_mark()}"


def _tidy(out: Path) -> None:
    """Put back the bundle that a killed export had moved away, and remove what else such exports left."""
    if not out.parent.is_dir():
        return
    for entry in sorted(out.parent.iterdir()):
        if not entry.name.startswith(f".{out.name}.of-") or not is_left(entry.name):
            continue
        if entry.suffix == REPLACED and not os.path.lexists(out):
            entry.rename(out)
        else:
            remove_entry(entry)


def _check_replaceable(out: Path) -> None:
    if out.is_dir() and (not any(out.iterdir()) or (out / DOCUMENT).is_file()):
        return
    if out.exists() or out.is_symlink():
        raise RunFolderError(f"{out} exists and is not a bundle", "give another folder with --out")
    holder = next((parent for parent in out.absolute().parents if (parent / DOCUMENT).is_file()), None)
    if holder is not None:
        raise RunFolderError(
            f"{out} would lie inside the bundle {holder}, whose checksums know no further files",
            "give another folder with --out",
        )


def _put_in_place(partial: Path, out: Path) -> None:
    earlier = out.with_name(_beside(out) + REPLACED)
    try:
        if out.exists():
            out.rename(earlier)
        try:
            partial.rename(out)
        except OSError:
            _put_back(earlier, out)
            raise
    except OSError as error:
        raise write_error(out, error) from error
    remove_entry(earlier)


def _put_back(earlier: Path, out: Path) -> None:
    """Undo the first step of putting a bundle in place, unless another export was faster."""
    if os.path.lexists(out):
        remove_entry(earlier)
    elif earlier.exists():
        earlier.rename(out)
