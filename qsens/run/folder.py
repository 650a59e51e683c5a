"""A run folder and its files: one run on disk, locked while a sweep writes it, readable by all else."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from qsens.core.errors import QsensWarning, RunFolderError
from qsens.core.files import digest_of_file, is_as_written, write_atomically, write_error
from qsens.core.layer import Layer, layers_from_csv, layers_to_csv
from qsens.core.other_work import OtherWork, other_work_from_csv, other_work_to_csv
from qsens.core.schema import read_record, shown
from qsens.core.spec import CAME_LATER, SweepSpec, difference, read_spec_values, spec_going_on, write_spec
from qsens.core.trial import Provenance, Study, Trial
from qsens.device.errors import reason_of
from qsens.device.leftovers import remove_leftovers
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file
from qsens.run.journal import Journal, check_numbers, check_order, read_journal
from qsens.run.lock import locked
from qsens.run.paths import RunPaths
from qsens.run.slow_metrics import with_full_scores
from qsens.run.versions import versions_here
from qsens.run.yardsticks import with_yardsticks


@dataclass(frozen=True)
class RunFolder(RunPaths):
    """A run folder that this process holds the lock of."""

    spec: SweepSpec
    journal: Journal

    @classmethod
    @contextmanager
    def open(cls, path: Path, spec: SweepSpec) -> Iterator["RunFolder"]:
        """Create the folder or take up the run in it, and hold its lock until the `with` block ends.

        What a killed process left half written is removed.

        Raises:
            RunFolderError: if another process writes it, it holds something else, it was made with another
                spec (the differences are named), its journal is corrupt, or it cannot be written.
        """
        paths = RunPaths(path)
        check_is_free_or_run(paths)
        _make_folder(path)
        with locked(path):
            _check_same_spec(paths, spec)
            write_spec(paths.spec_path, spec)
            with Journal(paths.journal_path, spec.digest) as journal:
                check_numbers(journal.path, journal.trials)
                for folder in (paths.evidence, paths.samples, paths.figures):
                    _make_folder(folder)
                for folder in (path, paths.evidence, paths.samples, paths.figures):
                    remove_leftovers(folder)
                _remove_changed(paths)
                yield cls(path, spec, journal)

    def write_layers(self, layers: Sequence[Layer]) -> None:
        """Write `layers.csv`, or check that a resumed run has the same layers.

        Raises:
            RunFolderError: naming the first layer that differs.
        """
        if not self.layers_path.exists():
            write_atomically(self.layers_path, layers_to_csv(layers).encode())
            return
        before = read_layers(self.layers_path)
        if before != tuple(layers):
            raise RunFolderError(
                f"the layers changed since {self.path} was begun: {_first_change(before, layers)}",
                "begin a new folder with --out",
            )

    def write_other_work(self, other: Sequence[OtherWork]) -> None:
        """Write `other_work.csv`, the work that is in no layer; there is no file where all of it is."""
        if other:
            write_atomically(self.other_work_path, other_work_to_csv(other).encode())

    def record_provenance(self, contents: Mapping[str, str], weights_read: str | None = None) -> list[str]:
        """Write digests of what the run reads (model, calibration, reference, ...) with library versions.

        On a resumed run the digests are compared; changed library versions come back as lines
        `name: old -> new`, for a warning.

        Raises:
            RunFolderError: naming what changed on disk since the run began.
        """
        now = Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            contents=dict(contents),
            versions=versions_here(self.spec.target),
            weights_read=weights_read,
        )
        if not self.provenance_path.exists():
            _write_provenance(self.provenance_path, now)
            return []
        before = read_provenance(self.path)
        changed = [name for name, text in now.contents.items() if before.contents.get(name) != text]
        if changed:
            raise RunFolderError(
                f"{', '.join(changed)} changed since {self.path} was begun",
                "scores of different inputs cannot be compared: begin a new folder with --out",
            )
        return [
            f"{name}: {before.versions.get(name, 'absent')} -> {text}"
            for name, text in now.versions.items()
            if before.versions.get(name) != text
        ]

    def record_files(self) -> None:
        """Write digests of what the run has made once, by which later commands know it again.

        Warns where ranges or a repair were made again, and are not those of earlier maps.
        """
        before = read_provenance(self.path)
        found = {path: digest_of_file(path) for path in self.made_once}
        files = {_name_in(self.path, path): digest for path, digest in found.items() if digest is not None}
        for name in (self.ranges_path.name, self.repair_path.name):
            if self.journal.trials and before.files.get(name) not in (None, files.get(name)):
                warnings.warn(
                    f"{name}, made again, is not the one that earlier maps of {self.path} were scored with: "
                    "begin a new folder with --out for scores that can be compared",
                    QsensWarning,
                    stacklevel=2,
                )
        if files != before.files:
            _write_provenance(self.provenance_path, replace(before, files=files))


def read_study(path: Path) -> Study:
    """The layers and trials of a run folder, read without its lock, so also while a sweep is writing.

    Raises:
        RunFolderError: if it is no run folder, has no layers yet, or is corrupt.
    """
    paths = RunPaths(path)
    _check_is_run(paths)
    journal = read_journal(paths.journal_path)
    if journal.spec_digest is None or not paths.layers_path.exists():
        raise RunFolderError(
            f"{path} holds no layers yet", "the run stopped before its first map: start the sweep again"
        )
    check_order(paths.journal_path, journal.trials)
    check_file(paths, paths.layers_path)
    check_file(paths, paths.other_work_path)
    layers = read_layers(paths.layers_path)
    _check_layers(paths, layers, journal.trials)
    other = paths.other_work_path  # older runs have none
    work = other_work_from_csv(_text_of(other), str(other)) if other.exists() else ()
    from qsens.repair.repair import kept_stages, summary_of  # loads onnx, which help texts do without

    repair = summary_of(kept_stages(paths.repair_path))
    trials = with_yardsticks(with_full_scores(journal.trials, paths.full_scores_path), paths.yardsticks_path)
    return Study(journal.spec_digest, layers, trials, work, repair)


def _check_layers(paths: RunPaths, layers: Sequence[Layer], trials: Sequence[Trial]) -> None:
    known = {layer.name for layer in layers}
    for place, trial in enumerate(trials):
        maps = [entry for entry in (trial.requested, trial.applied) if entry is not None]
        unknown = {name for entry in maps for name, _ in entry.overrides} - known
        if unknown:
            raise RunFolderError(
                f"line {place + 2} of {paths.journal_path} names the layer {shown(min(unknown))}, "
                f"which {paths.layers_path.name} does not list",
                "restore both files of the run, or begin a new folder with --out",
            )


def read_run_spec(path: Path) -> SweepSpec:
    """The spec of a run folder.

    Raises:
        RunFolderError: if it is no run folder.
        SpecError: if `spec.toml` was edited into something that is not a spec.
    """
    _check_is_run(RunPaths(path))
    return _spec_in(RunPaths(path))


def spec_for_folder(spec: SweepSpec, path: Path) -> SweepSpec:
    """The spec that the run in the folder `path` goes on with, if there is one: a default is not a wish.

    Raises:
        RunFolderError: if it was made with another spec, as far as can be told before anything is opened.
        SpecError: if its `spec.toml` was edited into something that is not a spec.
    """
    paths = RunPaths(path)
    if not paths.spec_path.exists():
        return spec
    before = _spec_in(paths)
    wished = spec_going_on(spec, before)
    # What is open in these two is settled by what is opened.
    _check_same_spec(paths, replace(wished, output=before.output, extractor=before.extractor))
    return wished


def _spec_in(paths: RunPaths) -> SweepSpec:
    return SweepSpec.from_mapping({**CAME_LATER, **read_spec_values(paths.spec_path)})


def read_layers(path: Path) -> tuple[Layer, ...]:
    """Read `layers.csv`. Raises `RunFolderError` naming the line or column that is wrong."""
    return layers_from_csv(_text_of(path), str(path))


def _text_of(path: Path) -> str:
    try:
        return read_file(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(
            f"cannot read {path}: {reason_of(error)}", "give the folder of a run that has begun"
        ) from error


def read_provenance(path: Path) -> Provenance:
    """The origin of the run in the folder `path`. Raises `RunFolderError` if it is missing or corrupt."""
    file = RunPaths(path).provenance_path
    try:
        return read_record(Provenance, parse_json(read_file(file)))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"cannot read {file}: {reason_of(error)}",
            "start the sweep again, it writes the file anew if you delete it",
        ) from error


def digest_in(run: Path, path: Path) -> str | None:
    """The digest that a run recorded of one of its files; `None` where it recorded none."""
    try:
        return read_provenance(run).files.get(_name_in(run, path))
    except RunFolderError:
        return None


def check_file(paths: RunPaths, path: Path) -> None:
    """Refuse a file of a run that is not the one it wrote. Raises `RunFolderError`."""
    digest = digest_in(paths.path, path)
    if digest is not None and digest_of_file(path) not in (None, digest):
        raise RunFolderError(
            f"{path} is not the file that the run wrote",
            "restore it, or let the sweep run: the same command takes the folder up and makes it again",
        )


def _remove_changed(paths: RunPaths) -> None:
    """Remove files that are not those the run wrote, with a warning: the sweep makes them again."""
    for path in paths.made_once:
        if not is_as_written(path, digest_in(paths.path, path)):
            path.unlink()


def _name_in(run: Path, path: Path) -> str:
    return path.relative_to(run).as_posix()


def _write_provenance(path: Path, provenance: Provenance) -> None:
    plain = {name: value for name, value in asdict(provenance).items() if value is not None}
    write_atomically(path, (json.dumps(plain, indent=2) + "\n").encode())


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _check_is_run(paths: RunPaths) -> None:
    if paths.path.is_file():
        raise RunFolderError(
            f"{paths.path} is a file, and a run is a folder",
            f"a generator is swept first: qsens sweep {paths.path} --calibration IMAGES --out RUN",
        )
    if not paths.path.is_dir():
        raise RunFolderError(f"no folder {paths.path}", "give the folder that `qsens sweep --out` wrote")
    if not paths.spec_path.exists() or not paths.journal_path.exists():
        raise RunFolderError(
            f"{paths.path} is not a run folder: it has no spec.toml and journal.jsonl",
            "give the folder that `qsens sweep --out` wrote",
        )


def check_is_free_or_run(paths: RunPaths) -> None:
    """Refuse a folder that holds something else than a run. Raises `RunFolderError`."""
    if paths.path.exists() and not paths.path.is_dir():
        raise RunFolderError(f"{paths.path} is a file", "give a folder with --out")
    if not paths.path.exists() or paths.spec_path.exists():
        return
    entries = (entry for entry in paths.path.iterdir() if entry != paths.given)
    foreign = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    if foreign:
        raise RunFolderError(
            f"{paths.path} is not empty and is not a run folder (it holds {foreign[0]!r})",
            "give an empty or a new folder with --out",
        )


def _check_same_spec(paths: RunPaths, spec: SweepSpec) -> None:
    if not paths.spec_path.exists():
        return
    changes = difference(_spec_in(paths), spec)
    if changes:
        raise RunFolderError(
            f"{paths.path} was made with another spec: {'; '.join(changes)}",
            "use the same options to resume it, or give another folder with --out",
        )


def _first_change(before: Sequence[Layer], after: Sequence[Layer]) -> str:
    for one, other in zip(before, after, strict=False):
        if one != other:
            return f"{one.name!r} is now {other.name!r}" if one.name != other.name else f"{one.name!r}"
    return f"there were {len(before)}, now there are {len(after)}"
