"""Content of the report page for one run: values, drawn pictures, samples; style sheet and scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from qsens.calibration.recorded_calls import CallFacts
from qsens.core.interfaces import Decision
from qsens.core.trial import Study, Trial
from qsens.device.audit import LayerAudit
from qsens.repair.effect import RepairEffect
from qsens.repair.repair import StageResult
from qsens.report.figures.sensitivity import Sensitivity
from qsens.report.findings import Finding
from qsens.run.floors import Floor
from qsens.run.step_errors import StepErrors
from qsens.run.without_repair import ComparedMap
from qsens.selection.budget import Limit
from qsens.selection.reasons import Reason
from qsens.selection.timings import Timings

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


# One scope, in this order: later files use what earlier ones define.
_SCRIPTS = (
    *("page.js", "network.js", "pictures.js", "card.js", "charts.js", "levels.js"),
    *("chart_kinds.js", "compare.js"),
    "start.js",
)


def read_asset(name: str) -> str:
    """The text of a file that comes with the report."""
    return (files("qsens.report") / "assets" / name).read_text(encoding="utf-8")


def interactive_script() -> str:
    """The script of a page with charts: one scope around all of its files."""
    return "\n".join(('(() => {\n"use strict";', *map(read_asset, _SCRIPTS), "})();"))


def static_script() -> str:
    """The script of a page without charts: tables, theme and the switch between runs."""
    return "\n".join(
        ('(() => {\n"use strict";', read_asset("page.js"), read_asset("network.js"), "startPage();", "})();")
    )


STYLE = read_asset("page.css")


@dataclass(frozen=True)
class Picture:
    """A drawn figure: `png` are the bytes of its file."""

    heading: str
    caption: str
    png: bytes = field(repr=False)
    is_detail: bool = False


@dataclass(frozen=True)
class RepairContent:
    """The `stages` of a repair, its `effect` on layers and tensors, and maps that were scored both ways."""

    stages: Sequence[StageResult] = ()
    effect: RepairEffect | None = None
    compared: Sequence[ComparedMap] = ()


@dataclass(frozen=True)
class LoopContent:
    """The facts of the recorded calls and the errors along the loop; neither in a run without one."""

    calls: CallFacts | None = None
    errors: StepErrors | None = None


@dataclass(frozen=True, eq=False)
class PageContent:
    """One run on the page.

    `verdict` says on what grounds the map was chosen, `notes` what to know beside the choice, `command` what
    to type next; `provenance` are titled groups of names and values; `date` is when the page was written;
    `limits` are those of the choice, or of the spec where none was made, by metric; `connections` the
    layers that each layer takes its values from, `None` where they are not known; `timings` are
    times that were measured on devices; `audit` is what the chosen map's engine said of its layers.
    `sensitivities` are effects of single layers, the headline metric's first; `floors` are what distances
    show where only the images differ, by metric; `samples` are pictures by trial number, uint8 (K, 3, H, W),
    0 to 255, RGB, of the same inputs for every trial; `reasons` says why a layer has its precision, by
    layer name; `decisions` are the steps of a search; `repair` is what the run's repair did,
    `loop` how damage grows along its loop.
    """

    run_name: str
    study: Study
    chosen: Trial | None
    verdict: str
    findings: Sequence[Finding]
    pictures: Sequence[Picture]
    provenance: Mapping[str, Mapping[str, str]]
    date: str
    timings: Sequence[Timings] = ()
    audit: Mapping[str, LayerAudit] = field(default_factory=dict)
    sensitivities: Sequence[Sensitivity] = ()
    floors: Mapping[str, Floor] = field(default_factory=dict)
    samples: "Mapping[int, Array]" = field(default_factory=dict)
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    decisions: Sequence[Decision] = ()
    repair: RepairContent = RepairContent()
    loop: LoopContent = LoopContent()
    notes: Sequence[str] = ()
    command: str = ""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    connections: Mapping[str, tuple[str, ...]] | None = None
