"""Several outputs are scored, and the worst decides."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import helper
from tiny_models import normal, onnx_model
from tiny_photos import write_photos
from tiny_sweeps import score_run

from qsens.api import export
from qsens.calibration.plays import ONCE
from qsens.cli.main import main
from qsens.cli.sweep_flags import SweepOptions, spec_from_options
from qsens.core.errors import ScoreError, SpecError
from qsens.core.interfaces import OutputRule
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec, spec_from_values
from qsens.core.targets import target_named
from qsens.deploy.bundle import ExportOptions
from qsens.run.evidence import load_evidence
from qsens.run.folder import read_run_spec, read_study
from qsens.run.open import open_sweep
from qsens.run.opening_notes import opening_notes
from qsens.run.paths import RunPaths
from qsens.run.stages import check_batch
from qsens.run.target import TargetMaps
from qsens.scoring.pictures import settled_output
from qsens.scoring.sheets import Sheet


def two_heads():
    """A picture, and a smaller matte of its own layer."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["picture"], "draw"),
        helper.make_node("Conv", ["image", "m"], ["matte"], "cut", strides=[2, 2]),
        helper.make_node("Conv", ["image", "s"], ["state"], "remember"),
    ]
    weights = {"w": normal(3, 3, 1, 1), "m": normal(1, 3, 2, 2, seed=2), "s": normal(2, 3, 1, 1, seed=3)}
    sides = ["n", 3, 24, 24]
    outputs = {"picture": sides, "matte": ["n", 1, 12, 12], "state": ["n", 2, 24, 24]}
    return onnx_model(nodes, inputs={"image": sides}, outputs=outputs, weights=weights)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    (folder / "heads.onnx").write_bytes(two_heads().SerializeToString())
    write_photos(folder / "photos", side=24)
    return folder


def values_of(project, *names, **more):
    return {
        "checkpoint": str(project / "heads.onnx"),
        "calibration": str(project / "photos"),
        "output": {"name": list(names), "value_range": [-4.0, 4.0]},
        "metrics": ["psnr", "ssim"],
        "range_method": "minmax",
        "calibration_samples": 2,
        "evaluation_samples": 4,
        "batch_size": 2,
        "threads": 1,
        "strategy": "ends",
        **more,
    }


def sweep(project, out, *names, **more):
    return score_run(out=out, **values_of(project, *names, **more))


def int8_scores(study):
    trial = next(t for t in study.trials if t.requested[study.layers[0].name] is Precision.INT8)
    return {score.metric: score for score in trial.scores}


@pytest.fixture(scope="module")
def both(project, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "both"
    return sweep(project, out, "picture", "matte", placement="dense"), out


def test_each_score_is_that_of_the_worst_output_alone(project, both, tmp_path):
    alone = {
        name: int8_scores(sweep(project, tmp_path / name, name, pinned=["draw=int8", "cut=int8"]))
        for name in ("picture", "matte")
    }
    together = int8_scores(
        sweep(project, tmp_path / "b", "picture", "matte", pinned=["draw=int8", "cut=int8"])
    )
    for metric in ("psnr", "ssim"):
        worst = min(alone, key=lambda name: alone[name][metric].value)
        assert alone["picture"][metric].value != alone["matte"][metric].value
        assert together[metric] == replace(alone[worst][metric], output=worst)


def test_only_what_reaches_neither_is_held_and_only_it_is_told_by_an_error(both):
    study, out = both
    held = [layer.name for layer in study.layers if layer.float_reason]
    assert held == ["remember"]
    assert {name for trial in study.trials for name, _ in trial.output_errors} == {"state"}
    assert read_study(out).trials == study.trials
    assert read_run_spec(out).output.names == ("picture", "matte")


def test_a_bundle_of_such_a_run_holds_all_outputs(both, tmp_path):
    target = target_named("onnxruntime").target
    options = ExportOptions(target, tmp_path / "bundle", takes_back_to_float=True)
    (found,) = export(both[1], options, trials=[2])
    assert found.compared.problems == ()
    assert {entry.output for entry in found.compared.others} == {"matte", "state"}


def test_features_are_made_of_each_picture(project, tmp_path):
    more = {"metrics": ["fid-fp32"], "extractor": "lite0", "pinned": ["draw=int8", "cut=int8"]}
    alone = {
        name: int8_scores(sweep(project, tmp_path / name, name, **more)) for name in ("picture", "matte")
    }
    together = int8_scores(sweep(project, tmp_path / "both", "picture", "matte", **more))
    for metric, score in together.items():
        worst = max(alone, key=lambda name: alone[name][metric].value)
        assert score == replace(alone[worst][metric], output=worst)
    wide = load_evidence(RunPaths(tmp_path / "both").evidence, 0).features
    narrow = load_evidence(RunPaths(tmp_path / "matte").evidence, 0).features
    assert np.array_equal(wide[:, narrow.shape[1] :], narrow)


def test_a_name_alone_in_a_list_is_that_name():
    one = SweepSpec.from_mapping({"output": {"name": "picture"}})
    for names in (["picture"], ["picture", "picture"]):
        assert SweepSpec.from_mapping({"output": {"name": names}}) == one
    two = SweepSpec.from_mapping({"output": {"name": ["picture", "matte"]}})
    assert two.digest != one.digest
    assert SweepSpec.from_mapping(two.to_mapping()) == two
    assert "also" not in one.to_mapping()["output"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["picture", "mate"], "no output 'mate'"),
        (["picture", "state"], "output 'state' .*cannot be scored as pictures"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(project, names, said):
    with pytest.raises(SpecError, match=said):
        open_sweep(spec_from_values(values_of(project, *names), "test"))


def test_an_output_without_anything_to_see_is_refused_by_name():
    sheet = Sheet(("picture", "matte"), ((2, 4), (2, 2)))
    seen, black = np.arange(24, dtype=np.uint8).reshape(1, 3, 2, 4), np.zeros((1, 3, 2, 2), np.uint8)
    joined = sheet.joined([seen, black])
    assert joined.shape == (1, 3, 4, 4)
    assert all(map(np.array_equal, sheet.parts(joined), [seen, black]))
    with pytest.raises(ScoreError, match="all 1 pictures of FP32 in output 'matte' have the one value 0"):
        sheet.refuse_one_level(joined)
    with pytest.raises(ScoreError, match=r"output 'matte' are .*only at fixed sizes"):
        sheet.joined([seen, black[..., :1]])


def test_outputs_of_two_types_share_no_range():
    outputs = {"a": np.zeros((1, 3, 4, 4), np.float32), "b": np.zeros((1, 3, 4, 4), np.uint8)}
    with pytest.raises(SpecError, match=r"'a' \(float32\) and 'b' \(uint8\) go over different ranges"):
        settled_output(outputs, OutputRule("a", also=("b",)))


def test_opening_says_that_the_worst_decides_and_what_that_cannot_see(project):
    values = values_of(project, "picture", "matte", reference=str(project / "photos"), extractor="lite0")
    said = " ".join(opening_notes(open_sweep(spec_from_values({**values, "metrics": ["fid"]}, "test"))))
    assert "the outputs 'picture', 'matte' are scored, and for each metric the worst decides" in said
    assert "fid compares with real pictures" in said


def test_select_names_the_worst_output_and_tells_of_the_others(both):
    said = CliRunner().invoke(main, ["select", str(both[1]), "--budget", "psnr=20"]).stdout
    assert re.search(r"Of the scored outputs the worst decides: psnr by (picture|matte), ssim by ", said)
    assert re.search(r"Output state is not scored; it differs from FP32's by [\d.]+% ", said)


@pytest.mark.parametrize("names", [("picture",), ("picture", "matte")])
def test_the_flag_may_be_given_several_times(names):
    assert spec_from_options(None, SweepOptions(output_name=names)).output.names == names


@pytest.mark.parametrize(
    ("outputs", "held"), [((), []), (("picture",), ["cut", "remember"]), (("picture", "matte"), ["remember"])]
)
def test_layers_says_what_reaches_no_scored_output(project, outputs, held):
    flags = [flag for name in outputs for flag in ("--output", name)]
    asked = ["layers", str(project / "heads.onnx"), *flags]
    found = json.loads(CliRunner().invoke(main, [*asked, "--json"]).stdout)
    assert [layer["name"] for layer in found["layers"] if "int8" not in layer["allowed"]] == held
    said = CliRunner().invoke(main, asked).stdout
    assert all(name in said.partition("because no score would notice: ")[2] for name in held)
    assert ("because no score would notice" in said) is bool(held)
    unknown = CliRunner().invoke(main, ["layers", str(project / "heads.onnx"), "--output", "pictur"])
    assert "did you mean 'picture'?" in unknown.stderr


def test_a_target_looks_at_the_scored_output_wherever_it_stands(monkeypatch):
    drafted = []
    monkeypatch.setattr(
        "qsens.run.target.agreed_graph", lambda drafting, _, **options: drafted.append(drafting.picture)
    )
    outputs = {"state": np.zeros((1, 2, 4, 4)), "picture": np.zeros((1, 3, 4, 4))}
    graph = SimpleNamespace(example_outputs=outputs, outputs=tuple(outputs), inputs=(), example={})
    calibrated = SimpleNamespace(graph=graph, spec=SimpleNamespace(output=OutputRule()))
    TargetMaps(target_named("onnxruntime"), calibrated).shipped(PrecisionMap(Precision.INT8))
    assert drafted == ["picture"]


def test_one_output_that_mixes_the_samples_of_a_batch_is_not_hidden_by_the_other():
    sheet = Sheet(("picture", "matte"), ((8, 8), (2, 2)))
    seen, matte = np.full((2, 3, 8, 8), 7, np.uint8), np.full((2, 3, 2, 2), 7, np.uint8)
    together, alone = sheet.joined([seen, matte]), sheet.joined([seen[:1], matte[:1] + 2])
    batch = SimpleNamespace(count_from=lambda _: 2, alone=lambda _: {}, loop=ONCE)
    stage = SimpleNamespace(inputs=batch, places=(0, 1))
    check_batch(together, stage, 0, lambda _: alone)
    with pytest.raises(ScoreError, match=r"another than alone: by 2\.0 of 255 levels"):
        check_batch(together, stage, 0, lambda _: alone, sheet)
