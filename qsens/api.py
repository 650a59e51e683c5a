"""The Python interface in four functions: open a graph, sweep it, choose a map, write the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsens.core.trial import Study
from qsens.graph.graph import Graph
from qsens.reporting import make_report
from qsens.run.folder import RunPaths, read_study
from qsens.run.open import open_generator
from qsens.run.paired_errors import paired_errors
from qsens.run.sweep import assemble, load_graph
from qsens.run.sweep import sweep as sweep_assembled
from qsens.run.workers import open_pool, runner_on, with_fixed_threads
from qsens.selection.budget import Budget
from qsens.selection.choose import Selection, cheapest_within
from qsens.spec_file import spec_from_values

__all__ = ["choose_map", "open_graph", "run_sweep", "write_report"]


def open_graph(
    checkpoint: str | Path | None = None,
    *,
    model: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    **model_options: Any,
) -> Graph:
    """Open a generator and prepare its graph; `graph.layers` are the layers whose precision can be chosen.

    `checkpoint` and `model` are as for `qsens sweep`; `input_shapes` are full shapes by input name.

    Raises:
        LoadError, SpecError: with what is wrong and what to do.
    """
    options = {**model_options, **({"input_shapes": dict(input_shapes)} if input_shapes else {})}
    generator = open_generator(None if checkpoint is None else Path(checkpoint), model, options)
    return load_graph(generator, input_shapes)


def run_sweep(
    checkpoint: str | Path | None = None,
    *,
    out: str | Path,
    trust_checkpoint: bool = False,
    workers: int | None = None,
    **values: Any,
) -> Study:
    """Run or resume a sweep in the folder `out`.

    That many `workers`, processes on this machine, score maps side by side; without them this process
    does. They import the calling script, which must start nothing unless `__name__ == "__main__"`.

    `values` are keys of the spec as in its TOML file (`calibration`, `reference`, `strategy`,
    `strategy_options`, `evaluation_samples`, ...).

    Raises:
        QsensError: with what is wrong and what to do; trials that ended are in the folder.
    """
    if checkpoint is not None:
        values["checkpoint"] = str(checkpoint)
    spec = spec_from_values(values, "arguments")
    with open_pool(workers, None) as pool:
        if pool is None:
            assembled = assemble(spec, trust_checkpoint=trust_checkpoint)
            return sweep_assembled(assembled, Path(out), progress=_silent)
        assembled = assemble(with_fixed_threads(spec), trust_checkpoint=trust_checkpoint)
        runner = runner_on(pool, trust_checkpoint=trust_checkpoint)
        return sweep_assembled(assembled, Path(out), progress=_silent, runner=runner)


def choose_map(run: str | Path, *, budget: str, guard: str | None = None) -> Selection:
    """The cheapest map of a run within `budget`: points (`"2.0"`) or a share of FP32's score (`"5%"`).

    Raises:
        BudgetError: if no map is within it.
    """
    wanted = None if guard is None else Budget.parse(guard)
    return cheapest_within(
        read_study(Path(run)),
        budget=Budget.parse(budget),
        guard=wanted,
        paired_error=paired_errors(RunPaths(Path(run)).evidence),
    )


def write_report(run: str | Path) -> Path:
    """Write tables, figures and `report.html` of a run; returns the page's path. Raises `RunFolderError`."""
    return make_report(Path(run))


def _silent(done: int, total: int, label: str) -> None:
    """A `Progress` that shows nothing."""
