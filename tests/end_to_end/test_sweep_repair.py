"""`qsens sweep --repair`: said, resumed, and the same in what is exported."""

import json
import shutil
import tomllib

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_runs import (
    chain,
    keep_trials,
    qsens,
    sweep,
    without_durations,
    write_generator,
    write_images,
)

from qsens.repair.repair import kept_stages, stage_texts, summary_of
from qsens.run.folder import read_run_spec
from qsens.run.paths import RunPaths
from qsens.run.reopen import reopen_run

pytestmark = pytest.mark.usefixtures("no_report")
ENDS = ("--strategy", "ends", "--by", "block")
REPAIR = ("--calibration-samples", "12", *ENDS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 16)


@pytest.fixture
def run(generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", *REPAIR)
    assert result.exit_code == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("Repair: ")]
    stages = kept_stages(RunPaths(tmp_path / "run").repair_path)
    assert said == [f"Repair: {text}" for text in stage_texts(stages)]
    assert [stage.stage for stage in stages] == ["ranges", "weights"]
    assert f"\n{summary_of(stages).text}\n" in result.stdout
    return tmp_path / "run"


def test_a_repaired_run_is_resumed_and_exported(run, generator, photos):
    trials = without_durations(run)
    keep_trials(run, 2)
    assert sweep(generator, photos, run, *REPAIR).exit_code == 0
    assert without_durations(run) == trials
    exported = qsens("export", run, "--trial", "2", "--for", "openvino")
    assert exported.exit_code == 0, exported.stderr
    assert qsens("verify", run / "bundle-openvino", "--no-latency").exit_code == 0


def uneven_chain() -> onnx.ModelProto:
    """A chain whose first layer makes two channels eight times smaller than the others, and it is undone."""
    model = chain()
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    factors = np.array([1, 0.125, 0.125, 1], np.float32)
    for name, shape, power in (("w0", (-1, 1, 1, 1), 1), ("b0", (-1,), 1), ("w1", (1, -1, 1, 1), -1)):
        values = numpy_helper.to_array(tensors[name]) * factors.reshape(shape) ** power
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
    return model


@pytest.mark.slow
def test_a_run_with_channel_scales_is_resumed_and_exported(photos, tmp_path):
    generator = write_generator(tmp_path / "uneven.onnx", uneven_chain())
    run, stages = tmp_path / "run", ("--repair", "ranges,scales,weights", *REPAIR)
    assert sweep(generator, photos, run, *stages).exit_code == 0
    kept = reopen_run(run).repair
    assert kept.exponents
    assert [stage.stage for stage in kept.stages] == ["ranges", "scales", "weights"]
    trials = without_durations(run)
    keep_trials(run, 2)
    assert sweep(generator, photos, run, *stages).exit_code == 0
    assert without_durations(run) == trials
    assert qsens("export", run, "--trial", "2", "--for", "openvino").exit_code == 0
    assert qsens("verify", run / "bundle-openvino", "--no-latency").exit_code == 0


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_repair_that_is_gone_or_damaged_is_said_and_made_again(run, generator, photos, is_gone):
    path = RunPaths(run).repair_path
    path.write_bytes(path.read_bytes()[:-100])
    if is_gone:
        path.unlink()
    result = qsens("export", run, "--trial", "2", "--for", "openvino")
    assert result.exit_code == 1
    said = (
        "is missing, damaged or of another calibration" if is_gone else "is not the file that the run wrote"
    )
    assert f"repair.npz {said}" in result.stderr
    assert sweep(generator, photos, run, *REPAIR).exit_code == 0
    assert reopen_run(run).repair.stages


def test_another_recipe_is_another_run(run, generator, photos):
    result = sweep(generator, photos, run, "--repair", "ranges", *REPAIR)
    assert result.exit_code == 1
    assert 'repair: "auto" -> "ranges"' in result.stderr


def test_a_run_begun_before_there_were_repairs_goes_on_without(generator, photos, tmp_path):
    run = tmp_path / "run"
    assert sweep(generator, photos, run, "--repair", "none", *ENDS).exit_code == 0
    trials, path = without_durations(run), RunPaths(run).spec_path
    lines = [line for line in path.read_text().splitlines() if not line.startswith("repair")]
    path.write_text("\n".join(lines) + "\n")
    assert "repair" not in tomllib.loads(path.read_text())
    # The first time the file has no such key, the second time it has.
    for _ in range(2):
        keep_trials(run, 2)
        result = sweep(generator, photos, run, *ENDS)
        assert result.exit_code == 0, result.stderr
        assert "Note: this run was begun without repair" in result.stderr
        assert without_durations(run) == trials
        assert read_run_spec(run).repair == "none"


def test_few_samples_are_said_in_one_line(generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", *ENDS)
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("Repair: ")]
    assert said == (
        "Repair: ranges, weights: left out, 2 calibration samples, 8 are needed (a larger set, or "
        "--calibration-samples)"
    )


def test_repair_never_sees_what_is_evaluated(generator, photos, tmp_path):
    """The same files under other names, all of them and two more than repair can do without."""
    both = {count: tmp_path / f"both-{count}" for count in (16, 6)}
    for count, folder in both.items():
        folder.mkdir()
        for path in sorted(photos.iterdir())[:count]:
            shutil.copy(path, folder / f"copy-{path.name}")
    counts = ("--calibration-samples", "16", "--evaluation-samples", "16", *ENDS)
    said = {}
    for count, folder in both.items():
        out = tmp_path / f"run-{count}"
        result = sweep(generator, photos, out, "--evaluation", folder, *counts)
        assert result.exit_code == 0, result.stderr
        said[count] = result.stderr
        assert f"Warning: {count} of 16 calibration samples are, or are of a clip, in the eval" in said[count]
        assert "(photo-000.png, photo-001.png, photo-002.png and" in said[count]
        assert reopen_run(out).repair.stages
    assert "left out, 0 calibration samples that are not in the evaluation set" in said[16]
    assert "dB with INT8 everywhere" in said[6]


def test_a_plan_tells_of_repair_and_its_time(generator, photos):
    counts = ("--evaluation-samples", "4", "--metric", "psnr", "--threads", "1", *ENDS)
    plan = ("plan", generator, "--calibration", photos, *counts, "--calibration-samples")
    assert "make INT8 better (--repair none leaves that out)" in qsens(*plan, 12).stdout
    assert "make INT8 better" not in qsens(*plan, 2).stdout
    assert json.loads(qsens(*plan, 12, "--repair", "none", "--json").stdout)["plan"]["repair_s"] == 0


@pytest.mark.parametrize("recipe", ["auto,weights", "bias", "", "ranges, weights"])
def test_an_unknown_recipe_is_refused_with_the_list(recipe, generator, photos, tmp_path):
    result = sweep(generator, photos, tmp_path / "run", "--repair", recipe)
    assert result.exit_code == 2
    assert "auto, none, compare, or of ranges, scales and weights those you want" in result.stderr


def test_compare_scores_maps_without_repair_too_and_no_choice_sees_them(run, generator, photos):
    """It takes up a run without comparison: scores do not depend on it."""
    trials = without_durations(run)
    budget = ("--budget", f"{trials[2].score('psnr').value + 0.01}")
    result = sweep(generator, photos, run, "--repair", "compare", *budget, *REPAIR)
    assert result.exit_code == 0, result.stderr
    assert without_durations(run) == trials
    rows = [line.split() for line in result.stdout.partition("What repair bought:")[2].splitlines()[3:7]]
    assert [row[-2] for row in rows] == ["yes", "no", "yes", "no"]
    scores = [float(row[-1]) for row in rows]
    assert scores[0] > scores[1] + 1
    assert scores[2] > scores[0]
    # Nothing is scored twice, and a command without comparison goes on too.
    assert (
        "without repair: "
        not in sweep(generator, photos, run, "--repair", "compare", *budget, *REPAIR).stderr
    )
    assert sweep(generator, photos, run, *budget, *REPAIR).exit_code == 0
