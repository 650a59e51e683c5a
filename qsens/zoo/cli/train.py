"""The commands `qsens zoo` (`train`, `corpus` and the group itself) and `qsens distill`."""

import os
from pathlib import Path

import click

from qsens.cli.main import LazyGroup
from qsens.cli.progress import ProgressLine
from qsens.core.errors import SpecError

COMMANDS = {
    "table2": ("qsens.zoo.cli.table2:table2", "Parameters and MACs of the Wav2Lip family, as in the paper."),
    "corpus": ("qsens.zoo.cli.train:corpus", "Make talking faces with sound, procedurally."),
    "prepare": ("qsens.zoo.cli.prepare:prepare", "Turn videos into paired sets of sound and faces."),
    "train": ("qsens.zoo.cli.train:train", "Train a talker, a teacher or a lip-sync expert."),
    "score": ("qsens.zoo.cli.score:score", "Score a talking-face generator on clips."),
    "paper": ("qsens.zoo.cli.paper:paper", "The paper's tables and figures, ours beside the published ones."),
}
DEFAULT_DISTILLER = "omgd"
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(cls=LazyGroup, commands_by_name=COMMANDS)
def zoo() -> None:
    """Talking-face generators: their data, training, metrics, and the paper's tables and figures."""


@click.command()
@click.option("--frames", type=int, required=True, help="At least this many, in whole clips.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other speakers.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the corpus.")
@click.option("--size", type=int, default=96, show_default=True, help="Pixels, in both directions.")
@click.option("--frames-per-clip", type=int, default=50, show_default=True, help="25 are a second.")
@click.option("--clips-per-speaker", type=int, default=1, show_default=True, help="Same face and voice.")
@click.option("--jobs", type=int, help="Processes; one a core if left out.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def corpus(
    *,
    frames: int,
    seed: int,
    out: Path,
    size: int,
    frames_per_clip: int,
    clips_per_speaker: int,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Make talking faces with sound in OUT: one folder a clip, with frames, sound and mouth.csv.

    Nothing is downloaded or recorded: faces are drawn, speech is synthesised, and both follow the same
    phones. Run again to go on after a stop, or to add clips with a larger --frames.
    """
    # NumPy and SciPy load only when clips are made.
    from qsens.zoo.corpus.writing import CorpusPlan, write_corpus

    plan = CorpusPlan(seed, size, frames_per_clip, clips_per_speaker)
    workers = (os.cpu_count() or 1) if jobs is None else jobs
    with ProgressLine(is_shown=not quiet) as progress:
        written = write_corpus(out, plan, frames, workers, progress)
    kept = f", {written.kept} clips kept" if written.kept else ""
    click.echo(f"{out}: {written.frames} frames, {written.made} clips made{kept}")


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
    with ProgressLine(is_shown=not quiet) as progress:
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
    with ProgressLine(is_shown=not quiet) as progress:
        result = train_kind(read, progress)
    if result.metrics:
        lines = [f"{name} {value:.3f}" for name, value in result.metrics.items()]
        click.echo("\n".join([*lines, f"{result.steps} steps, {result.samples} samples: {result.folder}"]))
