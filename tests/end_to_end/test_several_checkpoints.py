"""Several checkpoints on one command line, quoted patterns, and a metric of one's own by its name."""

import json

import pytest
from tiny_runs import SMALL, qsens, study_of, sweep, write_generator

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture
def checkpoints(here):
    """Two checkpoints of one name, in folders of their own below the working folder."""
    for folder in ("a", "b"):
        (here / folder).mkdir()
        write_generator(here / folder / "model.onnx")
    return here


def test_a_quoted_pattern_stands_for_the_files_that_fit(checkpoints, photos):
    arguments = ("--calibration", photos, *SMALL, "--json")
    planned = qsens("plan", "*/model.onnx", *arguments)
    assert planned.exit_code == 0, planned.stderr
    first, second = (json.loads(line) for line in planned.stdout.splitlines())
    assert first["plan"]["maps"] == second["plan"]["maps"] == 9


def test_of_several_each_plan_is_named(checkpoints, photos):
    planned = qsens("plan", checkpoints / "*" / "model.onnx", "--calibration", photos, *SMALL)
    places = [planned.stdout.index(f"{checkpoints / name / 'model.onnx'}:\n") for name in ("a", "b")]
    assert places == sorted(places)
    assert planned.stdout.endswith("Next: the same line with sweep instead of plan begins it.\n")


def test_a_pattern_that_nothing_fits_is_refused(checkpoints, photos):
    result = qsens("sweep", "c*/model.onnx", "--calibration", photos)
    assert result.exit_code == 2
    assert "no file fits 'c*/model.onnx'" in result.stderr


def test_a_metric_of_ones_own_is_named_by_module_and_class(generator, photos, tmp_path):
    own = ("--metric", "slow_plugins:MeanLevel", "--budget", "psnr=20")
    result = sweep(generator, photos, tmp_path / "run", "--strategy", "ends", *own)
    assert result.exit_code == 0, result.stderr
    assert study_of(tmp_path / "run").metrics == ("psnr", "mean-level")
    unknown = sweep(generator, photos, tmp_path / "other", "--metric", "slow_plugins:MeanLevels")
    assert "MeanLevel" in unknown.stderr
    assert not (tmp_path / "other").exists()
