"""Faces: the mouth shows its opening, the upper half does not give it away, edges are smooth."""

from dataclasses import replace

import numpy as np
import pytest

from qsens.zoo.corpus.face import Expression, draw_face
from qsens.zoo.corpus.identity import BeardStyle, Identity
from qsens.zoo.corpus.lips import WIDEST_GAP, half_width_of
from qsens.zoo.corpus.phones import PHONES, Mouth
from qsens.zoo.corpus.scene import Light, Scene
from qsens.zoo.corpus.surface import Pose, surface_of

GREEN = np.array([0.0, 1.0, 0.0], np.float32)


def face_of(seed, size=96):
    random = np.random.default_rng([5, seed])
    return Identity.draw(random, 0.3), Scene.draw(random, size)


def with_green_lips(seed, size=96):
    """Lips that are all green under a flat light: a ruler for what is between them."""
    identity, scene = face_of(seed, size)
    lips = replace(identity.lips, colour=GREEN, gloss=0.0)
    light = Light(np.array([0, 0, 1], np.float32), np.ones(3, np.float32), 0.0, np.ones(3, np.float32))
    return replace(identity, lips=lips, beard=BeardStyle.NONE), replace(scene, light=light)


def draw(face, mouth, pose=None, expression=None):
    return draw_face(*face, pose or Pose(), mouth, expression or Expression())


def is_lip(picture):
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return (green > 130) & (green > 2 * red) & (green > 2 * blue)


def gap_px(picture):
    """Rows between the lips in the middle column."""
    rows = np.flatnonzero(is_lip(picture)[:, picture.shape[1] // 2])
    return int(np.diff(rows).max()) - 1


@pytest.mark.parametrize(("seed", "opening"), [(0, 0.3), (1, 0.6), (2, 1.0)])
def test_the_gap_between_the_lips_is_the_opening(seed, opening):
    size = 384
    picture = draw(with_green_lips(seed, size), Mouth(opening), Pose(scale=1.1))
    assert gap_px(picture) == pytest.approx(WIDEST_GAP * opening * 1.1 * size / 2, abs=5)


@pytest.mark.parametrize("seed", range(2))
def test_closed_lips_leave_no_gap(seed):
    assert gap_px(draw(with_green_lips(seed, 384), Mouth(0.0))) <= 8  # the line where they meet


@pytest.mark.parametrize("mouth", [Mouth(0.3, 0.0), Mouth(0.3, 1.0), Mouth(0.3, 0.3, 1.0)])
def test_the_mouth_is_as_wide_as_its_shape_says(mouth):
    size = 384
    face = with_green_lips(1, size)
    columns = np.flatnonzero(is_lip(draw(face, mouth)).any(axis=0))
    # Corners lie back on the cheeks and end in soft points.
    expected = 2 * half_width_of(face[0].lips, mouth) * size / 2
    assert expected * 0.85 < columns[-1] - columns[0] <= expected + 2


def test_spread_and_rounded_mouths_differ_in_width():
    lips = face_of(0)[0].lips
    spread, rest, rounded = (half_width_of(lips, PHONES[name].mouth) for name in ("i", "_", "u"))
    assert spread > 1.15 * rest > 1.5 * rounded


@pytest.mark.parametrize("seed", range(2))
def test_the_upper_half_does_not_give_the_mouth_away(seed):
    random = np.random.default_rng(seed)
    shift, angle = random.uniform(-0.06, 0.06, 2), random.uniform(-0.13, 0.13, 3)
    pose = Pose(*shift, angle[0], 1.12, 3 * angle[1], angle[2])
    face = face_of(seed)
    closed = draw(face, PHONES["m"].mouth, pose)
    for name in ("a", "u", "i", "f"):
        other = draw(face, PHONES[name].mouth, pose)
        assert np.array_equal(other[:48], closed[:48])
        assert np.abs(other[48:].astype(int) - closed[48:]).max() > 40


def test_a_blink_changes_the_upper_half_alone():
    face = face_of(2)
    opened = draw(face, PHONES["a"].mouth)
    shut = draw(face, PHONES["a"].mouth, expression=Expression(blink=1.0))
    assert np.array_equal(opened[48:], shut[48:])
    assert np.abs(opened[:48].astype(int) - shut[:48]).max() > 60


def test_the_jaw_goes_down_with_the_opening_and_the_brow_stays():
    rest, opened = surface_of(96, Pose(), 0.0), surface_of(96, Pose(), 1.0)
    drop = opened.y - opened.still_y
    assert drop[:48].max() == 0
    assert drop[-1].min() == pytest.approx(opened.drop, abs=0.002)
    assert np.array_equal(rest.y, rest.still_y)
    # Skin below the mouth moves down in order: nothing folds over.
    assert (np.diff(opened.still_y, axis=0) > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_picture_is_the_same_picture(seed):
    """Averaged down, twice the size gives nearly the same frame: edges are antialiased."""
    identity, scene = face_of(seed)
    plain = np.full((3, 192, 192), 0.5, np.float32)
    large = draw((identity, replace(scene, background=plain)), PHONES["e"].mouth, Pose(yaw=0.2, roll=0.05))
    small = draw(
        (identity, replace(scene, background=plain[:, :96, :96])), PHONES["e"].mouth, Pose(yaw=0.2, roll=0.05)
    )
    averaged = large.astype(float).reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
    assert 10 * np.log10(255**2 / np.mean((averaged - small) ** 2)) > 30


def test_the_head_moves_with_its_pose():
    face = face_of(3)
    straight = draw(face, PHONES["a"].mouth)
    for pose in (
        Pose(right=0.1),
        Pose(down=0.1),
        Pose(roll=0.1),
        Pose(scale=1.1),
        Pose(yaw=0.2),
        Pose(pitch=0.1),
    ):
        assert np.abs(draw(face, PHONES["a"].mouth, pose).astype(int) - straight).mean() > 0.5, pose


def test_a_shift_by_whole_pixels_shifts_the_face():
    identity, scene = face_of(4)
    scene = replace(scene, background=np.full((3, 96, 96), 0.5, np.float32))
    straight = draw((identity, scene), PHONES["a"].mouth)
    moved = draw((identity, scene), PHONES["a"].mouth, Pose(right=2 * 3 / 96))
    assert np.abs(moved[:, 9:-6].astype(int) - straight[:, 6:-9]).max() <= 1


def test_faces_differ_from_each_other():
    pictures = np.stack([draw(face_of(seed), PHONES["_"].mouth) for seed in range(12)]).astype(int)
    distances = [
        np.abs(first - second).mean() for at, first in enumerate(pictures) for second in pictures[at + 1 :]
    ]
    assert min(distances) > 15


def test_the_same_draw_gives_the_same_face():
    assert np.array_equal(draw(face_of(1), Mouth(0.5)), draw(face_of(1), Mouth(0.5)))


def test_light_from_the_left_lights_the_left():
    identity, scene = face_of(0)
    for x in (-1.0, 1.0):
        direction = np.array([x, 0, 1], np.float32) / np.sqrt(np.float32(2))
        picture = draw(
            (identity, replace(scene, light=replace(scene.light, direction=direction))), Mouth(0.0)
        )
        left, right = picture[50:60, 26:36].mean(), picture[50:60, 60:70].mean()
        assert (left - right) * x < -8
