"""`qsens zoo corpus`."""

import os
from pathlib import Path

import click

from qsens.python.progress import shown_progress


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
    with shown_progress(not quiet) as progress:
        written = write_corpus(out, plan, frames, workers, progress)
    kept = f", {written.kept} clips kept" if written.kept else ""
    click.echo(f"{out}: {written.frames} frames, {written.made} clips made{kept}")
