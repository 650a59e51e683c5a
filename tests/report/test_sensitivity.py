import math
from dataclasses import replace

import numpy as np
import pytest
from report_folders import influences_of
from report_studies import (
    METRICS,
    anchors,
    boundary_study,
    damage_of,
    isolating_study,
    map_of,
    on_screen,
    screened,
    screening_study,
    student_layers,
    style_layers,
    trial,
)

from qsens.core.maps import Direction, IsolationKind
from qsens.core.trial import Study
from qsens.report.figures.sensitivity import STEP_ORIGINS, sensitivity_of
from qsens.run.evidence import Evidence, save_evidence
from qsens.run.paired_errors import paired_errors

LAYERS = student_layers()
FID, FID_FP32, PSNR = METRICS


def test_only_int8_effects_are_differences_to_fp32_with_their_paired_error():
    study = isolating_study(LAYERS)
    found = sensitivity_of(study, FID_FP32)
    effects = found.of(IsolationKind.ONLY_INT8)
    assert [effect.name for effect in effects] == [layer.name for layer in LAYERS]
    assert not found.is_from_steps
    for effect in effects:
        truth = damage_of(LAYERS, map_of(LAYERS, [effect.start]))
        assert effect.value == pytest.approx(0.002 + 0.95 * truth)
        assert effect.standard_error == pytest.approx(0.02 + 0.02 * truth)
        assert effect.is_paired


def test_all_but_effects_are_what_freeing_one_layer_gains_over_all_int8():
    study = isolating_study(LAYERS)
    effects = sensitivity_of(study, FID_FP32).of(IsolationKind.ALL_BUT_INT8)
    for effect in effects:
        gain = damage_of(LAYERS, map_of(LAYERS, [effect.start]))
        assert effect.value == pytest.approx(-0.95 * gain)
        assert not effect.is_paired
    all_int8, freed = study.trials[2], study.trials[effects[0].trial]
    errors = [entry.score(FID_FP32).standard_error for entry in (all_int8, freed)]
    assert effects[0].standard_error == pytest.approx(math.hypot(*errors))


def test_blocks_are_units_too():
    layers = style_layers()
    inside = [trial(3, layers, map_of(layers, [5, 6])), trial(4, layers, map_of(layers, [7, 8]))]
    found = sensitivity_of(Study("s", layers, (*anchors(layers), *inside)), FID)
    assert [(effect.unit, effect.name) for effect in found.effects] == [
        ("block", "residual_2"),
        ("block", "residual_3"),
    ]


def test_a_boundary_sweep_gives_the_steps_of_its_curve_and_says_so():
    found = sensitivity_of(boundary_study(LAYERS), FID_FP32)
    assert found.is_from_steps
    assert found.labels == tuple(STEP_ORIGINS.values())
    for direction in Direction:
        effects = found.of(STEP_ORIGINS[direction])
        assert [effect.name for effect in effects] == [layer.name for layer in LAYERS]
        for effect in effects:
            truth = 0.95 * damage_of(LAYERS, map_of(LAYERS, [effect.start]))
            assert effect.value == pytest.approx(truth, abs=1e-9)


def test_a_missing_cut_makes_a_step_over_two_layers():
    study = boundary_study(LAYERS)
    kept = tuple(entry for entry in study.trials if entry.number != 3 + 2 * 9)
    names = [effect.name for effect in sensitivity_of(Study("s", LAYERS, kept), FID).effects]
    assert "FE3 … FE4" in names


def test_nothing_to_say_gives_none():
    assert sensitivity_of(Study("s", LAYERS, tuple(anchors(LAYERS))), FID) is None
    study = isolating_study(LAYERS)
    kinds = sensitivity_of(study, PSNR).labels
    assert kinds == (IsolationKind.ALL_BUT_INT8,)  # FP32's PSNR is infinite: no difference to it


def test_paired_errors_keep_only_what_two_trials_do_not_share(tmp_path):
    study = boundary_study(LAYERS)
    for number in (3, 5):
        save_evidence(tmp_path, number, Evidence(None, influences_of(number)))
    error = paired_errors(tmp_path)(FID, study.trials[3], study.trials[5])
    one, other = (influences_of(number)[FID] for number in (3, 5))
    own = [study.trials[number].score(FID).standard_error for number in (3, 5)]
    plain = [values.std(ddof=1) / math.sqrt(values.size) for values in (one, other)]
    factor = max(own[0] / plain[0], own[1] / plain[1])
    assert error == pytest.approx(factor * np.std(one - other, ddof=1) / math.sqrt(one.size))
    assert error < 0.2 * math.hypot(*own)
    assert paired_errors(tmp_path)(FID, study.trials[3], study.trials[7]) is None
    assert paired_errors(tmp_path)(PSNR, study.trials[3], study.trials[5]) is None


def test_steps_use_paired_errors_where_there_is_evidence(tmp_path):
    study = boundary_study(LAYERS)
    for entry in study.trials:
        save_evidence(tmp_path, entry.number, Evidence(None, influences_of(entry.number)))
    assert all(effect.is_paired for effect in sensitivity_of(study, FID, paired_errors(tmp_path)).effects)
    assert not any(effect.is_paired for effect in sensitivity_of(study, FID).effects)


def test_layers_that_were_only_screened_have_effects_on_the_images_of_the_screen():
    study = screening_study(LAYERS)
    found = sensitivity_of(study, FID)
    assert found.labels == ("only this INT8, on 32 images",)
    assert found.screen_images == 32
    assert not found.is_from_steps
    for place, effect in enumerate(found.effects):
        record = study.trials[3 + place].scores[0]
        # FP32 has 16 on these images, and 5.3 on all
        assert effect.value == pytest.approx(record.difference) == pytest.approx(record.value - 16.0)
        assert effect.standard_error == record.difference_standard_error
        assert (effect.start, effect.trial, effect.images) == (place, 3 + place, 32)
        assert effect.is_paired
        assert effect.is_screen


def test_all_but_one_layer_on_a_screen_is_taken_against_all_int8_there():
    study = screening_study(LAYERS)
    spared = screened(trial(40, LAYERS, map_of(LAYERS, range(len(LAYERS) - 1))))
    study = Study("s", LAYERS, (*study.trials, spared))
    (effect,) = sensitivity_of(study, FID).of("all but this INT8, on 32 images")
    assert effect.value == pytest.approx(spared.scores[0].value - study.trials[2].screen_scores[0].value)
    assert not effect.is_paired


def test_effects_on_all_images_and_on_a_screen_are_never_under_one_label():
    study, place = screening_study(LAYERS), 9
    full = trial(3 + place, LAYERS, map_of(LAYERS, [place]))
    full = replace(full, screen_scores=on_screen(full))
    trials = tuple(full if entry.number == full.number else entry for entry in study.trials)
    found = sensitivity_of(Study("s", LAYERS, trials), FID)
    assert found.labels == ("only this INT8", "only this INT8, on 32 images")
    (effect,) = found.of("only this INT8")
    assert (effect.value, effect.images) == (pytest.approx(full.scores[0].difference), full.scores[0].images)
    # the screen's are complete, so that the layers can be compared
    assert [entry.start for entry in found.of("only this INT8, on 32 images")] == list(range(len(LAYERS)))


def test_screens_add_nothing_where_every_unit_was_scored_on_all_images():
    study = isolating_study(LAYERS)
    trials = tuple(replace(entry, screen_scores=on_screen(entry)) for entry in study.trials)
    again = sensitivity_of(Study("s", LAYERS, trials), FID)
    assert again == sensitivity_of(study, FID)
    assert again.screen_images is None


def test_screens_of_other_images_or_without_fp32_there_say_nothing():
    study = screening_study(LAYERS)
    other = [
        replace(entry, scores=tuple(replace(score, against="another set") for score in entry.scores))
        for entry in study.trials[3:]
    ]
    assert sensitivity_of(Study("s", LAYERS, (*study.trials[:3], *other)), FID) is None
    blind = (replace(study.trials[0], screen_scores=()), *study.trials[1:])
    assert sensitivity_of(Study("s", LAYERS, blind), FID) is None


def test_psnr_on_a_screen_has_no_difference_to_fp32():
    assert sensitivity_of(screening_study(LAYERS), PSNR) is None
