"""Facts of metrics by the names of their scores; equal pictures."""

import json
import math

import pytest

from qsens.core.interfaces import INTERVAL_METHOD, MetricFacts, Role
from qsens.core.metric_names import (
    BUILT_IN,
    PSNR_CAP_DB,
    axis_title,
    facts_of,
    first_of_role,
    interval_method,
    short_name,
    shown_value,
)
from qsens.core.plugins import load_plugin, names
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


FACTS_OF_ITS_OWN = """
from qsens.core.interfaces import Metric, MetricFacts, Role

class Sharpness(Metric):
    name = "acme-sharpness"
    facts = MetricFacts("Sharpness", "{0} beside real images", "resampled", Role.REAL_DISTANCE)

class Plain:
    name = "acme-plain"

def made_by_a_function():
    return Plain()
"""


def test_a_metric_of_a_plugin_says_its_own_facts(install):
    install("acme", "metrics", {"acme-sharpness": "acme_sharp:Sharpness"}, {"acme_sharp": FACTS_OF_ITS_OWN})
    assert short_name("acme-sharpness[lite0]") == "Sharpness[lite0]"
    assert axis_title("acme-sharpness[lite0]") == "Sharpness[lite0] beside real images"
    assert interval_method("acme-sharpness") == "resampled"
    assert first_of_role(("psnr", "acme-sharpness"), *Role) == "acme-sharpness"


@pytest.mark.parametrize("target", ["Plain", "made_by_a_function"])
def test_a_metric_that_does_not_inherit_goes_by_its_name(install, target):
    install("acme", "metrics", {"acme-plain": f"acme_plain:{target}"}, {"acme_plain": FACTS_OF_ITS_OWN})
    assert facts_of("acme-plain") == MetricFacts()


def test_a_score_whose_plugin_is_not_installed_goes_by_its_name():
    assert (short_name("gone[x]"), axis_title("gone[x]")) == ("gone[x]", "gone[x]")
    assert interval_method("gone") == INTERVAL_METHOD


def test_the_metrics_that_come_with_qsens_say_what_the_table_says():
    installed = [name for name in names("metrics") if not name.startswith("acme")]
    assert {name: load_plugin("metrics", name).facts for name in installed} == {
        name: BUILT_IN[name] for name in installed
    }


@pytest.mark.parametrize(
    ("scored", "wanted"),
    [
        (("psnr", "fid-fp32[lite0]", "fid[lite0]"), "fid[lite0]"),
        (("ssim", "psnr", "fid-fp32"), "fid-fp32"),
        (("ssim", "psnr"), "psnr"),
        (("kid-fp32", "ssim", "flicker"), None),
    ],
)
def test_a_budget_is_on_the_distance_to_real_images_then_to_fp32_then_on_psnr(scored, wanted):
    assert first_of_role(scored, *Role) == wanted
