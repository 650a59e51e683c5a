"""Equal pictures: infinite where people read it, a finite number in records."""

import json
import math

import pytest

from qsens.core.metric_names import PSNR_CAP_DB, shown_value
from qsens.core.trial import Score
from qsens.report.page_tables import score_text


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [("psnr", PSNR_CAP_DB, math.inf), ("psnr", 99.9, 99.9), ("fid[lite0]", 100.0, 100.0), ("ssim", 1.0, 1.0)],
)
def test_only_the_psnr_of_equal_pictures_is_infinite(metric, value, shown):
    assert shown_value(metric, value) == shown


def test_the_page_says_infinite_and_the_record_stays_a_number():
    score = Score("psnr", PSNR_CAP_DB, 8, "fp32", lower_is_better=False)
    assert score_text(score) == "∞"
    assert json.loads(json.dumps(score.value, allow_nan=False)) == 100.0
