from dataclasses import replace

import pytest
from report_studies import METRICS, anchors, boundary_study, failed, student_layers

from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.report.findings import Severity, findings_of, masks_damage

LAYERS = student_layers()
FID, FID_FP32, _ = METRICS
CLEAN = boundary_study(LAYERS)


def titles(study, *arguments):
    return {finding.title: finding for finding in findings_of(study, *arguments)}


def changed(study, number, **changes):
    trials = [replace(entry, **changes) if entry.number == number else entry for entry in study.trials]
    return replace(study, trials=tuple(trials))


def rescored(number, **differences):
    trial = CLEAN.trials[number]
    names = {"real": FID, "fp32": FID_FP32}
    wanted = {names[key]: value for key, value in differences.items()}
    scores = tuple(
        replace(score, difference=wanted[score.metric], value=wanted[score.metric])
        if score.metric in wanted
        else score
        for score in trial.scores
    )
    return replace(trial, scores=scores)


@pytest.mark.parametrize(
    ("real", "fp32", "expected"),
    [(-2.7, 25.7, True), (-2.8, 1.5, False), (-0.01, 25.7, False), (3.0, 25.7, False)],
)
def test_masking_is_a_significant_gain_smaller_than_the_drift(real, fp32, expected):
    assert masks_damage(rescored(5, real=real, fp32=fp32), FID, FID_FP32) is expected


def test_masking_is_serious_when_the_chosen_map_does_it():
    trial = rescored(5, real=-2.7, fp32=25.7)
    study = changed(CLEAN, 5, scores=trial.scores)
    assert titles(study)["Masking"].severity is Severity.NOTE
    chosen = study.trials[5]
    assert titles(study, chosen)["The chosen map's improvement may be masking"].severity is Severity.WARNING


def test_failures_are_grouped_by_message():
    study = CLEAN
    for number in (5, 6, 7):
        bad = failed(number, CLEAN.trials[number].requested, "boom" if number < 7 else "bang")
        study = replace(
            study, trials=tuple(bad if entry.number == number else entry for entry in study.trials)
        )
    found = titles(study)
    assert found["2 maps failed"].text == "boom (trials 5, 6)"
    assert found["One map failed"].text == "bang (trial 7)"


def test_overflow_and_refusals_name_layers():
    widened = CLEAN.trials[7].requested.with_layers(["FD3"], Precision.FP32)
    study = changed(changed(CLEAN, 5, fp16_overflows=(("FD6", 12),)), 7, applied=widened)
    found = titles(study)
    assert "FD6 (12)" in found["FP16 overflow"].text
    assert "FD3" in found["Built differently from the request"].text


def test_unfinished_runs_and_missing_anchors_are_said():
    study = Study("s", LAYERS, tuple(anchors(LAYERS)[:2]))
    found = titles(study, None, 44)
    assert "44 maps" in found["The run is not finished"].text
    assert "No INT8 reference" in found
    assert "The run is not finished" not in titles(study, None, None)


def test_few_images_and_mixed_references_are_said():
    assert "512 images, fewer than 1280" in titles(CLEAN)["Few images"].text
    many = replace(
        CLEAN,
        trials=tuple(
            replace(entry, scores=tuple(replace(score, images=2000) for score in entry.scores))
            for entry in CLEAN.trials
        ),
    )
    assert titles(many) == {}
    other = tuple(replace(score, against="other") for score in CLEAN.trials[5].scores)
    assert "Scores that cannot be compared" in titles(changed(CLEAN, 5, scores=other))


def test_warnings_come_before_notes():
    severities = [finding.severity for finding in findings_of(CLEAN, None, 3)]
    assert severities == [Severity.WARNING, Severity.NOTE]
