"""The face detector of dlib, whose weights are part of its library."""

from typing import Any

import dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qsens.zoo.clips.faces import Box

# dlib's square ends below the mouth; these shares of its height bring it from the hairline to the chin,
# about what the detector of the published Wav2Lip data frames.
_ABOVE, _BELOW = 0.25, 0.15
_LONGEST_SIDE = 720  # pixels; faces of 80 and more are found, of 40 and more in a second look


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
