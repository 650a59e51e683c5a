"""One clip of the corpus: a speaker, what they say, how they move, and every frame of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qsens.zoo.corpus.face import Expression, draw_face
from qsens.zoo.corpus.identity import Identity
from qsens.zoo.corpus.phones import Mouth, PhoneTrack, speak
from qsens.zoo.corpus.scene import Scene
from qsens.zoo.corpus.speech import Voice, synthesise
from qsens.zoo.corpus.surface import Pose

FRAMES_PER_SECOND = 25
LEAD_S = 0.06
"""The lead of the lips over the sound: frame f shows the mouth at `(f + 0.5) / 25 + LEAD_S` of the sound."""

AFTER_S = 0.25
"""Sound after the last frame, so that the window of the last frame is complete."""

_BLINK_S = 0.14


@dataclass(frozen=True)
class ClipPlan:
    """The plan of a clip, which depends on this alone. Clips of one speaker share a face and a voice."""

    seed: int
    speaker: int
    clip: int
    frames: int
    size: int


@dataclass(frozen=True)
class Motion:
    """Movement of head, lids, gaze and brows, whatever is said: sums of slow waves, and blinks.

    `rest`, `swing`, `rates_hz`, `phases`: float64 (8, 2) (`rest` (8,)), in the order of the fields of `Pose`,
    then gaze and brows.
    """

    rest: NDArray[np.float64]
    swing: NDArray[np.float64]
    rates_hz: NDArray[np.float64]
    phases: NDArray[np.float64]
    blinks_s: tuple[float, ...]

    @classmethod
    def draw(cls, random: np.random.Generator, duration_s: float) -> "Motion":
        widest = np.array([0.05, 0.05, 0.10, 0.06, 0.32, 0.12, 0.012, 0.008])
        rest = random.uniform(-1, 1, 8) * widest + np.array([0, 0, 0, 1.12, 0, 0, 0, 0])
        amounts = np.array([0.015, 0.012, 0.035, 0.012, 0.14, 0.07, 0.008, 0.006])
        blinks = np.cumsum(random.uniform(0.8, 3.5, int(duration_s) + 2)) - 0.6
        return cls(
            rest,
            amounts[:, None] * random.uniform(0.1, 1.0, (8, 2)),
            random.uniform([0.10, 0.4], [0.4, 0.9], (8, 2)),
            random.uniform(0, 2 * np.pi, (8, 2)),
            tuple(float(blink) for blink in blinks),
        )

    def at(self, time_s: float) -> tuple[Pose, Expression]:
        """Pose and expression at one time."""
        waves = self.swing * np.sin(2 * np.pi * self.rates_hz * time_s + self.phases)
        values = [float(value) for value in self.rest + waves.sum(axis=1)]
        blink = max(max(0.0, 1 - abs(time_s - blink) / _BLINK_S) for blink in self.blinks_s)
        return Pose(*values[:6]), Expression(blink, values[6], values[7])


@dataclass(frozen=True)
class TalkingClip:
    """A clip that can be drawn: the sound, the phones behind it, and everything that a frame needs.

    `samples`: float32, 16 kHz mono, -1..1, `AFTER_S` longer than the frames.
    """

    samples: NDArray[np.float32]
    track: PhoneTrack
    mouths: tuple[Mouth, ...]
    identity: Identity
    scene: Scene
    motion: Motion

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Every frame in turn, uint8 (size, size, 3) RGB."""
        for number, mouth in enumerate(self.mouths):
            pose, expression = self.motion.at(number / FRAMES_PER_SECOND)
            yield draw_face(self.identity, self.scene, pose, mouth, expression)


def make_clip(plan: ClipPlan) -> TalkingClip:
    """The clip of a plan; the same plan gives the same clip."""
    speaker = np.random.default_rng([plan.seed, plan.speaker])
    build = float(speaker.random())
    identity, voice = Identity.draw(speaker, build), Voice.draw(speaker, build)
    # Separate streams: how many numbers one part draws does not change the others.
    words, sounds, places, moves = (
        np.random.default_rng([plan.seed, plan.speaker, plan.clip, stream]) for stream in range(4)
    )
    duration_s = plan.frames / FRAMES_PER_SECOND
    track = speak(words, duration_s + AFTER_S, rate=voice.rate)
    return TalkingClip(
        synthesise(track, voice, sounds, duration_s=duration_s + AFTER_S),
        track,
        tuple(track.mouth_at(time_of_mouth(number)) for number in range(plan.frames)),
        identity,
        Scene.draw(places, plan.size),
        Motion.draw(moves, duration_s),
    )


def time_of_mouth(frame: int) -> float:
    """The instant of the sound, in seconds, whose mouth a frame shows."""
    return (frame + 0.5) / FRAMES_PER_SECOND + LEAD_S
