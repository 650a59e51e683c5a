"""The commands `qsens zoo train` and `qsens distill`."""

from pathlib import Path

import click

from qsens.core.errors import SpecError
from qsens.python.progress import shown_progress

DEFAULT_DISTILLER = "omgd"
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


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
def distill(
    *,
    spec: str,
    data: tuple[Path, ...],
    validation: Path | None,
    out: Path | None,
    teacher: Path | None,
    expert: Path | None,
    max_minutes: float | None,
    threads: int | None,
    quiet: bool,
) -> None:
    """Distil a compact student generator as the TOML file SPEC says.

    SPEC may also be the name of a shipped spec, such as `student-bare-kd-start`. Its key `distiller` names
    the plug-in that does it. The same command again resumes; Ctrl-C saves first.
    """
    # torch and Lightning take seconds to load.
    from qsens.core.plugins import load_plugin
    from qsens.zoo.training.spec_reading import merged_values

    flags = {"data": data, "validation": validation, "out": out, "teacher": teacher, "expert": expert}
    values = merged_values(spec, {**flags, "max_minutes": max_minutes, "threads": threads})
    folder = values.pop("out", None)
    if folder is None:
        raise SpecError("no folder for the result", "give --out FOLDER, or out = 'FOLDER' in the spec")
    plugin = load_plugin("distillers", values.get("distiller", DEFAULT_DISTILLER))
    with shown_progress(not quiet) as progress:
        weights = plugin(values, Path(folder), progress)
    click.echo(f"student: {weights}")


@click.command()
@click.argument("spec", metavar="SPEC")
@click.option("--data", multiple=True, type=FOLDER, help="Folder of clips to train on; may be repeated.")
@click.option("--validation", type=FOLDER, help="Folder of clips by other speakers, for the metrics.")
@click.option("--out", type=FOLDER, help="Folder for checkpoints, metrics and the result.")
@click.option("--start", type=FILE, help="Weights to begin with.")
@click.option("--expert", type=FILE, help="Weights of the lip-sync expert, for a teacher.")
@click.option("--max-minutes", type=float, help="Stop after so many minutes of training.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def train(
    *,
    spec: str,
    data: tuple[Path, ...],
    validation: Path | None,
    out: Path | None,
    start: Path | None,
    expert: Path | None,
    max_minutes: float | None,
    threads: int | None,
    quiet: bool,
) -> None:
    """Train a talker, a teacher or a lip-sync expert as the TOML file SPEC says.

    SPEC may also be the name of a shipped spec, such as `talker`. The same command again resumes; Ctrl-C
    saves first. The folder then holds the weights as safetensors, and training.toml says how they came about.
    """
    # torch and Lightning take seconds to load.
    from qsens.zoo.training.kinds import train as train_kind
    from qsens.zoo.training.spec_reading import read_training_spec

    flags = {"data": data, "validation": validation, "out": out, "start": start, "expert": expert}
    read = read_training_spec(spec, {**flags, "max_minutes": max_minutes, "threads": threads})
    with shown_progress(not quiet) as progress:
        result = train_kind(read, progress)
    if result.metrics:
        lines = [f"{name} {value:.3f}" for name, value in result.metrics.items()]
        click.echo("\n".join([*lines, f"{result.steps} steps, {result.samples} samples: {result.folder}"]))
