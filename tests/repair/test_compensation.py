"""Compensated weight codes: never off the grid, and nearer in the output than rounding."""

import numpy as np
import pytest

from qsens.repair.compensation import compensated_codes, output_error, rounded_codes


def problem(rows: int, columns: int, seed: int, *, shared: bool = True) -> tuple[np.ndarray, ...]:
    """Weights, scales and the second moment of inputs that depend on each other."""
    draw = np.random.default_rng(seed)
    weight = draw.standard_normal((rows, columns))
    mixed = draw.standard_normal((4 * columns, columns // 2)) @ draw.standard_normal((columns // 2, columns))
    inputs = mixed + 0.1 * draw.standard_normal(mixed.shape)
    peaks = np.abs(weight).max(axis=None if shared else 1, keepdims=True)
    return weight, peaks.reshape(-1) / 127, inputs.T @ inputs / len(inputs)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("rows", "columns"), [(5, 12), (8, 150)])
def test_the_output_is_nearer_than_with_nearest_codes(rows, columns, shared):
    weight, scales, hessian = problem(rows, columns, seed=columns, shared=shared)
    codes = compensated_codes(weight, scales, hessian)
    nearest = rounded_codes(weight, scales)
    assert output_error(weight, codes, scales, hessian) < 0.5 * output_error(weight, nearest, scales, hessian)


def test_of_two_weights_the_best_pair_is_found():
    weight, scales = np.array([[1.27, 0.254, 0.4]]), np.array([0.01])
    inputs = np.random.default_rng(0).standard_normal((500, 3)) @ np.array([[0, 0, 0], [0, 3, 1], [0, 0, 1]])
    hessian = inputs.T @ inputs / len(inputs) + 1e-6 * np.eye(3)
    choices = [(127, one, other) for one in range(15, 36) for other in range(30, 51)]
    best = min(choices, key=lambda codes: output_error(weight, np.array([codes]), scales, hessian))
    np.testing.assert_array_equal(compensated_codes(weight, scales, hessian), [best])


@pytest.mark.parametrize("shared", [True, False])
def test_the_scale_of_the_codes_is_the_scale_they_were_made_with(shared):
    weight, scales, hessian = problem(6, 40, seed=3, shared=shared)
    codes = compensated_codes(weight, scales, hessian)
    assert np.array_equal(codes, np.rint(codes))
    assert np.abs(codes).max() == 127
    if not shared:
        np.testing.assert_array_equal(np.abs(codes).max(axis=1), 127)


def test_inputs_that_are_all_zero_cannot_be_compensated():
    assert compensated_codes(np.ones((2, 3)), np.ones(1) / 127, np.zeros((3, 3))) is None


def test_columns_that_never_see_an_input_are_rounded():
    weight, scales, hessian = problem(4, 10, seed=5)
    hessian[7:], hessian[:, 7:] = 0, 0
    codes = compensated_codes(weight, scales, hessian)
    np.testing.assert_array_equal(codes[:, 7:], rounded_codes(weight, scales)[:, 7:])


def test_a_second_moment_of_low_rank_is_damped_and_one_that_is_no_number_is_given_up():
    weight = np.random.default_rng(0).normal(size=(3, 6))
    scales = np.abs(weight).max(axis=1) / 127
    assert compensated_codes(weight, scales, np.ones((6, 6))) is not None
    assert compensated_codes(weight, scales, np.full((6, 6), np.nan)) is None
