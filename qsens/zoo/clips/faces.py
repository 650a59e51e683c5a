"""Finding the face in a frame, with dlib for one, and cutting it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SMOOTHING = 5  # frames, as Wav2Lip's inference smooths
# dlib's square ends below the mouth; these shares of its height bring it from the hairline to the chin,
# about what the detector of the published Wav2Lip data frames.
_ABOVE, _BELOW = 0.25, 0.15
_LONGEST_SIDE = 720  # pixels; faces of 80 and more are found, of 40 and more in a second look


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; `bottom` and `right` are excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing is inside."""
        return self.bottom <= self.top or self.right <= self.left

    def inside(self, height: int, width: int) -> "Box":
        """The part that lies inside a frame."""
        return Box(max(self.top, 0), min(self.bottom, height), max(self.left, 0), min(self.right, width))


@dataclass(frozen=True)
class Margins:
    """Pixels added to a box on each side; negative ones cut."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def around(self, box: Box) -> Box:
        """The box with these margins, which may lie partly outside the frame."""
        return Box(box.top - self.top, box.bottom + self.bottom, box.left - self.left, box.right + self.right)


class FaceDetector(Protocol):
    """Finds the one face that speaks. `name` says which detector and version, for the record."""

    name: str

    def detect(self, frame: NDArray[np.uint8]) -> Box | None:
        """The most certain face of a frame uint8 (H, W, 3) RGB, inside it, or `None`."""
        ...


def crop(frame: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The pixels of a frame (H, W, 3) inside a box."""
    return frame[box.top : box.bottom, box.left : box.right]


def smooth_boxes(boxes: Sequence[Box | None]) -> list[Box | None]:
    """Each box averaged with the four after it; the last five before a gap share one average."""
    smoothed: list[Box | None] = list(boxes)
    for start, end in _runs(boxes):
        sides = np.array([_sides(box) for box in boxes[start:end] if box is not None], dtype=np.float64)
        for place in range(end - start):
            first = max(0, min(place, end - start - _SMOOTHING))
            top, bottom, left, right = sides[first : first + _SMOOTHING].mean(axis=0)
            smoothed[start + place] = Box(int(top), int(bottom), int(left), int(right))
    return smoothed


def _sides(box: Box) -> tuple[int, ...]:
    return (box.top, box.bottom, box.left, box.right)


def _runs(boxes: Sequence[Box | None]) -> list[tuple[int, int]]:
    """(start, end) of each stretch without a missing box."""
    present = np.array([False, *(box is not None for box in boxes), False])
    edges = np.flatnonzero(present[1:] != present[:-1])
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


class DlibFaces:
    """Frontal faces by histograms of oriented gradients, as dlib ships them."""

    def __init__(self) -> None:
        self.name = f"dlib {dlib.__version__} frontal"
        self._detector: Any = dlib.get_frontal_face_detector()

    def detect(self, frame: NDArray[np.uint8]) -> Box | None:
        """The most certain face of a frame uint8 (H, W, 3) RGB, from hairline to chin, inside it."""
        height, width = frame.shape[:2]
        scale = max(1.0, max(height, width) / _LONGEST_SIDE)
        looked_at = frame
        if scale > 1.0:
            size = (round(width / scale), round(height / scale))
            looked_at = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
        found = self._best(looked_at, 0) or self._best(looked_at, 1)
        if found is None:
            return None
        tall = found.bottom() - found.top()
        box = Box(
            int((found.top() - _ABOVE * tall) * scale),
            int((found.bottom() + _BELOW * tall) * scale),
            int(found.left() * scale),
            int(found.right() * scale),
        ).inside(height, width)
        return None if box.is_empty else box

    def _best(self, frame: NDArray[np.uint8], doublings: int) -> Any:
        """Dlib's rectangle with the highest score, or `None`."""
        rectangles, scores, _ = self._detector.run(np.ascontiguousarray(frame), doublings, 0.0)
        return rectangles[int(np.argmax(scores))] if len(rectangles) else None
