"""The sentence that says on what grounds a map was chosen, and how many images would settle it."""

import pytest

from qsens.report.run_content import verdict_text


def document(*, excess=-0.49, is_within=False, error=0.5):
    return {
        "settings": {},
        "budget": {
            "metric": "fid",
            "text": "2",
            "allowance": 2.0,
            "excess": excess,
            "is_interval_within": is_within,
            "guard_metric": None,
        },
        "scores": {
            "chosen": [
                {"metric": "psnr", "images": 400, "difference_standard_error": 9.0, "standard_error": 9.0},
                {"metric": "fid", "images": 400, "difference_standard_error": error, "standard_error": None},
            ]
        },
    }


def test_an_interval_beyond_the_budget_says_how_many_images_would_do():
    text = verdict_text(document())
    # half the interval is 0.98 at 400 images, and 0.49 is left: four times as many
    assert text.endswith("score more images, about 1,600 instead of 400 (--evaluation-samples).")


@pytest.mark.parametrize("values", [{"excess": 0.0}, {"excess": None}, {"error": None}])
def test_no_number_where_it_cannot_be_told(values):
    assert verdict_text(document(**values)).endswith("beyond the budget: score more images.")


def test_a_score_that_touches_the_limit_is_not_told_to_score_a_million_images():
    assert verdict_text(document(excess=-0.001)).endswith("more images would hardly tell.")


def test_an_interval_within_the_budget_needs_no_more():
    assert verdict_text(document(is_within=True)).endswith("lies within the budget too.")
