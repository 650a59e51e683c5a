"""What is said beside a choice: budgets that are a share of a score which few images raise."""

from dataclasses import replace

import pytest

from qsens.core.errors import BudgetError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Study, Yardstick
from qsens.run.choice import Aim, choose_map_of_run
from qsens.run.floors import REAL, Floor, KeptFloors, keep_floors
from qsens.run.paths import RunPaths
from qsens.testing import example_layers, example_trial

LAYERS = example_layers(4)
# FP32 scores 10; the first layer in INT8 costs 0.5 with an interval of 0.2.
MAPS = [
    *(PrecisionMap(precision) for precision in Precision),
    PrecisionMap(Precision.FP16, ((LAYERS[0].name, Precision.INT8),)),
]
STUDY = Study(
    "s", LAYERS, tuple(example_trial(number, requested, LAYERS) for number, requested in enumerate(MAPS))
)


def chosen(tmp_path, budget, floor, study=STUDY):
    """The choice in a run where real images score `floor` against each other."""
    RunPaths(tmp_path).evidence.mkdir()
    floors = {"fid": Floor(REAL, floor, 64, 64)}
    keep_floors(tmp_path, KeptFloors({"fid": "example", "fid-fp32": "example"}, floors))
    for path in (RunPaths(tmp_path).spec_path, RunPaths(tmp_path).journal_path):
        path.touch()
    spec = SweepSpec(budget=budget)
    return choose_map_of_run(tmp_path, study, spec, Aim("fid"), has_just_ended=True)


@pytest.fixture
def fixed_study(monkeypatch):
    monkeypatch.setattr("qsens.run.floors.read_study", lambda _: STUDY)


@pytest.mark.usefixtures("fixed_study")
@pytest.mark.parametrize(
    ("budget", "floor", "is_said"),
    [("8%", 0.0, False), ("8%", 1.0, False), ("8%", 3.0, True), ("8%", 12.0, True), ("0.8", 9.0, False)],
)
def test_a_share_of_a_score_that_few_images_raise_is_said_not_to_hold(tmp_path, budget, floor, is_said):
    selection = chosen(tmp_path, budget, floor)
    assert selection.trial.number == 3, "the choice itself does not change"
    said = [note for note in selection.notes if "cannot be held" in note]
    assert bool(said) is is_said
    if is_said:
        assert f"8% of a fid of 10, of which {floor:g} is what 64 real images score against others" in said[0]
        assert f"it would be {0.08 * max(10 - floor, 0):.2g}, to which the map's loss of 0.5 ± 0.2" in said[0]


@pytest.mark.usefixtures("fixed_study")
def test_a_map_that_is_no_worse_holds_any_share(tmp_path):
    better = tuple(
        replace(score, value=9.0) if score.metric == "fid" else score for score in STUDY.trials[3].scores
    )
    study = replace(STUDY, trials=(*STUDY.trials[:3], replace(STUDY.trials[3], scores=better)))
    assert not any("cannot be held" in note for note in chosen(tmp_path, "8%", 9.5, study).notes)


@pytest.mark.parametrize("budget", ["jpeg:95", "0"])
def test_a_score_that_hears_what_nobody_sees_is_said_to_also_where_no_map_is_good_enough(tmp_path, budget):
    fp32 = STUDY.trials[0]
    noise = Yardstick("noise:1", STUDY.trials[2].scores)
    fp32 = replace(fp32, yardsticks=(*fp32.yardsticks, noise))
    is_met = budget == "jpeg:95"
    others = STUDY.trials[1:] if is_met else STUDY.trials[2:]
    study = replace(STUDY, trials=(fp32, *others))
    if is_met:
        told = " ".join(chosen(tmp_path, budget, 0.0, study).notes)
    else:
        with pytest.raises(BudgetError) as refused:
            chosen(tmp_path, budget, 0.0, study)
        told = refused.value.hint

    assert "Noise of 1 level, which nobody sees, uses up the budget (fid 13.5, allowed 10" in told
