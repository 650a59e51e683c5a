"""A run as a person at a prompt holds it: what was scored, the map to take, the reason of each layer."""

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from qsens.core.errors import QsensError
from qsens.core.own_code import lending
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Outcome, Study, Trial
from qsens.python.plain_errors import plain_errors
from qsens.run.choice import ChoiceWishes, choice_document, choose_map_of_run
from qsens.run.folder import read_run_spec, read_study
from qsens.run.paths import RunPaths
from qsens.selection.answer import answer_text
from qsens.selection.choose import Selection
from qsens.selection.precision_map_file import write_document
from qsens.selection.reasons import ReasonKind, reasons_of_selection

PathText = str | PathLike[str]


@dataclass(frozen=True)
class ChosenLayer:
    """A layer of a chosen map: its precision, the reason in a sentence, and the kind of that reason."""

    name: str
    precision: Precision
    reason: str
    kind: ReasonKind


@dataclass(frozen=True, eq=False)
class Choice:
    """The map chosen of a run. `layers` are by name, in the order of the network."""

    study: Study = field(repr=False)
    selection: Selection
    layers: Mapping[str, ChosenLayer]

    @property
    def trial(self) -> Trial:
        """The trial that scored the map."""
        return self.selection.trial

    @property
    def precision_map(self) -> PrecisionMap:
        """The map, by layer name: `choice.precision_map["last"]`."""
        return self.selection.precision_map

    @property
    def int8_macs_share(self) -> float:
        """The share of the layers' multiply-accumulates in INT8, 0 to 1."""
        return self.selection.int8_macs_share

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to read with the choice."""
        return self.selection.notes

    def __repr__(self) -> str:
        return f"{answer_text(self.study, self.selection)} (trial {self.trial.number})"


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, read. `study` has its layers and trials, `spec` what it was asked for.

    In a notebook it is shown as a card with the figure.
    """

    folder: Path
    spec: SweepSpec
    study: Study
    _lent: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Everything that was scored or screened, in order."""
        return self.study.trials

    @property
    def report(self) -> Path | None:
        """The page of the run, where one is written."""
        path = RunPaths(self.folder).report_path
        return path if path.exists() else None

    @plain_errors
    def choose(self, budget: str | None = None, **wishes: Any) -> Choice:
        """The cheapest map within a budget, as `qsens.select` with its other arguments chooses it."""
        return _chosen(self, ChoiceWishes(budget=budget, **wishes), writes=False)

    def __repr__(self) -> str:
        return "\n".join(
            [self._title(), *self._answer(), *([f"Report: {self.report}"] if self.report else [])]
        )

    def _repr_html_(self) -> str:
        """A card: the answer, the numbers of maps, and the figure of the boundary."""
        lines = "".join(f"<p style='margin:.3em 0'>{html.escape(text)}</p>" for text in self._answer())
        figure = RunPaths(self.folder).figures / "boundary.png"
        picture = ""
        if figure.exists():
            data = base64.b64encode(figure.read_bytes()).decode()
            alt = "Score against the boundary between INT8 and float layers"
            picture = f"<img alt='{alt}' style='max-width:100%' src='data:image/png;base64,{data}'>"
        style = "max-width:46em;border:1px solid #8888;border-radius:6px;padding:.8em 1em"
        return f"<div style='{style}'><b>{html.escape(self._title())}</b>{lines}{picture}</div>"

    def _title(self) -> str:
        counts = dict.fromkeys(Outcome, 0)
        for trial in self.trials:
            counts[trial.outcome] += 1
        parts = [f"{counts[Outcome.SCORED]} maps scored"]
        parts += [f"{count} {outcome}" for outcome, count in counts.items() if count and outcome != "scored"]
        return f"{self.folder}: {len(self.study.layers)} layers, {', '.join(parts)}"

    def _answer(self) -> list[str]:
        try:
            return [repr(self.choose())]
        except QsensError as error:
            return [f"No map is chosen: {error.message}"]


@plain_errors
def open_run(run: PathText) -> Run:
    """The run in a folder that `qsens.sweep` or the command line filled, finished or not.

    Raises:
        RunFolderError: if it is no run folder, holds no layers yet, or is damaged.
    """
    folder = Path(run)
    return Run(folder, read_run_spec(folder), read_study(folder))


@plain_errors
def select(  # noqa: PLR0913 - the options of a command, by keyword only
    run: PathText,
    *,
    budget: str | None = None,
    guard: str | None = None,
    metric: str | None = None,
    latency: PathText | None = None,
    batch: int | None = None,
    latency_limit: float | None = None,
    write: bool = False,
) -> Choice:
    """The cheapest map of a run within `budget`, by default that of the run, else `"jpeg:95"`.

    A budget is what an alteration of FP32's pictures costs (`"jpeg:95"`), points (`"2.0"`), a share of
    FP32's score (`"5%"`), or the least dB of PSNR. Several name their scores: `"fid=jpeg:95, psnr=45"`.
    `guard` is the same for the distance from the FP32 outputs, `metric` the score that a budget without a
    name is on. `latency` is a file of `qsens.bench` on a device: the fastest map there is taken, of that
    `batch` size, or the best one within `latency_limit` milliseconds. With `write` the map is kept in
    `precision_map.json`, which `qsens.export` ships; nothing else is written.

    Raises:
        BudgetError: if no map is within it, or none that saves anything and no search was made for it.
        SpecError: for an alteration that the run has not scored, with how to have it scored.
    """
    file = None if latency is None else Path(latency)
    wishes = ChoiceWishes(budget, guard, metric, file, batch, latency_limit)
    return _chosen(open_run(run), wishes, writes=write)


def _chosen(run: Run, wishes: ChoiceWishes, *, writes: bool) -> Choice:
    spec, aim = wishes.of_run(run.spec), wishes.aim(run.folder, run.study)
    with lending(run._lent):
        selection = choose_map_of_run(run.folder, run.study, spec, aim)
    if writes:
        document = choice_document(run.folder, run.study, spec, selection)
        write_document(RunPaths(run.folder).precision_map_path, document)
    reasons = reasons_of_selection(run.study, selection)
    layers = {
        name: ChosenLayer(name, selection.precision_map[name], str(reason), reason.kind)
        for name, reason in reasons.items()
    }
    return Choice(run.study, selection, layers)
