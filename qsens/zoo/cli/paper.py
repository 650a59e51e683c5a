"""`qsens zoo paper`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from qsens.cli.options import sweep_options
from qsens.cli.sections import SectionedCommand
from qsens.cli.sweep_flags import SweepOptions, values_from_options
from qsens.core.errors import SpecError
from qsens.python.progress import ProgressLine

FILE = click.Path(path_type=Path, dir_okay=False)
DEFAULT_OUT = Path("reports/paper")


@click.command(cls=SectionedCommand)
@click.argument("checkpoint", required=False, type=FILE)
@click.option("--teacher", type=FILE, help="Weights of a teacher, for its rows and pictures.")
@click.option("--checkpoints", type=FILE, help="TOML file with weights for rows of Table 2.")
@click.option(
    "--latency",
    multiple=True,
    type=FILE,
    help="File of `qsens bench --latency-json`, for Table 4; repeat for several.",
)
@click.option("--only", metavar="PART,...", help="Of figure1, table1, table2, figure3, figure4, table4.")
@sweep_options
def paper(
    checkpoint: Path | None,
    *,
    teacher: Path | None,
    checkpoints: Path | None,
    latency: tuple[Path, ...],
    only: str | None,
    options: SweepOptions,
) -> None:
    """Make the tables and figures of Kim et al. 2023 with the student in CHECKPOINT.

    Without CHECKPOINT the talker that qsens ships is taken, with its sets. Writes paper.html and paper.md,
    figures as PNG and SVG, and every number as CSV into --out, each beside the published value where one is
    known. The same command resumes; options of `sweep` that the paper leaves open hold for all sweeps.
    """
    # numpy, onnx, torch and matplotlib take seconds to load.
    from qsens.zoo.paper.ablation import read_checkpoints
    from qsens.zoo.paper.making import make_paper
    from qsens.zoo.paper.request import WITHOUT_SWEEPS, PaperRequest, parts_from_text, values_for_sweeps

    parts = parts_from_text(only)
    if parts == ("table4",) and not latency:
        raise SpecError(
            "Table 4 is made of latency files", "add --latency FILE of: qsens bench RUN --latency-json FILE"
        )
    request = PaperRequest(
        out=options.out or DEFAULT_OUT,
        parts=parts,
        values={} if set(parts) <= WITHOUT_SWEEPS else values_for_sweeps(_given(options)),
        student=checkpoint,
        teacher=teacher,
        checkpoints={} if checkpoints is None else read_checkpoints(checkpoints),
        trust_checkpoint=options.trust_checkpoint,
        command=_command(),
        latency=latency,
    )
    with ProgressLine() as progress:
        page = make_paper(request, progress=progress, hear=_hear)
    click.echo(f"{page.with_suffix('.md')}\n{page}")


def _given(options: SweepOptions) -> dict[str, Any]:
    from qsens.core.spec import merge_values, read_spec_values

    from_file = {} if options.spec is None else read_spec_values(options.spec)
    return merge_values(from_file, values_from_options(None, options))


def _command() -> str:
    """The command as typed; its name alone where it was not typed."""
    given = sys.argv[1:]
    return shlex.join(["qsens", *given]) if given[:2] == ["zoo", "paper"] else "qsens zoo paper"


def _hear(line: str) -> None:
    click.echo(line, err=True)
