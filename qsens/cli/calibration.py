"""`qsens calibration`: writes and checks the manifest of a set of images or arrays."""

from pathlib import Path

import click

from qsens.cli.option_values import parse_range
from qsens.cli.options import largest_picture_option
from qsens.cli.text import echo_json
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS


@click.group()
def calibration() -> None:
    """Describe and check sets of images or arrays."""


@calibration.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--licence", help="An SPDX identifier such as CC0-1.0, or a sentence.")
@click.option("--origin", help="Where the files come from: an address, a citation.")
@click.option("--name", help="A name for people; the folder's name if left out.")
@click.option(
    "--colour-order",
    type=click.Choice(["rgb", "bgr", "gray"]),
    help="Colour order the generator expects; rgb if never stated.",
)
@click.option(
    "--value-range",
    type=parse_range,
    metavar="LOW..HIGH",
    help="What 0..255 becomes in the generator's input; 0..1 if never stated.",
)
@click.option(
    "--clip-pattern", metavar="REGEX", help="Its first group, found in a file name, is the file's clip."
)
@click.option("--opener", help="Plug-in of group qsens.sets that reads the files in the subfolders.")
@largest_picture_option(default=LARGEST_PICTURE_MEGAPIXELS)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def add(
    folder: Path,
    *,
    licence: str | None,
    origin: str | None,
    name: str | None,
    colour_order: str | None,
    value_range: list[float] | None,
    clip_pattern: str | None,
    opener: str | None,
    largest_picture_megapixels: int,
    as_json: bool,
) -> None:
    """Write FOLDER/manifest.toml: count, size, colour, range, licence, origin and checksums.

    Run again after adding or removing files: what is not stated anew is kept. The files themselves are
    read in full and never changed.
    """
    # Pillow and NumPy load only when a manifest is written.
    from qsens.calibration.manifest import MANIFEST_NAME, SetFacts, write_manifest

    ends = None if value_range is None else (value_range[0], value_range[1])
    facts = SetFacts(licence, origin, name, colour_order, ends, clip_pattern, opener)
    manifest = write_manifest(folder, facts, largest_megapixels=largest_picture_megapixels)
    if as_json:
        echo_json(manifest.to_json())
        return
    click.echo(
        f"{manifest.name}: {_summary(manifest.count, manifest.size)}, {manifest.licence}, {manifest.origin}"
    )
    click.echo(f"wrote {folder / MANIFEST_NAME}")


@calibration.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def check(folder: Path, *, as_json: bool) -> None:
    """Compare the files of FOLDER with its manifest.toml."""
    # As above.
    from qsens.calibration.manifest import checked_manifest

    manifest = checked_manifest(folder)
    if as_json:
        echo_json(manifest.to_json())
        return
    click.echo(f"{manifest.name}: {_summary(manifest.count, manifest.size)}, all as the manifest says")


def _summary(count: int, size: tuple[int, int] | None) -> str:
    files = f"{count} file{'' if count == 1 else 's'}"
    return files if size is None else f"{files} of {size[0]}x{size[1]}"
