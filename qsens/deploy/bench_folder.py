"""A bench of one folder: the maps of a run or the map of a bundle, measured and written where they belong."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qsens.core.errors import RunFolderError, SpecError, SshError
from qsens.core.files import write_error
from qsens.core.interfaces import Hear, Progress
from qsens.core.plugins import create
from qsens.core.targets import target_named
from qsens.core.trial import Study
from qsens.deploy.bench import alone, bench
from qsens.deploy.bench_subjects import (
    BenchInputs,
    Maps,
    bundle_subject,
    measured_graph,
    run_inputs,
    run_subjects,
    trials_to_measure,
)
from qsens.deploy.bench_there import BenchThere, bundled_map, bundled_maps, target_there
from qsens.deploy.ssh import PYTHON, Device
from qsens.deploy.verify import checked_files
from qsens.device.bench import BenchSettings, Subject
from qsens.device.bundle_files import Bundle
from qsens.device.errors import DeviceError
from qsens.device.latency import MeasuredGraph, latency_document, write_latency
from qsens.device.machine import describe_device, load_average
from qsens.run.folder import read_run_spec, read_study
from qsens.run.loop import StoppedError
from qsens.run.reopen import reopen_run
from qsens.selection.timings import FOLDER

BUNDLE_FILE = "bundle.json"
EARLIER = "earlier"
DEFAULT_REPEATS = 50
BUSY = 1.0


@dataclass(frozen=True)
class BenchWishes:
    """The wishes for a bench; `None` is left to the run, the bundle or the runtime.

    `trials` take the place of `maps`. `latency_json` is a file that the numbers go to as well. With a
    `host` it is measured there, over SSH, by `python`.
    """

    backend: str | None = None
    maps: str = Maps.FRONT.value
    trials: tuple[int, ...] = ()
    batches: tuple[int, ...] = (1,)
    repeats: int = DEFAULT_REPEATS
    threads: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: bool = False
    latency_json: Path | None = None
    trust_checkpoint: bool = False
    host: str | None = None
    python: str = PYTHON

    def backend_name(self, target: str | None, hear: Hear) -> str:
        """The backend that was asked for, else that of the run's target, OpenVINO or ONNX Runtime if here."""
        if self.backend is not None:
            return self.backend
        other = "openvino" if find_spec("openvino") else "onnxruntime"
        if target is None:
            return other
        declared = target_named(target)
        if declared.problem is None:
            return declared.backend
        why = f"which cannot run here ({declared.problem})"
        hear(f"Warning: the run is for {target}, {why}: {other} is measured")
        return other

    def backend_options(self) -> dict[str, Any]:
        """Options of the backend."""
        return {**({} if self.threads is None else {"threads": self.threads}), **self.options}


@dataclass(frozen=True, eq=False)
class BenchedFolder:
    """The numbers of one folder as its files hold them, and the multiply-accumulates of layers by name.

    `files` are those that were written; `is_complete` is false where the bench was stopped. `lost` says why
    a device did not measure the rest.
    """

    document: Mapping[str, Any]
    files: tuple[Path, ...]
    macs: Mapping[str, int]
    is_complete: bool
    lost: SshError | None = None


def bench_folders(
    folders: Sequence[Path], wishes: BenchWishes, *, progress: Progress, hear: Hear
) -> Iterator[BenchedFolder]:
    """Measure the maps of run folders or bundles, one after the other, while no other bench runs.

    Times of an earlier bench of the same device and runtime go to `latency/earlier/`. One that is stopped
    keeps what it measured, and is the last.

    Raises:
        QsensError: with what is wrong and what to do.
        StoppedError: if it was stopped before anything was measured.
    """
    _check_file(folders, wishes.latency_json)
    if wishes.host is not None:
        yield from _folders_there(folders, wishes, wishes.host, progress, hear)
        return
    load = load_average()
    with alone(lambda text: hear(f"Warning: {text}")):
        if load is not None and load >= BUSY:
            hear(f"Warning: the load average is {load:g}: other programs run, and times are longer for it")
        for folder in folders:
            measure = _bundle if (folder / BUNDLE_FILE).is_file() else _run
            found = measure(folder, wishes, progress, hear)
            yield found
            if not found.is_complete:
                return


def _folders_there(
    folders: Sequence[Path], wishes: BenchWishes, host: str, progress: Progress, hear: Hear
) -> Iterator[BenchedFolder]:
    if wishes.threads is not None or wishes.options:
        raise SpecError(
            "a bundle takes no options of a backend", "leave --threads and --option out with --on"
        )
    for folder in folders:
        measure = _bundle_there if (folder / BUNDLE_FILE).is_file() else _run_there
        with Device(host, wishes.python) as device:
            work = BenchThere(device, wishes.repeats, wishes.layers)
            name, macs = measure(folder, wishes, work, progress, hear)
        if not work.measured.documents:
            raise StoppedError("stopped before anything was measured", "")
        document, places = work.measured.document, _wished(wishes)
        if macs:
            places.insert(0, _place(folder, document, name, hear))
        found = _written(document, places, macs, is_complete=not work.measured.is_stopped)
        yield replace(found, lost=work.measured.lost)
        if work.measured.lost is not None:
            raise work.measured.lost
        if work.measured.is_stopped:
            return


def _run_there(
    folder: Path, wishes: BenchWishes, work: BenchThere, progress: Progress, hear: Hear
) -> tuple[str, Mapping[str, int]]:
    target = target_there(work.device, wishes.backend, read_run_spec(folder).target)
    study = read_study(folder)
    trials = trials_to_measure(folder, study, Maps(wishes.maps), wishes.trials)
    reopened = reopen_run(folder, trust_checkpoint=wishes.trust_checkpoint)
    for batch in wishes.batches:
        with bundled_maps(reopened, trials, target, batch, progress, hear) as maps:
            if not work.measure(maps, progress, hear):
                break
    return target.runtime, macs_by_layer(study)


def _bundle_there(
    folder: Path, wishes: BenchWishes, work: BenchThere, progress: Progress, hear: Hear
) -> tuple[str, Mapping[str, int]]:
    bundle = _checked_bundle(folder, wishes, hear)
    work.measure([bundled_map(bundle)], progress, hear)
    return bundle.runtime, {}


def _check_file(folders: Sequence[Path], file: Path | None) -> None:
    if file is None:
        return
    if len(folders) > 1:
        raise SpecError("--latency-json FILE holds one folder's numbers", "give one folder, or leave it out")
    if not file.absolute().parent.is_dir():
        raise SpecError(f"no folder {file.parent} to write to", "make it, or give another --latency-json")


def _run(folder: Path, wishes: BenchWishes, progress: Progress, hear: Hear) -> BenchedFolder:
    name, study = wishes.backend_name(read_run_spec(folder).target, hear), read_study(folder)
    trials = trials_to_measure(folder, study, Maps(wishes.maps), wishes.trials)
    # Where a backend has an optimised mode, that is what ships.
    backend = create("backends", name, wishes.backend_options(), offered={"optimised": True})
    reopened = reopen_run(folder, trust_checkpoint=wishes.trust_checkpoint)
    subjects, inputs = run_subjects(reopened, backend, trials), run_inputs(reopened)
    session = _Session(subjects, inputs, measured_graph(reopened), wishes)
    document, is_complete = session.measured(name, progress, hear)
    place = _place(folder, document, name, hear)
    return _written(document, [place, *_wished(wishes)], macs_by_layer(study), is_complete=is_complete)


def _bundle(folder: Path, wishes: BenchWishes, progress: Progress, hear: Hear) -> BenchedFolder:
    bundle = _checked_bundle(folder, wishes, hear)
    subject, inputs, graph = bundle_subject(bundle)
    session = _Session([subject], inputs, graph, replace(wishes, batches=(bundle.batch,)))
    document, is_complete = session.measured(bundle.runtime, progress, hear)
    return _written(document, _wished(wishes), {}, is_complete=is_complete)


def _checked_bundle(folder: Path, wishes: BenchWishes, hear: Hear) -> Bundle:
    bundle = checked_files(folder).bundle
    if wishes.backend not in (None, bundle.runtime):
        raise SpecError(
            f"{folder} is a bundle for {bundle.runtime}, not for {wishes.backend}", "leave out --backend"
        )
    if wishes.batches != (bundle.batch,):
        hear(f"Warning: the bundle is for batch {bundle.batch}, which is measured")
    return bundle


def macs_by_layer(study: Study) -> dict[str, int]:
    """Multiply-accumulates by layer, from which the share follows that an engine runs in INT8."""
    return {layer.name: layer.macs for layer in study.layers}


@dataclass(frozen=True, eq=False)
class _Session:
    """A bench about to run."""

    subjects: Sequence[Subject]
    inputs: BenchInputs
    graph: MeasuredGraph
    wishes: BenchWishes

    def measured(self, backend: str, progress: Progress, hear: Hear) -> tuple[dict[str, Any], bool]:
        """The numbers as the file holds them, and whether none is missing.

        Raises:
            StoppedError: if it was stopped before anything was measured.
        """
        wishes, load = self.wishes, load_average()
        settings = BenchSettings(wishes.batches, wishes.repeats, profiles_layers=wishes.layers)
        on_gpu = backend.startswith(("tensorrt", "torch2trt"))
        result = bench(self.subjects, self.inputs.feeds, settings, on_gpu=on_gpu, progress=progress)
        for label, reason in result.skipped.items():
            hear(f"Warning: not measured: {label}: {reason}")
        if not result.measured:
            raise StoppedError("stopped before anything was measured", "")
        threads = {} if wishes.threads is None else {"threads": str(wishes.threads)}
        runtime = {**result.runtime, "backend": backend, "inputs": self.inputs.kind, **threads}
        # Clocks as they are under load, the load as it was without us.
        device = {**describe_device(backend), "load_average": load}
        document = latency_document(result.measured, device=device, runtime=runtime, graph=self.graph)
        return document, result.is_complete


def _written(
    document: Mapping[str, Any], places: Sequence[Path], macs: Mapping[str, int], *, is_complete: bool
) -> BenchedFolder:
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_latency(place, document)
        except DeviceError as error:
            raise RunFolderError(error.message, error.hint) from error
    return BenchedFolder(document, tuple(places), macs, is_complete)


def _place(run: Path, document: Mapping[str, Any], backend: str, hear: Hear) -> Path:
    """The file of a device and a backend in a run's folder; an earlier one is moved aside."""
    place = run / FOLDER / f"{_slug(document['device']['name'])}-{_slug(backend)}.json"
    _keep_earlier(place, hear)
    return place


def _keep_earlier(place: Path, hear: Hear) -> None:
    """Move an earlier file of this device aside: times of two sessions are not compared in one table."""
    if not place.exists():
        return
    kept = place.parent / EARLIER
    numbers = (number for number in itertools.count(1) if not (kept / f"{place.stem}-{number}.json").exists())
    target = kept / f"{place.stem}-{next(numbers)}.json"
    try:
        kept.mkdir(exist_ok=True)
        place.rename(target)
    except OSError as error:
        raise write_error(target, error) from error
    hear(f"Warning: the times of an earlier bench are now {target}")


def _wished(wishes: BenchWishes) -> list[Path]:
    return [] if wishes.latency_json is None else [wishes.latency_json]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "device"
