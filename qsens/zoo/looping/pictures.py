"""Drawn faces and clips of them, without sound, as arrays: to train on, and as the sets of the demos."""

from typing import Any

import numpy as np
from PIL import Image

from qsens.zoo.corpus.clip import FRAMES_PER_SECOND, Motion
from qsens.zoo.corpus.face import draw_face
from qsens.zoo.corpus.identity import Identity
from qsens.zoo.corpus.phones import speak
from qsens.zoo.corpus.scene import Scene

FACE_SIDE, CLIP_SIDE = 32, 96
STATE_CHANNELS = 24
# Noise of a camera in 0..1; what a state gathers over frames takes it away.
NOISE = 0.03
Array = np.ndarray[Any, np.dtype[Any]]
# Faces are drawn larger and made smaller, which softens their edges as a lens does.
_DRAWN_TIMES = 2


def drawn_clip(seed: int, number: int, frames: int, side: int) -> Array:
    """Consecutive frames of one speaker, uint8 (frames, 3, side, side), 0 to 255, RGB.

    The same arguments give the same clip.
    """
    random = np.random.default_rng([seed, number])
    build = float(random.random())
    identity, duration_s = Identity.draw(random, build), frames / FRAMES_PER_SECOND
    scene, motion = Scene.draw(random, _DRAWN_TIMES * side), Motion.draw(random, duration_s)
    track = speak(random, duration_s + 1.0, rate=float(random.uniform(0.8, 1.2)))
    pictures = []
    for frame in range(frames):
        time_s = (frame + 0.5) / FRAMES_PER_SECOND
        pose, expression = motion.at(time_s)
        drawn = draw_face(identity, scene, pose, track.mouth_at(time_s), expression)
        pictures.append(smaller(drawn, side))
    return np.stack(pictures)


def smaller(picture: Array, side: int) -> Array:
    """The mean over the pixels that become one: uint8 (H, W, 3) to (3, side, side)."""
    image = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
