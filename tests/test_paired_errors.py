"""Paired errors within a run and between runs, against the plain formula."""

import math

import numpy as np
import pytest

from qsens.evidence import save_evidence
from qsens.paired_errors import Term, contrast_errors, paired_errors
from qsens.precision import Precision, PrecisionMap
from qsens.trial import Outcome, Score, Trial

N = 400


def plain_error(values):
    return float(values.std(ddof=1) / math.sqrt(N))


def keep(folder, number, values, factor=1.0):
    folder.mkdir(exist_ok=True)
    save_evidence(folder, number, None, {"fid": values})
    score = Score("fid", 1.0, N, "x", True, factor * plain_error(values))
    shape = PrecisionMap(Precision.INT8)
    return Trial(number, shape, shape, Outcome.SCORED, (score,))


@pytest.fixture
def draws():
    return np.random.default_rng(0).normal(size=(4, N))


def test_two_folders_are_paired_like_two_trials_of_one(tmp_path, draws):
    shared, own, other, _ = draws
    first, second = shared + 0.1 * own, shared + 0.1 * other
    one, same = keep(tmp_path / "a", 1, first), keep(tmp_path / "a", 2, second)
    far = keep(tmp_path / "b", 1, second)
    terms = (Term(1, tmp_path / "a", one), Term(-1, tmp_path / "b", far))
    between = contrast_errors()("fid", terms)
    assert between == pytest.approx(plain_error(first - second))
    assert between == pytest.approx(paired_errors(tmp_path / "a")("fid", one, same))
    assert between < 0.2 * math.hypot(plain_error(first), plain_error(second))


def test_a_difference_of_losses_takes_all_four(tmp_path, draws):
    terms = [
        Term(sign, tmp_path / name, keep(tmp_path / name, number, values))
        for (sign, name, number), values in zip(
            ((1, "b", 2), (-1, "b", 0), (-1, "a", 2), (1, "a", 0)), draws, strict=True
        )
    ]
    expected = plain_error(draws[0] - draws[1] - draws[2] + draws[3])
    assert contrast_errors()("fid", terms) == pytest.approx(expected)


def test_the_largest_factor_of_the_terms_is_applied(tmp_path, draws):
    one, other = keep(tmp_path / "a", 1, draws[0], 1.2), keep(tmp_path / "b", 1, draws[1], 1.7)
    terms = (Term(1, tmp_path / "a", one), Term(-1, tmp_path / "b", other))
    assert contrast_errors()("fid", terms) == pytest.approx(1.7 * plain_error(draws[0] - draws[1]))


def test_nothing_is_known_without_evidence_or_with_another_number_of_images(tmp_path, draws):
    one, fewer = keep(tmp_path / "a", 1, draws[0]), keep(tmp_path / "b", 1, draws[1][: N // 2])
    terms = (Term(1, tmp_path / "a", one), Term(-1, tmp_path / "b", fewer))
    assert contrast_errors()("fid", terms) is None
    assert contrast_errors()("fid", (terms[0], Term(-1, tmp_path / "c", one))) is None
    assert contrast_errors()("psnr", (terms[0], terms[0])) is None
