import numpy as np
import pytest

from qsens.core.errors import ScoreError, SpecError
from qsens.core.interfaces import OutputRule
from qsens.scoring.pictures import picture_output, picture_warning, pictures_from_values


def values(*levels: float) -> np.ndarray:
    """One image whose three channels hold the levels."""
    return np.array(levels, np.float32).reshape(1, 3, 1, 1)


def test_unit_range_becomes_bytes_rounded_half_to_even_once():
    images = pictures_from_values(values(0.0, 0.5, 1.0), OutputRule())
    assert images.dtype == np.uint8
    assert images.ravel().tolist() == [0, 128, 255]  # 127.5 rounds to the even 128


@pytest.mark.parametrize(
    ("value_range", "levels", "expected"),
    [
        ((-1.0, 1.0), (-1.0, 0.0, 1.0), [0, 128, 255]),
        ((0.0, 255.0), (0.0, 17.4, 255.0), [0, 17, 255]),
        ((0.0, 1.0), (-0.3, 1.7, 0.2), [0, 255, 51]),
    ],
)
def test_value_range_is_mapped_and_clipped(value_range, levels, expected):
    assert (
        pictures_from_values(values(*levels), OutputRule(value_range=value_range)).ravel().tolist()
        == expected
    )


def test_bgr_output_is_turned_to_rgb():
    images = pictures_from_values(values(0.0, 0.2, 1.0), OutputRule(colour_order="bgr"))
    assert images.ravel().tolist() == [255, 51, 0]


def test_gray_output_fills_three_channels():
    images = pictures_from_values(np.full((2, 1, 4, 4), 0.2, np.float32), OutputRule())
    assert images.shape == (2, 3, 4, 4)
    assert (images == 51).all()


def test_nan_and_infinity_are_counted_by_image():
    broken = np.zeros((4, 3, 2, 2), np.float32)
    broken[1, 0, 0, 0] = np.nan
    broken[3, 2, 1, 1] = np.inf
    with pytest.raises(ScoreError, match="2 of 4 images"):
        pictures_from_values(broken, OutputRule())


def test_the_one_output_that_looks_like_an_image_is_the_picture():
    outputs = {"features": np.zeros((1, 64, 4, 4)), "rgb": np.zeros((1, 3, 8, 8)), "score": np.zeros((1, 1))}
    assert picture_output(outputs, OutputRule()) == "rgb"


def test_several_candidates_need_a_name():
    outputs = {"mask": np.zeros((1, 1, 8, 8)), "rgb": np.zeros((1, 3, 8, 8))}
    with pytest.raises(SpecError, match=r"mask \(1, 1, 8, 8\), rgb \(1, 3, 8, 8\)"):
        picture_output(outputs, OutputRule())
    assert picture_output(outputs, OutputRule(name="rgb")) == "rgb"


def test_named_output_that_is_not_there_lists_those_that_are():
    with pytest.raises(SpecError, match="'picture'") as caught:
        picture_output({"rgb": np.zeros((1, 3, 8, 8))}, OutputRule(name="picture"))
    assert "rgb" in caught.value.hint


def test_pictures_of_a_wrong_range_are_warned_about():
    unit = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    assert picture_warning(pictures_from_values(unit, OutputRule())) is None
    as_bytes = pictures_from_values(unit, OutputRule(value_range=(0.0, 255.0)))
    assert "2 of 256 levels" in str(picture_warning(as_bytes))
    tanh = pictures_from_values(unit * 2 - 1, OutputRule())
    assert "black or white" in str(picture_warning(tanh))
