"""Weight codes whose rounding errors compensate each other, by the second-order error of a layer's output."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
LARGEST_CODE = 127
# Added to the diagonal, as a share of its mean; each try that cannot be inverted damps ten times more.
DAMPING = (0.01, 0.1, 1.0)
# Columns whose errors are spread one by one before the rest of the row hears of them.
_BLOCK = 64
# A weight's distance from 127 steps of its scale that is float32's rounding.
_NEARLY = 1e-3


def compensated_codes(weight: Array, scales: Array, hessian: Array) -> Array | None:
    """Codes -127 to 127, float64 (rows, columns), with a small error of `weight @ inputs`.

    The error of a row is e H e^T, e = weight - code * scale. Columns are rounded in order of falling
    diagonal of H, and each column's error is spread over the columns that follow. The weight that a scale
    was made of keeps its code, 127 or -127, so that the codes themselves would get that scale.

    `weight` float64 (rows, columns), `scales` float64 (rows,) or (1,), `hessian` float64 (columns, columns):
    the second moment of the inputs. `None` where it cannot be inverted even with the largest damping.

    Source: Frantar, Ashkboos, Hoefler, Alistarh 2022, "GPTQ", algorithm 1, after "Optimal Brain Compression"
    (Frantar, Singh, Alistarh 2022); the order by the diagonal is that of GPTQ's authors' own program.
    """
    order = np.argsort(-np.diag(hessian), kind="stable")
    factor = _inverse_factor(hessian[np.ix_(order, order)])
    if factor is None:
        return None
    codes = np.empty_like(weight)
    codes[:, order] = _rounded_in_order(weight[:, order], scales.reshape(-1, 1), factor)
    return codes


def rounded_codes(weight: Array, scales: Array) -> Array:
    """The nearest codes, float64 (rows, columns)."""
    return np.clip(np.rint(weight / scales.reshape(-1, 1)), -LARGEST_CODE, LARGEST_CODE)


def output_error(weight: Array, codes: Array, scales: Array, hessian: Array) -> float:
    """Mean squared error of all rows' outputs over inputs with that second moment."""
    error = weight - codes * scales.reshape(-1, 1)
    return float(np.einsum("ij,ij->", error @ hessian, error))


def _inverse_factor(hessian: Array) -> Array | None:
    """The upper triangular U with U^T U = (H + damping)^-1."""
    diagonal = np.diag(hessian).copy()
    mean = float(diagonal.mean())
    if not mean > 0:
        return None
    for share in DAMPING:
        damped = hessian.copy()
        damped[np.diag_indices_from(damped)] += share * mean
        try:
            # The factor of H with its order reversed is an upper triangular one of H itself.
            upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
            inverse = np.linalg.inv(upper)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(inverse).all():
            return np.triu(inverse)
    return None


def _rounded_in_order(weight: Array, scales: Array, factor: Array) -> Array:
    wished = weight.copy()
    is_fixed = np.abs(weight) >= scales * (LARGEST_CODE - _NEARLY)
    fixed = np.sign(weight) * LARGEST_CODE
    codes = np.empty_like(weight)
    for start in range(0, weight.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weight.shape[1])
        errors = np.zeros((len(weight), stop - start))
        for column in range(start, stop):
            nearest = np.clip(np.rint(wished[:, [column]] / scales), -LARGEST_CODE, LARGEST_CODE)
            code = np.where(is_fixed[:, [column]], fixed[:, [column]], nearest)
            codes[:, [column]] = code
            error = (wished[:, [column]] - code * scales) / factor[column, column]
            wished[:, column:stop] -= error * factor[column, column:stop]
            errors[:, [column - start]] = error
        wished[:, stop:] -= errors @ factor[start:stop, stop:]
    return codes
