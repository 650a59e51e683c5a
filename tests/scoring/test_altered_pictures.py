import io

import numpy as np
import pytest
from PIL import Image

from qsens.core.alterations import KINDS, Alteration
from qsens.scoring.alterations import altered


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(3)
    smooth = random.uniform(40, 215, (5, 3, 6, 6)).repeat(4, axis=2).repeat(4, axis=3)
    return np.rint(smooth + random.normal(0, 3, smooth.shape)).astype(np.uint8)


def change(pictures, text, **more):
    return altered(pictures, Alteration.parse(text), **more).astype(np.float64) - pictures


@pytest.mark.parametrize("text", ["jpeg:75", "noise:2", "blur:0.5", "brightness:0.9"])
def test_altered_pictures_are_pictures_of_the_same_size_and_others(pictures, text):
    found = altered(pictures, Alteration.parse(text))

    assert (found.shape, found.dtype) == (pictures.shape, np.uint8)
    assert np.any(found != pictures)


def test_every_kind_is_done():
    pictures = np.full((1, 3, 16, 16), 90, np.uint8)

    assert all(altered(pictures, Alteration(kind, 1)).shape == pictures.shape for kind in KINDS)


def test_noise_has_the_deviation_that_it_says(pictures):
    assert change(pictures, "noise:4").std() == pytest.approx(4.0, rel=0.05)
    assert change(pictures, "noise:4").mean() == pytest.approx(0.0, abs=0.2)


def test_noise_is_the_same_whatever_the_batches_and_another_for_every_picture_and_seed(pictures):
    whole = change(pictures, "noise:1", seed=7)
    parts = [change(pictures[:2], "noise:1", seed=7), change(pictures[2:], "noise:1", start=2, seed=7)]

    assert np.array_equal(whole, np.concatenate(parts))
    assert np.any(whole[0] != whole[1])
    assert np.any(whole != change(pictures, "noise:1", seed=8))


def test_brightness_multiplies():
    pictures = np.full((1, 3, 4, 4), 200, np.uint8)

    assert np.all(altered(pictures, Alteration("brightness", 0.99)) == 198)
    assert np.all(altered(pictures, Alteration("brightness", 1.5)) == 255)


def test_blur_keeps_flat_pictures_and_the_mean_and_spreads_a_point_as_a_gaussian():
    point = np.zeros((1, 3, 21, 21), np.uint8)
    point[..., 10, 10] = 255
    found = altered(point, Alteration("blur", 1))[0, 0].astype(float)

    assert found[10, 10] == pytest.approx(
        255 / (2 * np.pi), abs=1
    )  # the density of a normal in two dimensions
    assert found[10, 11] / found[10, 10] == pytest.approx(np.exp(-0.5), abs=0.02)
    assert np.all(altered(np.full((1, 3, 8, 8), 77, np.uint8), Alteration("blur", 3)) == 77)


@pytest.mark.parametrize(("quality", "subsampling"), [(98, 0), (95, 0), (90, 2), (50, 2)])
def test_jpeg_is_that_of_pillow_with_colours_at_full_resolution_from_95_up(pictures, quality, subsampling):
    file = io.BytesIO()
    Image.fromarray(pictures[0].transpose(1, 2, 0)).save(
        file, "JPEG", quality=quality, subsampling=subsampling
    )

    assert np.array_equal(
        altered(pictures[:1], Alteration("jpeg", quality))[0],
        np.asarray(Image.open(file)).transpose(2, 0, 1),
    )


def test_a_lower_quality_changes_more(pictures):
    changes = [np.abs(change(pictures, f"jpeg:{quality}")).mean() for quality in (98, 90, 75, 50)]

    assert changes == sorted(changes)
