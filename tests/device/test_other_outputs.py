"""Outputs that are no picture are compared with FP32's by a relative error."""

from types import SimpleNamespace

import numpy as np
import pytest

from qsens.device.bundle_files import Bounds, BundleInput
from qsens.device.goldens import Goldens, compare_with_goldens, relative_error
from qsens.device.loops import Once


@pytest.mark.parametrize(
    ("values", "reference", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([0.0, 0.0], [3.0, 4.0], 1.0),
        ([3.3, 4.4], [3.0, 4.0], 0.1),
        ([1.0, 1.0], [0.0, 0.0], 1.0),
        ([], [], 0.0),
        ([True, False], [True, True], np.sqrt(0.5)),
        (np.array([250, 5], np.uint8), np.array([255, 0], np.uint8), 5 * np.sqrt(2) / 255),
    ],
)
def test_relative_error_worked_out_by_hand(values, reference, error):
    assert relative_error(np.array(values), np.array(reference)) == pytest.approx(error)


def compared(matte, exact_matte):
    """What a check finds of an engine whose picture is right and whose matte is this one."""
    inputs = {"image": np.zeros((2, 1, 2, 2), np.float32)}
    picture, ones = np.full((2, 1, 2, 2), 0.5, np.float32), np.ones((2, 1, 4, 4), np.float32)
    bundle = SimpleNamespace(
        sample_inputs=(BundleInput("image", "float32", (1, 2, 2), True),),
        opened_loop=lambda _: Once(),
        batch=2,
        picture="picture",
        value_range=(0.0, 1.0),
        bounds=Bounds(30.0, 30.0),
    )
    goldens = Goldens(inputs, {"picture": picture, "matte": ones}, {"picture": picture, "matte": exact_matte})
    return compare_with_goldens(lambda _: {"picture": picture, "matte": matte}, bundle, goldens)


def test_an_engine_may_be_a_little_further_from_fp32_than_exact_arithmetic():
    ones = np.ones((2, 1, 4, 4), np.float32)
    found = compared(ones * np.float32(1.05), ones * np.float32(1.04))
    assert found.problems == ()
    (matte,) = found.others
    assert matte.output == "matte"
    assert matte.relative_error == pytest.approx(0.05, abs=1e-6)
    assert matte.limit == pytest.approx(1.25 * 0.04 + 0.01, abs=1e-6)
    assert found.to_json()["others"][0]["output"] == "matte"


def test_an_output_that_is_broken_beside_a_right_picture_fails_the_check():
    ones = np.ones((2, 1, 4, 4), np.float32)
    found = compared(ones * np.float32(0.5), ones)
    assert found.fp32_psnr_db == 100.0
    (problem,) = found.problems
    assert "output 'matte' differs from FP32's by a relative error of 0.5000, at most 0.0100" in problem
