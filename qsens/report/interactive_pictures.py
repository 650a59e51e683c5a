"""Sample pictures in a form that fits the page: differences to FP32's, compressed without loss."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

# Characters of base64 over all runs of a page; the charting library takes 2 million more.
MOST_CHARACTERS = 6_000_000
_LARGEST_SIDE = 384
_SIDES = (384, 256, 192, 128)
_COUNTS = (4, 3, 2, 1)
_TRIED = 6


@dataclass(frozen=True)
class PackedPictures:
    """Pictures of one run.

    `data` by trial number: base64 of the zlib stream of uint8 (K, 3, height, width), RGB; FP32's pictures
    as they are, those of other trials minus FP32's modulo 256. `psnr` by trial number: dB of each picture
    as the generator made it, `None` for identical ones. `note` says what was left out, if anything.
    """

    width: int
    height: int
    count: int
    baseline: int
    data: Mapping[int, str]
    psnr: Mapping[int, Sequence[float | None]]
    note: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for the page."""
        return {
            "width": self.width,
            "height": self.height,
            "count": self.count,
            "baseline": self.baseline,
            "data": {str(number): text for number, text in self.data.items()},
            "psnr": {str(number): list(values) for number, values in self.psnr.items()},
            "note": self.note,
        }


def pack_pictures(
    samples: Mapping[int, Array], baseline: int | None, most_characters: int = MOST_CHARACTERS
) -> PackedPictures | None:
    """Pictures within `most_characters`; `None` without FP32's pictures.

    samples: by trial number, uint8 (K, 3, H, W), 0 to 255, RGB; those of another shape than FP32's are left
    out. Beyond the limit the pictures get smaller, down to 128 pixels, then fewer.
    """
    if baseline is None or baseline not in samples:
        return None
    reference = samples[baseline]
    alike = {number: images for number, images in samples.items() if images.shape == reference.shape}
    count, _, height, width = reference.shape
    sides = [side for side in _SIDES if side < max(height, width)]
    if max(height, width) <= _LARGEST_SIDE:
        sides = [max(height, width), *sides]
    forms = [(side, count) for side in sides] + [(sides[-1], few) for few in _COUNTS if few < count]
    form = next((form for form in forms if _estimate(alike, baseline, form) <= most_characters), forms[-1])
    data = _encoded(alike, baseline, form)
    shown = _shrunk(reference[:1], form[0])
    return PackedPictures(
        width=shown.shape[3],
        height=shown.shape[2],
        count=form[1],
        baseline=baseline,
        data=data,
        psnr={number: _psnr(images[: form[1]], reference[: form[1]]) for number, images in alike.items()},
        note=_note(reference, shown, form[1]),
    )


def _estimate(alike: Mapping[int, Array], baseline: int, form: tuple[int, int]) -> float:
    """Characters that the form takes, from a few trials spread over all."""
    numbers = list(alike)
    places = np.linspace(0, len(numbers) - 1, min(_TRIED, len(numbers))).round().astype(int)
    tried = {numbers[place]: alike[numbers[place]] for place in places}
    size = sum(map(len, _encoded({**tried, baseline: alike[baseline]}, baseline, form).values()))
    return size * len(numbers) / len({*tried, baseline})


def _encoded(alike: Mapping[int, Array], baseline: int, form: tuple[int, int]) -> dict[int, str]:
    side, count = form
    reference = _shrunk(alike[baseline][:count], side)
    found = {}
    for number, images in alike.items():
        shown = reference if number == baseline else _shrunk(images[:count], side) - reference
        found[number] = base64.b64encode(zlib.compress(shown.tobytes(), 6)).decode()
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


def _note(reference: Array, shown: Array, count: int) -> str:
    parts = []
    if shown.shape[2:] != reference.shape[2:]:
        height, width = reference.shape[2:]
        parts.append(
            f"pictures are shown at {shown.shape[3]} x {shown.shape[2]} of {width} x {height} pixels, "
            "error maps are of what is shown, PSNR is of the full pictures"
        )
    if count < len(reference):
        parts.append(f"{count} of {len(reference)} sample inputs are on the page")
    text = "; ".join(parts)
    return f"To keep the page small, {text}." if text else ""
