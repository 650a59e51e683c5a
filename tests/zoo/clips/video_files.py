"""Videos for tests: a photograph that moves, numbered frames, tones."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Recipe:
    """What a test video holds; `sound_late_s` starts the sound after the picture."""

    seconds: float = 1.0
    fps: Fraction = Fraction(25)
    rate: int = 16_000
    has_sound: bool = True
    sound_late_s: float = 0.0


def write_video(path, pictures, recipe=Recipe()):
    """`pictures(number)` gives each frame uint8 (240, 320, 3); the sound is a tone of 440 Hz."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=recipe.fps)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.bit_rate = 8_000_000
        streams = [(picture, _frames(pictures, recipe))]
        if recipe.has_sound:
            sound = container.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate=recipe.rate)
            sound.layout = "mono"
            streams.append((sound, _blocks(recipe)))
        for stream, frames in streams:
            for frame in (*frames, None):
                container.mux(stream.encode(frame))
    return path


def _frames(pictures, recipe):
    return [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(pictures(number)), format="rgb24")
        for number in range(round(recipe.seconds * recipe.fps))
    ]


def _blocks(recipe):
    samples = tone(recipe.seconds - recipe.sound_late_s, recipe.rate)
    blocks = []
    for start in range(0, len(samples), 1024):
        levels = (samples[None, start : start + 1024] * 32767).astype(np.int16)
        block = av.AudioFrame.from_ndarray(levels, format="s16", layout="mono")
        block.sample_rate = recipe.rate
        block.pts = start + round(recipe.sound_late_s * recipe.rate)
        block.time_base = Fraction(1, recipe.rate)
        blocks.append(block)
    return blocks


def tone(seconds, rate):
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)


def gray(number):
    """A flat frame whose level tells its number."""
    return np.full((HEIGHT, WIDTH, 3), 16 + 3 * number, np.uint8)


def number_of(frame):
    return round((float(frame.mean()) - 16) / 3)


def face_pictures():
    """scikit-image's astronaut, moving sideways."""
    from skimage import data  # the photograph is only needed where a face is looked for

    photograph = data.astronaut()

    def picture(number):
        left = 70 + int(20 * np.sin(number / 8))
        return photograph[20 : 20 + HEIGHT, left : left + WIDTH]

    return picture
