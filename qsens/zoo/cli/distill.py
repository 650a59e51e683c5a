"""`qsens distill`."""

from pathlib import Path
from typing import Any

import click

from qsens.cli.progress import ProgressLine
from qsens.core.errors import SpecError

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
DEFAULT_DISTILLER = "omgd"


@click.command()
@click.argument("spec", metavar="SPEC")
@click.option("--data", multiple=True, type=FOLDER, help="Folder of clips to train on; may be repeated.")
@click.option("--validation", type=FOLDER, help="Folder of clips by other speakers, for the metrics.")
@click.option("--out", type=FOLDER, help="Folder for checkpoints, metrics and the result.")
@click.option("--teacher", type=FILE, help="Weights of the teacher.")
@click.option("--expert", type=FILE, help="Weights of the lip-sync expert.")
@click.option("--max-minutes", type=float, help="Stop after so many minutes of training.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def distill(*, spec: str, quiet: bool, **overrides: Any) -> None:
    """Distil a compact student generator as the TOML file SPEC says.

    SPEC may also be the name of a shipped spec, such as `student-bare-kd-start`. Its key `distiller` names
    the plug-in that does it. The same command again resumes; Ctrl-C saves first.
    """
    # torch and Lightning take seconds to load.
    from qsens.core.plugins import load_plugin
    from qsens.zoo.training.spec_reading import merged_values

    values = merged_values(spec, overrides)
    folder = values.pop("out", None)
    if folder is None:
        raise SpecError("no folder for the result", "give --out FOLDER, or out = 'FOLDER' in the spec")
    plugin = load_plugin("distillers", values.get("distiller", DEFAULT_DISTILLER))
    with ProgressLine(is_shown=not quiet) as progress:
        weights = plugin(values, Path(folder), progress)
    click.echo(f"student: {weights}")
