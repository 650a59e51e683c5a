"""Sample pictures in a form that fits the page: differences to FP32's, compressed without loss."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from qsens.calibration.splits import spread_places
from qsens.report.difference_maps import LEVELS, Difference

Array = np.ndarray[Any, np.dtype[Any]]
# Characters of base64 of one run, and over all runs of a page; the charting library takes 2 million more.
MOST_OF_A_RUN, MOST_CHARACTERS = 500_000, 1_500_000
# Longer side in pixels and number of inputs, tried in turn; each is capped by what there is.
_MANY = 1000
_FORMS = (
    *((side, _MANY) for side in (384, 256, 192, 128)),
    *((128, 4), (128, 3), (96, 3), (64, 3), (64, 2), (64, 1), (48, 1), (32, 1)),
)
_TRIED, _DOZEN = 6, 12
# Of the characters, what is left for pictures where maps come with them.
_WITHOUT_MAPS = 0.7


@dataclass(frozen=True)
class PackedPictures:
    """Pictures of one run.

    `data` by trial number: base64 of the zlib stream of uint8 (K, 3, height, width), RGB; FP32's pictures
    as they are, those of other trials minus FP32's modulo 256. `psnr` by trial number: dB of each picture
    as the generator made it, `None` for identical ones. `maps` by trial number: base64 of the zlib stream
    of uint8 (K, height, width), FLIP's error from 0 to `most_of_maps`; none where FLIP is not at hand.
    `note` says what was left out, if anything.
    """

    width: int
    height: int
    count: int
    baseline: int
    data: Mapping[int, str]
    psnr: Mapping[int, Sequence[float | None]]
    note: str
    maps: Mapping[int, str] = field(default_factory=dict)
    most_of_maps: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for the page."""
        return {
            "width": self.width,
            "height": self.height,
            "count": self.count,
            "baseline": self.baseline,
            "data": {str(number): text for number, text in self.data.items()},
            "psnr": {str(number): list(values) for number, values in self.psnr.items()},
            "maps": {str(number): text for number, text in self.maps.items()},
            "mostOfMaps": self.most_of_maps,
            "note": self.note,
        }


def pack_pictures(
    samples: Mapping[int, Array],
    baseline: int | None,
    most_characters: int = MOST_OF_A_RUN,
    first: Sequence[int] = (),
    difference: Difference = LEVELS,
) -> PackedPictures | None:
    """Pictures within `most_characters`; `None` without FP32's pictures.

    samples: by trial number, uint8 (K, 3, H, W), 0 to 255, RGB; those of another shape than FP32's are left
    out. Beyond the limit those of all but about a dozen trials are left out, then the pictures get smaller
    and fewer, at last those of more trials are left out; `first` are the trials that are left out last.
    With another `difference` than levels, which the page sees by itself, its maps of what is shown come too.
    """
    if baseline is None or baseline not in samples:
        return None
    reference = samples[baseline]
    alike = [number for number in samples if samples[number].shape == reference.shape]
    wanted = [baseline, *(number for number in first if number in alike)]
    has_maps = difference is not LEVELS
    most_characters = int(most_characters * (_WITHOUT_MAPS if has_maps else 1.0))
    form, size = _form_within(samples, alike, wanted, most_characters)
    kept = _spread(alike, wanted, min(len(alike), int(most_characters / size)))
    shown = _shrunk(reference[:1], form[0])
    maps, most = _maps(samples, kept, baseline, form, difference) if has_maps else ({}, 0.0)
    return PackedPictures(
        width=shown.shape[3],
        height=shown.shape[2],
        count=form[1],
        baseline=baseline,
        data=_encoded(samples, kept, baseline, form),
        psnr={number: _psnr(samples[number][: form[1]], reference[: form[1]]) for number in kept},
        note=_note(reference, shown, form[1], len(alike) - len(kept)),
        maps=maps,
        most_of_maps=most,
    )


def _maps(
    samples: Mapping[int, Array],
    numbers: Sequence[int],
    baseline: int,
    form: tuple[int, int],
    difference: Difference,
) -> tuple[dict[int, str], float]:
    """Maps of the pictures as they are shown, and the largest value in them, which 255 stands for."""
    side, count = form
    reference = _shrunk(samples[baseline][:count], side)
    found = {
        number: difference.of(_shrunk(samples[number][:count], side), reference)
        for number in numbers
        if number != baseline
    }
    most = max((float(values.max()) for values in found.values()), default=0.0)
    shares = {number: values / (most or 1.0) for number, values in found.items()}
    return {number: _text(np.rint(255 * share).astype(np.uint8)) for number, share in shares.items()}, most


def _text(values: Array) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()


def _form_within(
    samples: Mapping[int, Array], alike: Sequence[int], wanted: Sequence[int], most: int
) -> tuple[tuple[int, int], float]:
    """The best form in which a dozen trials take at most `most` characters, and what a trial takes in it."""
    baseline = wanted[0]
    count, _, height, width = samples[baseline].shape
    forms = dict.fromkeys((min(side, max(height, width)), min(few, count)) for side, few in _FORMS)
    tried = _spread(alike, wanted, _TRIED)
    size = 0.0
    for form in forms:
        size = sum(map(len, _encoded(samples, tried, baseline, form).values())) / len(tried)
        if size * min(len(alike), _DOZEN) <= most:
            break
    return form, size


def _spread(alike: Sequence[int], wanted: Sequence[int], count: int) -> list[int]:
    """The trials that are wanted, and others spread over all, about `count` together."""
    others = [number for number in alike if number not in wanted]
    places = spread_places(len(others), max(min(count - len(wanted), len(others)), 0))
    return list(dict.fromkeys([*wanted, *(others[place] for place in places)]))


def _encoded(
    samples: Mapping[int, Array], numbers: Sequence[int], baseline: int, form: tuple[int, int]
) -> dict[int, str]:
    side, count = form
    reference = _shrunk(samples[baseline][:count], side)
    found = {}
    for number in numbers:
        shown = reference if number == baseline else _shrunk(samples[number][:count], side) - reference
        found[number] = _text(shown)
    return found


def _shrunk(images: Array, side: int) -> Array:
    """The pictures with their longer side at most `side` pixels, by averaging areas."""
    height, width = images.shape[2:]
    scale = side / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize(size, Image.Resampling.BOX))
        for image in images
    ]
    return np.stack(small).transpose(0, 3, 1, 2)


def _psnr(images: Array, reference: Array) -> list[float | None]:
    errors = ((images.astype(np.float64) - reference) ** 2).mean(axis=(1, 2, 3))
    return [None if error == 0 else round(float(10 * np.log10(255.0**2 / error)), 3) for error in errors]


def _note(reference: Array, shown: Array, count: int, left_out: int) -> str:
    parts = []
    if shown.shape[2:] != reference.shape[2:]:
        height, width = reference.shape[2:]
        parts.append(
            f"pictures are shown at {shown.shape[3]} x {shown.shape[2]} of {width} x {height} pixels, "
            "error maps are of what is shown, PSNR is of the full pictures"
        )
    if count < len(reference):
        parts.append(f"{count} of {len(reference)} sample inputs are on the page")
    if left_out:
        parts.append(f"the pictures of {left_out} trials are left out")
    text = "; ".join(parts)
    return f"To keep the page small, {text}." if text else ""
