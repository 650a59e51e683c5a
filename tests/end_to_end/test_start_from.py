"""`qsens sweep --start-from RUN`: yesterday's map first, and what still holds of it."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_runs import chain, keep_trials, qsens, study_of, sweep, write_generator

from qsens.core.precision import Precision
from qsens.core.start import MappedLayer, StartingPoint
from qsens.run.paths import RunPaths
from qsens.selection.budget import Budget
from qsens.selection.choose import cheapest_within
from qsens.selection.precision_map_file import read_precision_map
from qsens.selection.starting_map import start_text

pytestmark = pytest.mark.usefixtures("no_report")
GUIDED = ("--strategy", "guided", "--screen-samples", "2", "--budget", "53", "--yardsticks", "none")
QUICK = ("--repair", "none")


def write_tomorrow(path, factor):
    """The tiny generator with the weights of its first layer changed."""
    model = chain()
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "w0")
    values = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, "w0"))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def yesterday(photos, tmp_path_factory):
    """A run that chose a map: not all of it may run in INT8."""
    folder = tmp_path_factory.mktemp("yesterday")
    generator = write_generator(folder / "generator.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qsens.report.write.write_report", lambda folder, **_: folder / "report.html")
        patch.setattr("qsens.api.survivals", lambda *_: ())
        result = sweep(generator, photos, folder / "first", *GUIDED, *QUICK)
    assert result.exit_code == 0, result.stderr
    return folder / "first"


def test_yesterdays_map_is_scored_first_and_said_to_hold(yesterday, photos, tmp_path):
    first = tmp_path / "first"
    shutil.copytree(yesterday, first)
    new = write_tomorrow(tmp_path / "new.onnx", 1.001)
    run = tmp_path / "run"
    result = sweep(new, photos, run, *GUIDED, *QUICK, "--start-from", first)
    assert result.exit_code == 0, result.stderr
    assert "The map of first still keeps the budget: psnr " in result.stdout
    study = study_of(run)
    chosen = read_precision_map(RunPaths(first).precision_map_path).precision_map
    names = [layer.name for layer in study.layers]
    assert study.trials[len(study.anchors)].requested.assignment(names) == chosen.assignment(names)
    # The earlier run may vanish: the new one has kept what it needs.
    shutil.rmtree(first)
    keep_trials(run, 4)
    again = sweep(new, photos, run, *GUIDED, *QUICK, "--start-from", first)
    assert again.exit_code == 0, again.stderr
    assert [trial.requested for trial in study_of(run).trials] == [one.requested for one in study.trials]
    assert "is not finished" not in qsens("select", run).output


def test_a_start_is_part_of_what_a_run_is(yesterday, photos, tmp_path):
    generator = yesterday.parent / "generator.onnx"
    result = sweep(generator, photos, yesterday, *GUIDED, *QUICK, "--start-from", yesterday)
    assert result.exit_code != 0
    assert 'start_from: absent -> "' in result.stderr
    assert not RunPaths(yesterday).start_path.exists()


def test_what_cannot_be_started_from_is_refused(yesterday, photos, tmp_path):
    generator = yesterday.parent / "generator.onnx"
    where = (tmp_path / "run", *GUIDED, *QUICK, "--start-from")
    assert "no folder" in sweep(generator, photos, *where, tmp_path / "gone").stderr
    bare = shutil.copytree(yesterday, tmp_path / "bare")
    RunPaths(bare).precision_map_path.unlink()
    result = sweep(generator, photos, *where, bare)
    assert f"the run {bare} has chosen no map to start from" in result.stderr
    other = chain()
    for node in other.graph.node:
        node.name = f"/other{node.name}"
    strange = sweep(write_generator(tmp_path / "other.onnx", other), photos, *where, yesterday)
    assert "no layer of first is in this network" in strange.stderr
    assert not (tmp_path / "run").exists()


def test_what_must_go_back_is_named(yesterday):
    study = study_of(yesterday)
    names = [layer.name for layer in study.layers]
    everything = StartingPoint("old", tuple(MappedLayer(name, Precision.INT8) for name in names))
    selection = cheapest_within(study, budget=Budget.parse("53"), guard=None, metric="psnr")
    kept = [name for name in names if selection.precision_map[name] is not Precision.INT8]
    text = start_text(study, everything, Precision.FP16, selection.limits, selection)
    assert text.startswith("The map of old no longer keeps the budget: psnr 5")
    assert text.endswith(f"Layers {', '.join(kept)} must go back to FP16.")
