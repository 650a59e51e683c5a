"""How many planned maps a run lacks is told for every strategy that can tell, chains included."""

import pytest
from report_studies import student_layers

from qsens.core.maps import anchor_maps
from qsens.core.spec import SweepSpec, write_spec
from qsens.core.trial import Outcome, Study, Trial
from qsens.report.run_content import missing_maps
from qsens.run.loop import plan_maps
from qsens.run.open_plugins import open_strategy
from qsens.run.paths import RunPaths

LAYERS = student_layers()


def run_of(folder, strategy):
    spec = SweepSpec.from_mapping(
        {"strategy": strategy, "budget": "2.0", "strategy_options": {"by": "layer"}}
    )
    folder.mkdir(exist_ok=True)
    write_spec(RunPaths(folder).spec_path, spec)
    RunPaths(folder).journal_path.write_text("")
    return spec


def study_of(maps):
    trials = [Trial(number, one, one, Outcome.SCORED) for number, one in enumerate(maps)]
    return Study("digest", LAYERS, tuple(trials))


@pytest.mark.parametrize("strategy", ["boundary", "ends", "one-at-a-time", "boundary+ends"])
def test_a_sweep_that_was_cut_short_lacks_the_maps_that_it_planned(strategy, tmp_path):
    spec = run_of(tmp_path, strategy)
    planned = list(dict.fromkeys(plan_maps(LAYERS, open_strategy(spec)).maps))
    assert len(planned) > 20
    assert missing_maps(tmp_path, study_of(planned[:10])) == len(planned) - 10
    assert missing_maps(tmp_path, study_of(planned)) == 0


def test_where_scores_decide_the_plan_only_its_beginning_can_be_missing(tmp_path):
    run_of(tmp_path, "guided")
    anchors = list(anchor_maps(LAYERS).values())
    assert missing_maps(tmp_path, study_of(anchors[:1])) == 2
    assert missing_maps(tmp_path, study_of(anchors)) is None


def test_a_strategy_that_is_not_installed_tells_nothing(tmp_path):
    run_of(tmp_path, "somebodys")
    assert missing_maps(tmp_path, study_of([])) is None


def test_code_that_a_run_folder_names_is_not_run_to_look_at_it(tmp_path, monkeypatch):
    (tmp_path / "crafted_code.py").write_text("raise SystemExit('it ran')\n")
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path, "crafted_code:Strategy")
    assert missing_maps(tmp_path, study_of([])) is None
