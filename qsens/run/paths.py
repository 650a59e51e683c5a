"""The files of a run folder: one name for each, whoever writes or reads it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The paths of the files in the run folder `path`.

    Names of files of one trial are those of `qsens.run.evidence`.
    """

    path: Path

    @property
    def spec_path(self) -> Path:
        return self.path / "spec.toml"

    @property
    def journal_path(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def layers_path(self) -> Path:
        return self.path / "layers.csv"

    @property
    def other_work_path(self) -> Path:
        return self.path / "other_work.csv"

    @property
    def ranges_path(self) -> Path:
        return self.path / "ranges.npz"

    @property
    def range_check_path(self) -> Path:
        return self.path / "range-check.json"

    @property
    def shared_samples_path(self) -> Path:
        return self.path / "shared-samples.json"

    @property
    def start_path(self) -> Path:
        """The map of another run that this one starts from."""
        return self.path / "start.json"

    @property
    def calls_path(self) -> Path:
        """The calls of a loop that ranges were measured on, without their arrays."""
        return self.path / "calls.json"

    @property
    def step_errors_path(self) -> Path:
        return self.path / "loop.json"

    @property
    def call_arrays_path(self) -> Path:
        return self.path / "calls.npz"

    @property
    def repair_path(self) -> Path:
        return self.path / "repair.npz"

    @property
    def repair_effect_path(self) -> Path:
        return self.path / "repair-effect.json"

    @property
    def provenance_path(self) -> Path:
        return self.path / "provenance.json"

    @property
    def decisions_path(self) -> Path:
        return self.path / "decisions.json"

    @property
    def precision_map_path(self) -> Path:
        return self.path / "precision_map.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def given(self) -> Path:
        """A generator and samples that a program gave from memory."""
        return self.path / "given"

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def reference_features_path(self) -> Path:
        return self.evidence / "reference-features.npz"

    @property
    def floors_path(self) -> Path:
        return self.evidence / "floors.json"

    @property
    def yardsticks_path(self) -> Path:
        return self.evidence / "yardsticks.json"

    @property
    def full_scores_path(self) -> Path:
        return self.evidence / "full-scores.json"

    @property
    def made_once(self) -> tuple[Path, ...]:
        """Files that the sweep makes once and later commands read."""
        ranges = (self.ranges_path, self.range_check_path, self.shared_samples_path)
        repair = (self.repair_path, self.repair_effect_path)
        layers = (self.layers_path, self.other_work_path, self.start_path)
        calls = (self.calls_path, self.call_arrays_path)
        return (*layers, *calls, *ranges, *repair, self.reference_features_path)

    @property
    def without_repair(self) -> "RunPaths":
        """The maps that were scored without the run's repair too."""
        return RunPaths(self.path / "without-repair")

    @property
    def trials_csv(self) -> Path:
        return self.path / "trials.csv"

    @property
    def trials_parquet(self) -> Path:
        return self.path / "trials.parquet"

    @property
    def sensitivity_csv(self) -> Path:
        return self.path / "sensitivity.csv"

    @property
    def figures(self) -> Path:
        return self.path / "figures"
