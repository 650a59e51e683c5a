"""`qsens zoo prepare`: videos to paired sets of sound and faces."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qsens.python.progress import shown_progress

if TYPE_CHECKING:
    from qsens.zoo.clips.faces import FaceDetector
    from qsens.zoo.clips.preparing import PrepareReport


def _parse_margins(text: str) -> list[int]:
    """Read `TOP,BOTTOM,LEFT,RIGHT` in pixels."""
    try:
        sides = [int(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) != 4:
        raise click.BadParameter(f"{text!r}: write TOP,BOTTOM,LEFT,RIGHT in pixels, for example 0,10,0,0")
    return sides


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the set.")
@click.option("--licence", help="An SPDX identifier such as CC0-1.0, or a sentence.")
@click.option("--origin", help="Where the videos come from: an address, a citation.")
@click.option("--whole-frame", is_flag=True, help="The videos are face crops already: look for no face.")
@click.option(
    "--pad",
    type=_parse_margins,
    metavar="T,B,L,R",
    default="0,0,0,0",
    show_default=True,
    help="Pixels added around the face.",
)
@click.option("--smooth", is_flag=True, help="Average the face's place over five frames.")
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="One frame in so many."
)
@click.option(
    "--reference",
    type=click.Choice(["same", "other"]),
    default="other",
    show_default=True,
    help="The unmasked face shown beside the masked one: the same frame or another of the clip.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def prepare(
    *,
    videos: Sequence[Path],
    out: Path,
    licence: str | None,
    origin: str | None,
    whole_frame: bool,
    pad: list[int],
    smooth: bool,
    every: int,
    reference: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn each VIDEO into a clip in OUT: faces at 25 frames a second, sound at 16 kHz, and a manifest.

    `sweep --calibration OUT` and `--evaluation OUT` take the set: pairs of a mel window and two faces. A
    frame without a face is left out and counted. A video that cannot be used is named at the end, and the
    others are kept; the exit code is 1 only if none could be used. Run again to add videos or to go on
    after a stop. --every and --reference are written in the manifest; all frames are kept.
    """
    # The decoder, the detector, NumPy and SciPy load only when videos are prepared.
    from qsens.calibration.manifest import SetFacts, write_manifest
    from qsens.zoo.clips.faces import Margins
    from qsens.zoo.clips.preparing import PrepareOptions, check_facts, prepare_videos

    opener_options = {"every": every, "reference": reference}
    facts = SetFacts(licence, origin, opener="clips", opener_options=opener_options)
    check_facts(out, facts)
    options = PrepareOptions(Margins(*pad), is_smoothed=smooth)
    detector = None if whole_frame else _detector()
    with shown_progress(not quiet) as progress:
        report = prepare_videos(videos, out, options, detector, progress)
    if report.prepared:
        write_manifest(out, facts)
    _show(report, out, as_json=as_json)
    if not report.prepared:
        raise click.exceptions.Exit(1)


def _detector() -> "FaceDetector":
    # dlib is an extra of its own, which whole frames do not need.
    from qsens.zoo.clips.faces import DlibFaces

    return DlibFaces()


def _show(report: "PrepareReport", out: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2, default=str))
        return
    for made in report.prepared:
        missing = f", {made.missing} without a face left out" if made.missing else ""
        changes = "".join(f"; {change}" for change in made.changes)
        state = "already there" if made.was_there else "written"
        click.echo(f"{made.video.name}: {made.clip} {state}, {made.frames} frames{missing}{changes}")
    for failed in report.failed:
        click.echo(f"{failed.video.name}: failed: {failed.message} ({failed.hint})", err=True)
    if report.prepared:
        click.echo(f"wrote {out / 'manifest.toml'}; use it with: qsens sweep MODEL --calibration {out}")
    else:
        click.echo(f"none of {len(report.failed)} videos could be used", err=True)
