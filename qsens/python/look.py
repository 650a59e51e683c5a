"""`qsens.compare`, `devices`, `write_report`, `fid`, sets and plug-ins: what is there, said or written."""

from collections.abc import Sequence
from pathlib import Path

from qsens.calibration.manifest import Manifest, SetFacts, checked_manifest, write_manifest
from qsens.calibration.real_images import open_real_images
from qsens.core.interfaces import Progress
from qsens.core.plugins import PluginRecord, list_plugins
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS
from qsens.core.trial import Score
from qsens.python.machine import Finding, findings
from qsens.python.plain_errors import plain_errors
from qsens.python.progress import shown_progress
from qsens.python.run import PathText
from qsens.report.compare.compare import CompareOptions, Comparison, compare_runs
from qsens.report.compare.write import write_comparison
from qsens.report.figures.devices import DeviceGroup, device_groups, write_devices
from qsens.report.write import make_report
from qsens.scoring.extractors import default_extractor_name, features_of_images, load_extractor
from qsens.scoring.fid import score_of_two_sets
from qsens.selection.timings import read_latency_table


@plain_errors
def write_report(
    run: PathText, *, latency: Sequence[PathText] = (), is_static: bool = False, open_browser: bool = False
) -> Path:
    """Write figures, tables and `report.html` of a run, finished or not; returns the path of the page.

    `latency` are files of `qsens.bench` on other devices; a static page has no charts that move.

    Raises:
        RunFolderError, SpecError: if the folder or a file cannot be used.
    """
    files = [Path(file) for file in latency]
    return make_report(Path(run), open_browser=open_browser, latency=files, is_static=is_static)


@plain_errors
def compare(  # noqa: PLR0913 - the options of a command, by keyword only
    runs: Sequence[PathText],
    *,
    metrics: Sequence[str] = (),
    labels: Sequence[str] = (),
    budget: str | None = None,
    guard: str | None = None,
    gate: bool = False,
    out: PathText | None = None,
) -> Comparison:
    """Compare runs with the first of them: checkpoints, placements, ranges, backends.

    Without `budget` each run's own `precision_map.json` counts. `out` is a folder for a page, figures and
    tables. `check()` of the result raises where a run has no map within the budget, or with `gate` where a
    later one keeps neither the first run's map nor as much INT8.

    Raises:
        QsensError: for runs that cannot be compared, with what differs.
    """
    options = CompareOptions(tuple(metrics), tuple(labels), budget, guard, has_gate=gate)
    comparison = compare_runs([Path(run) for run in runs], options)
    if out is not None:
        write_comparison(comparison, Path(out))
    return comparison


@plain_errors
def devices(
    files: Sequence[PathText], *, all_maps: bool = False, out: PathText | None = None
) -> tuple[DeviceGroup, ...]:
    """Compare devices by the latency files that `qsens.bench` wrote on them; `out` takes table and figure.

    Raises:
        SpecError: for a file that cannot be used, or files without a measurement.
    """
    groups = device_groups([read_latency_table(Path(file)) for file in files], all_maps=all_maps)
    if out is not None:
        write_devices(Path(out), groups)
    return tuple(groups)


@plain_errors
def fid(  # noqa: PLR0913 - the options of a command, by keyword only
    folder_a: PathText,
    folder_b: PathText,
    *,
    extractor: str | None = None,
    inception_weights: PathText | None = None,
    download: bool = False,
    largest_picture_megapixels: int = LARGEST_PICTURE_MEGAPIXELS,
    progress: bool | Progress = True,
) -> Score:
    """The distance between the images of two folders, with its standard error.

    Only pytorch-fid's Inception gives a FID; any other extractor shows its own name. Without a name it is
    Inception where its weights are found; `download` fetches them (96 MB).

    Raises:
        QsensError: for images or weights that cannot be read.
    """
    weights = None if inception_weights is None else Path(inception_weights)
    name = extractor or default_extractor_name(weights)
    opened = load_extractor(name, inception_weights=weights, download=download)
    with shown_progress(progress) as shown:
        features = [
            features_of_images(
                open_real_images(Path(folder), largest_megapixels=largest_picture_megapixels), opened, shown
            )
            for folder in (folder_a, folder_b)
        ]
    return score_of_two_sets(features[0], features[1], opened)


@plain_errors
def describe_set(  # noqa: PLR0913 - the options of a command, by keyword only
    folder: PathText,
    *,
    licence: str | None = None,
    origin: str | None = None,
    name: str | None = None,
    colour_order: str | None = None,
    value_range: tuple[float, float] | None = None,
    clip_pattern: str | None = None,
    opener: str | None = None,
    largest_picture_megapixels: int = LARGEST_PICTURE_MEGAPIXELS,
) -> Manifest:
    """Write `manifest.toml` of a set of images or arrays: count, size, colour, range, licence, checksums.

    What is not stated anew is kept; the files themselves are never changed.

    Raises:
        DataError: for files that cannot be read.
    """
    facts = SetFacts(licence, origin, name, colour_order, value_range, clip_pattern, opener)
    return write_manifest(Path(folder), facts, largest_megapixels=largest_picture_megapixels)


@plain_errors
def check_set(folder: PathText) -> Manifest:
    """Compare the files of a set with its `manifest.toml`. Raises `DataError` for what differs."""
    return checked_manifest(Path(folder))


@plain_errors
def plugins() -> tuple[PluginRecord, ...]:
    """Every installed plug-in, and what keeps one from working."""
    return list_plugins()


@plain_errors
def doctor() -> tuple[Finding, ...]:
    """The abilities of this machine, and why it lacks others."""
    return findings()
