"""Floors: distances between draws of one source at the size of the scores."""

import numpy as np
import pytest

from qsens.run.floors import floor_of_features
from qsens.scoring.frechet import Reference, frechet_distance

SPREAD = np.sqrt(40.0 * np.arange(1, 129) ** -1.3)


def draws(seed: int, images: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((images, len(SPREAD))) * SPREAD


def fresh_distance(images: int) -> float:
    pairs = [(draws(100 + seed, images), draws(200 + seed, images)) for seed in range(8)]
    return float(
        np.mean([frechet_distance(Reference.from_features(one, "x"), other) for one, other in pairs])
    )


@pytest.mark.parametrize("images", [40, 300])
def test_the_floor_is_the_distance_of_two_fresh_draws(images):
    """Enough images for two disjoint draws of the wanted size, below and above the dimension."""
    value, measured = floor_of_features(draws(0, 2 * images), images)
    assert measured == images
    assert value == pytest.approx(fresh_distance(images), rel=0.05)


@pytest.mark.parametrize("images", [120, 600])
def test_a_floor_from_halves_is_carried_on_to_the_wanted_size(images):
    value, measured = floor_of_features(draws(0, images), images)
    assert measured == images // 2
    truth = fresh_distance(images)
    assert value == pytest.approx(truth, rel=0.2)
    assert fresh_distance(images // 2) > 1.3 * truth


def test_equal_images_have_a_floor_of_zero():
    assert floor_of_features(np.ones((32, 3)), 32) == (0.0, 16)


def test_too_few_images_have_no_floor():
    assert floor_of_features(draws(0, 15), 15) is None
    assert floor_of_features(draws(0, 16), 16) is not None
