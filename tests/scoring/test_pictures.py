import numpy as np
import pytest

from qsens.core.errors import ScoreError, SpecError
from qsens.core.interfaces import OutputRule
from qsens.scoring.pictures import (
    picture_output,
    picture_warning,
    pictures_from_values,
    range_warnings,
    refuse_one_level,
    settled_output,
)


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


@pytest.mark.parametrize(
    ("low", "high", "value_range", "is_warned"),
    [
        (-1.0, 1.0, None, True),
        (-0.5, 0.9, None, True),
        (-1.0, 1.0, (-1.0, 1.0), False),
        (-0.1, 1.1, None, False),
        (0.0, 1.0, None, False),
        (-4.0, 4.0, None, False),
    ],
)
def test_values_of_a_tanh_that_are_shown_from_0_on_are_warned_about(low, high, value_range, is_warned):
    values = np.linspace(low, high, 768, dtype=np.float32).reshape(1, 3, 16, 16)
    found = range_warnings({"rgb": values}, OutputRule(value_range=value_range))
    assert [("'rgb'" in text, "--output-range -1..1" in text) for text in found] == [(True, True)] * is_warned


@pytest.mark.parametrize(
    ("dtype", "stated", "settled"),
    [
        ("uint8", None, (0.0, 255.0)),
        ("uint8", (0.0, 255.0), (0.0, 255.0)),
        ("uint8", (16.0, 235.0), (16.0, 235.0)),
        ("bool", None, (0.0, 1.0)),
        ("bool", (0.0, 1.0), (0.0, 1.0)),
        ("int32", (0.0, 255.0), (0.0, 255.0)),
        ("float16", None, (0.0, 1.0)),
        ("float32", None, (0.0, 1.0)),
        ("float32", (-1.0, 1.0), (-1.0, 1.0)),
        ("float64", None, (0.0, 1.0)),
    ],
)
def test_the_type_of_a_picture_says_its_range_where_nobody_does(dtype, stated, settled):
    outputs = {"picture": np.arange(192).reshape(1, 3, 8, 8).astype(dtype)}
    rule = settled_output(outputs, OutputRule(value_range=stated, colour_order="bgr"))
    assert rule == OutputRule(value_range=settled, colour_order="bgr")


@pytest.mark.parametrize(
    ("dtype", "stated", "words"),
    [
        ("int8", None, "does not say"),
        ("int32", None, "does not say"),
        ("int64", None, "does not say"),
        ("uint8", (0.0, 1.0), "goes from 0 to 191 for the first sample, which contradicts the range 0..1"),
        ("uint8", (-1.0, 1.0), "contradicts the range -1..1"),
        ("uint8", (-255.0, 255.0), "contradicts the range -255..255"),
        ("int64", (0.0, 1.0), "contradicts the range 0..1"),
        ("bool", (0.0, 255.0), "contradicts the range 0..255"),
    ],
)
def test_a_range_that_the_type_contradicts_or_does_not_say_is_refused(dtype, stated, words):
    outputs = {"picture": (np.arange(192) % (2 if dtype == "bool" else 192)).reshape(1, 3, 8, 8)}
    outputs["picture"] = outputs["picture"].astype(dtype)
    with pytest.raises(SpecError, match=f"'picture' is {dtype}") as caught:
        settled_output(outputs, OutputRule(value_range=stated))
    assert words in caught.value.message
    assert "--output-range" in caught.value.hint


@pytest.mark.parametrize(
    ("dtype", "ends"), [("int8", "-128..127"), ("uint16", "0..65535"), ("int32", "0..255")]
)
def test_the_range_in_the_hint_is_one_that_the_type_holds(dtype, ends):
    with pytest.raises(SpecError) as caught:
        settled_output({"picture": np.arange(192).reshape(1, 3, 8, 8).astype(dtype)}, OutputRule())
    assert caught.value.hint.endswith(f"--output-range={ends}")


def test_a_mask_of_bytes_keeps_its_stated_range():
    mask = (np.arange(64).reshape(1, 1, 8, 8) % 2).astype(np.uint8)
    assert settled_output({"mask": mask}, OutputRule(value_range=(0.0, 1.0))).pixel_range == (0.0, 1.0)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "float64"])
def test_integers_and_other_floats_become_the_same_pictures(dtype):
    levels = values(0, 77, 255).astype(dtype)
    assert pictures_from_values(levels, OutputRule(value_range=(0, 255))).ravel().tolist() == [0, 77, 255]


@pytest.mark.parametrize(
    ("shape", "fault", "hint"),
    [
        ((1, 32, 32, 3), "last axis", "--outputs-as-nchw y"),
        ((1, 32, 32, 1), "last axis", "Transpose"),
        ((1, 32, 32, 4), "last axis", "Transpose"),
        ((1, 4, 32, 32), "4 channels", "split the channels"),
        ((1, 2, 32, 32), "2 channels", "split the channels"),
        ((3, 32, 32), "no batch axis", "Unsqueeze"),
        ((1, 3, 8, 32, 32), "five axes", "one frame at a time"),
        ((1, 10), "list of values", "--output NAME"),
    ],
)
@pytest.mark.parametrize("name", [None, "y"])
def test_another_layout_than_that_of_pictures_is_refused_by_its_name(name, shape, fault, hint):
    with pytest.raises(SpecError, match="output 'y'") as caught:
        picture_output({"y": np.zeros(shape, np.float32)}, OutputRule(name=name))
    assert fault in caught.value.message
    assert hint in caught.value.hint


def test_pictures_of_one_value_are_refused():
    white = np.full((2, 3, 4, 4), 255, np.uint8)
    with pytest.raises(ScoreError, match=r"all 2 pictures of FP32 have the one value 255 \(white\)"):
        refuse_one_level(white)
    white[1, 2, 3, 3] = 254
    refuse_one_level(white)
