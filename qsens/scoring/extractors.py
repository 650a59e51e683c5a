"""Feature extractors by name or file, and features of real images, of one size or many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from qsens.calibration.real_images import RealImages
from qsens.core.errors import PluginError, SpecError
from qsens.core.interfaces import Extractor, Progress
from qsens.core.plugins import create
from qsens.scoring import inception, lite0
from qsens.scoring.feature_session import IMAGES_PER_RUN
from qsens.scoring.onnx_extractor import is_onnx_file, open_onnx_extractor
from qsens.scoring.several_extractors import side_by_side

AUTO = "auto"


def features_of_images(
    images: RealImages, extractor: Extractor, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Features (N, D), float32, of all images in order.

    Images may differ in size; the extractor resizes each from its own.

    Raises:
        DataError: for a file that is no image.
    """
    parts: list[NDArray[np.float32]] = []
    done = 0
    for batch in _batches_of_one_size(images):
        parts.append(extractor.run(batch))
        done += len(batch)
        if progress is not None:
            progress(done, len(images), "real images: features")
    return np.concatenate(parts)


def _batches_of_one_size(images: RealImages) -> Iterator[NDArray[np.uint8]]:
    """uint8 (N, 3, H, W) batches of neighbours of equal size."""
    batch: list[NDArray[np.uint8]] = []
    for index in range(len(images)):
        image = images.image(index)
        if batch and (len(batch) == IMAGES_PER_RUN or image.shape != batch[0].shape):
            yield np.stack(batch)
            batch = []
        batch.append(image)
    yield np.stack(batch)


def load_extractors(
    names: Sequence[str],
    options: Mapping[str, Mapping[str, object]],
    *,
    inception_weights: Path | None = None,
    threads: int = 0,
    cache: Path | None = None,
    download: bool = False,
) -> Extractor:
    """Open extractors as `load_extractor` does, `auto` for the default one; several are put side by side.

    `options` are those of the extractors that have any, by name.

    Raises:
        SpecError: for two of one name too, which scores could not tell apart, or options of another one.
    """
    known = [default_extractor_name(inception_weights) if name == AUTO else name for name in names]
    stray = next((name for name in options if name not in known), None)
    if stray is not None:
        raise SpecError(
            f"options for the extractor {stray!r}, which the run does not have", f"it has {', '.join(known)}"
        )
    offered = {
        "inception_weights": inception_weights,
        "threads": threads,
        "cache": cache,
        "download": download,
    }
    found = [_opened(name, options.get(name, {}), offered) for name in known]
    shown = [extractor.name for extractor in found]
    twice = next((name for name in shown if shown.count(name) > 1), None)
    if twice is not None:
        raise SpecError(
            f"two extractors are named {twice!r}: {', '.join(names)}",
            "name each once; a file's name is the 'name' in the TOML file beside it",
        )
    return found[0] if len(found) == 1 else side_by_side(found)


def default_extractor_name(inception_weights: Path | None = None) -> str:
    """`inception` where its weights are named or in torch's cache, else the embedded `lite0`."""
    return inception.NAME if inception.weights_are_at_hand(inception_weights) else lite0.NAME


def load_extractor(
    name: str,
    *,
    inception_weights: Path | None = None,
    threads: int = 0,
    cache: Path | None = None,
    download: bool = False,
) -> Extractor:
    """Open an installed extractor (`inception`, `lite0`, a plug-in), or an ONNX file with a TOML beside it.

    The weights' sha256 is checked every time. `threads`: 0 for one a core. `cache`: folder that keeps built
    graphs, so that later loads need no torch. `download` allows weights to be fetched. A plug-in is given
    those of these values that it has an option for.

    Raises:
        SpecError: for an unknown name, or a file whose preprocessing is not stated.
        LoadError: if the weights are missing, damaged or cannot be read; no other extractor is used instead.
        PluginError: for a plug-in that makes something else.
    """
    return load_extractors(
        [name],
        {},
        inception_weights=inception_weights,
        threads=threads,
        cache=cache,
        download=download,
    )


def _opened(name: str, options: Mapping[str, object], offered: Mapping[str, object]) -> Extractor:
    if is_onnx_file(name):
        return open_onnx_extractor(Path(name), threads=cast("int", offered["threads"]))
    made = create("extractors", name, options, offered=offered)
    if not isinstance(made, Extractor):
        raise PluginError(
            f"the extractor {name!r} is a {type(made).__name__}",
            "its entry point is a function that returns a qsens.core.interfaces.Extractor",
        )
    return made
