"""`qsens fid`: distance between two folders of images."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qsens.cli.options import largest_picture_option
from qsens.cli.text import echo_json
from qsens.core.own_code import use_own_code
from qsens.core.shown_text import steering
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS
from qsens.device.visible_text import visible_name

if TYPE_CHECKING:
    from qsens.core.interfaces import Array, Extractor
    from qsens.core.trial import Score

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("folder_a", type=PATH)
@click.argument("folder_b", type=PATH)
@click.option(
    "--extractor",
    "name",
    help="inception, lite0, a plug-in or FILE.onnx; without it, inception where weights are found.",
)
@click.option("--inception-weights", "weights", type=PATH, help="File of pytorch-fid's Inception weights.")
@click.option("--download", is_flag=True, help="Fetch the Inception weights (96 MB) where they are missing.")
@largest_picture_option(default=LARGEST_PICTURE_MEGAPIXELS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fid(
    folder_a: Path,
    folder_b: Path,
    *,
    name: str | None,
    weights: Path | None,
    download: bool,
    largest_picture_megapixels: int,
    as_json: bool,
) -> None:
    """Distance between the images of two folders, with its 95 % interval.

    Only pytorch-fid's Inception gives a FID; any other extractor shows its own name.
    """
    # numpy, SciPy and ONNX Runtime take half a second to load.
    from qsens.scoring.fid import sample_size_warning, score_of_two_sets

    extractor = _open_extractor(name, weights, download=download)
    features = {
        folder: _features(folder, extractor, largest_picture_megapixels) for folder in (folder_a, folder_b)
    }
    score = score_of_two_sets(features[folder_a], features[folder_b], extractor)
    counts = {str(folder): len(rows) for folder, rows in features.items()}
    if as_json:
        echo_json({**asdict(score), "folders": counts})
    else:
        click.echo(score_text(score, counts))
    warning = sample_size_warning(score.images, extractor)
    if warning is not None:
        click.echo(f"Warning: {warning}", err=True)


def score_text(score: "Score", counts: Mapping[str, int]) -> str:
    """The distance, its interval, the two folders and the extractor, one a line."""
    from qsens.scoring.intervals import interval  # deferred: loads numpy

    low, high = interval(score.value, score.standard_error or 0.0)
    width = max(len(name) for name in (score.metric, "extractor"))
    lines = [("images", f"{count} in {folder}") for folder, count in counts.items()]
    lines = [
        (score.metric, f"{score.value:.4f}  (95 %: {max(low, 0.0):.4f} to {high:.4f})"),
        *lines,
        ("extractor", score.against),
    ]
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _open_extractor(name: str | None, weights: Path | None, *, download: bool) -> "Extractor":
    from qsens.scoring.extractors import default_extractor_name, load_extractor  # deferred as above

    name = name or default_extractor_name(weights)
    use_own_code("extractors", name)
    return load_extractor(name, inception_weights=weights, download=download)


def _features(folder: Path, extractor: "Extractor", largest_megapixels: int) -> "Array":
    """Features of a folder, with a bar on stderr."""
    from qsens.calibration.real_images import open_real_images  # deferred: loads numpy and Pillow
    from qsens.scoring.extractors import features_of_images

    images = open_real_images(folder, largest_megapixels=largest_megapixels)
    with click.progressbar(
        length=len(images), label=visible_name(folder.name), file=steering(sys.stderr)
    ) as bar:
        return features_of_images(images, extractor, lambda done, _, __: bar.update(done - bar.pos))
