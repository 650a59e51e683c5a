"""`qsens.export`, `verify`, `compile_bundle` and `bench`: from a run folder to a bundle that was checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsens import api
from qsens.core.errors import SpecError
from qsens.core.interfaces import Hear, Progress
from qsens.deploy.bench_folder import DEFAULT_REPEATS, BenchedFolder, BenchWishes, bench_folders
from qsens.deploy.bundle import GOLDEN_SAMPLES, ExportedBundle, ExportOptions
from qsens.deploy.ssh import PYTHON, Device
from qsens.deploy.there import ReportThere, verify_there
from qsens.deploy.verify import (
    CheckedFiles,
    ComparedScore,
    CompiledBundle,
    checked_files,
    compile_only,
    run_of_bundle,
    score_again,
    verify_engine,
    write_bundle_latency,
)
from qsens.device.check import BundleReport, report_problems, report_text
from qsens.python.plain_errors import plain_errors
from qsens.python.progress import shown_progress
from qsens.python.run import PathText
from qsens.python.sweep import say


@plain_errors
def export(  # noqa: PLR0913 - the options of a command, by keyword only
    run: PathText,
    *,
    target: str | None = None,
    trial: int | None = None,
    out: PathText | None = None,
    batch: int = 1,
    goldens: int = GOLDEN_SAMPLES,
    strict: bool = False,
    float_fallback: bool = False,
    trust_checkpoint: bool = False,
    hear: Hear = say,
) -> ExportedBundle:
    """Write the selected map of a run, or that of a `trial`, as a bundle that rebuilds and checks itself.

    `target` is the runtime (`openvino`, `onnxruntime`, `tensorrt`, `tensorrt-legacy`), without it that of the
    sweep; `out` is `RUN/bundle-TARGET` without one. `batch` samples run at once; `goldens` are kept. `strict`
    refuses an engine that does not run the map as it is; with `float_fallback` layers without an INT8 kernel
    are exported in float, else nothing is written.

    Raises:
        QsensError: with what is wrong and what to do; an earlier bundle stays as it was.
    """
    found = api.export_target(Path(run), target)
    folder = Path(run) / f"bundle-{found.name}" if out is None else Path(out)
    options = ExportOptions(found, folder, batch, goldens, strict, float_fallback)
    trials = () if trial is None else (trial,)
    (exported,) = api.export(Path(run), options, trials=trials, trust_checkpoint=trust_checkpoint, hear=hear)
    return exported


@dataclass(frozen=True, eq=False)
class Verification:
    """A bundle checked: `problems` are sentences on what is not as it should be, none where all is."""

    report: BundleReport | ReportThere
    scores: tuple[ComparedScore, ...]

    @property
    def problems(self) -> list[str]:
        """Sentences on everything that is wrong."""
        worse = (score for score in self.scores if score.is_worse)
        report = self.report
        found = report.problems if isinstance(report, ReportThere) else report_problems(report)
        return [*found, *(score.text for score in worse)]

    def __repr__(self) -> str:
        report = self.report
        return report.text if isinstance(report, ReportThere) else report_text(report)


def _report(
    checked: CheckedFiles, repeats: int, on: str | None, python: str, *, scores: bool
) -> BundleReport | ReportThere:
    if on is None:
        return verify_engine(checked, repeats=repeats)
    if scores:
        raise SpecError("score runs here, not on another device", "leave on or score out")
    with Device(on, python) as device:
        return verify_there(checked, device, repeats=repeats)


@plain_errors
def verify(  # noqa: PLR0913 - the options of a command, by keyword only
    bundle: PathText,
    *,
    digest: str | None = None,
    repeats: int = DEFAULT_REPEATS,
    latency_json: PathText | None = None,
    score: bool = False,
    data: PathText | None = None,
    run: PathText | None = None,
    on: str | None = None,
    python: str = PYTHON,
    trust_checkpoint: bool = False,
    progress: bool | Progress = True,
) -> Verification:
    """Compare a bundle's files, rebuild its engine, audit its layers, compare its pictures, time it.

    `digest` is what `export` gave; with `repeats` 0 nothing is timed. `score` has the engine scored on the
    run's evaluation set, which is in `data` where it has moved, as `run` is where that has. All but scoring
    can be done `on` another machine (`user@host`), over the system's ssh, with its `python`.

    Raises:
        QsensError: if files are not what was exported, or the engine cannot be built here.
    """
    checked = checked_files(Path(bundle), digest)
    report = _report(checked, repeats, on, python, scores=score)
    if latency_json is not None:
        write_bundle_latency(report, Path(latency_json))
    scores: tuple[ComparedScore, ...] = ()
    if score:
        places = [None if place is None else Path(place) for place in (run, data)]
        reopened = run_of_bundle(checked.bundle, *places, trust_checkpoint=trust_checkpoint)
        with shown_progress(progress) as shown:
            scores = score_again(checked.bundle, reopened, shown)
    return Verification(report, scores)


@plain_errors
def compile_bundle(bundle: PathText) -> CompiledBundle:
    """Compile a bundle for TensorRT without a GPU; nothing runs.

    Raises:
        QsensError: if files are not what was exported, or TensorRT-RTX is not there or refuses the graph.
    """
    return compile_only(checked_files(Path(bundle)))


@plain_errors
def bench(  # noqa: PLR0913 - the options of a command, by keyword only
    *folders: PathText,
    backend: str | None = None,
    maps: str = "front",
    trials: Sequence[int] = (),
    batches: Sequence[int] = (1,),
    repeats: int = DEFAULT_REPEATS,
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
    layers: bool = False,
    latency_json: PathText | None = None,
    on: str | None = None,
    python: str = PYTHON,
    trust_checkpoint: bool = False,
    progress: bool | Progress = True,
    hear: Hear = say,
) -> list[BenchedFolder]:
    """Measure the maps of run folders or bundles on this machine: latency, memory, size and energy.

    With `on` (`user@host`) it is that machine, over the system's ssh, with its `python`.

    `maps` are `anchors` (FP32, FP16 and INT8), `chosen` too, the Pareto `front` too, or `all`; `trials` take
    their place. `batches` are numbers of samples at once, `options` those of the backend; with `layers`
    single layers are timed where the runtime can. A run keeps the numbers in its folder `latency/`, and
    `latency_json` is a file for `qsens.select(run, latency=...)` on another machine.

    Raises:
        QsensError: with what is wrong and what to do.
    """
    file = None if latency_json is None else Path(latency_json)
    wishes = BenchWishes(
        backend=backend,
        maps=maps,
        trials=tuple(trials),
        batches=tuple(sorted(set(batches))),
        repeats=repeats,
        threads=threads,
        options=dict(options or {}),
        layers=layers,
        latency_json=file,
        host=on,
        python=python,
        trust_checkpoint=trust_checkpoint,
    )
    with shown_progress(progress) as shown:
        return list(bench_folders([Path(folder) for folder in folders], wishes, progress=shown, hear=hear))
