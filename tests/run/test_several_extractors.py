"""Several extractors in one run: each has its own scores, and a map must hold in all."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from extractor_files import network
from onnx import helper
from tiny_models import normal, onnx_model
from tiny_photos import write_photos
from tiny_sweeps import score_run

import qsens
from qsens.cli.main import main
from qsens.core.errors import BudgetError, SpecError
from qsens.core.metric_names import find_metrics, headline_metrics
from qsens.core.spec import SweepSpec, spec_from_values
from qsens.run.floors import floors_of
from qsens.run.folder import read_provenance, read_run_spec, read_study
from qsens.run.reopen import reopen_run
from qsens.selection.budget import Budget
from qsens.selection.choose import limits_of

# The second sees the same, a thousand times as large.
SCALES = {"mild": 1.0, "keen": 1000.0}
DISTANCES = ("fid[mild]", "fid[keen]", "fid-fp32[mild]", "fid-fp32[keen]")


def two_heads():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["picture"], "draw"),
        helper.make_node("Conv", ["image", "m"], ["matte"], "cut", strides=[2, 2]),
    ]
    weights = {"w": normal(3, 3, 1, 1), "m": normal(3, 3, 2, 2, seed=2)}
    sides = ["n", 3, 24, 24]
    outputs = {"picture": sides, "matte": ["n", 3, 12, 12]}
    return onnx_model(nodes, inputs={"image": sides}, outputs=outputs, weights=weights)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extractors")
    (folder / "heads.onnx").write_bytes(two_heads().SerializeToString())
    write_photos(folder / "photos", count=18, side=24)
    for name, scale in SCALES.items():
        network(folder / f"{name}.onnx", scale=scale)
        (folder / f"{name}.toml").write_text(
            f'name = "{name}"\noutput = "features"\nresize = "bilinear"\nantialias = true\n'
            'colour_order = "rgb"\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n'
        )
    return folder


def sweep(project: Path, out: str, *extractors: str) -> Path:
    score_run(
        project / "heads.onnx",
        out=project / out,
        calibration=str(project / "photos"),
        evaluation=str(project / "photos"),
        reference=str(project / "photos"),
        extractor=[str(project / f"{name}.onnx") for name in extractors],
        output={"name": ["picture", "matte"], "value_range": [-4.0, 4.0]},
        metrics=["fid", "fid-fp32", "kid", "psnr"],
        calibration_samples=2,
        evaluation_samples=16,
        threads=1,
        repair="none",
        yardsticks=["jpeg:95"],
        strategy="ends",
    )
    return project / out


@pytest.fixture(scope="module")
def both(project):
    return sweep(project, "both", *SCALES)


def values(scores):
    return {score.metric: (score.value, score.output, score.against) for score in scores}


def test_scores_yardsticks_and_floors_are_those_of_runs_with_one_extractor_each(project, both):
    together, floors = read_study(both), floors_of(both)
    for name in SCALES:
        alone = read_study(sweep(project, name, name))
        pairs = [*zip(alone.trials, together.trials, strict=True)]
        pairs += zip(alone.yardsticks, together.yardsticks, strict=True)
        for one, other in pairs:
            found = values(other.scores)
            for metric, expected in values(one.scores).items():
                assert found[metric] == (pytest.approx(expected[0], rel=1e-6), *expected[1:])
        own = floors_of(project / name)
        assert set(own) == {f"fid[{name}]", f"fid-fp32[{name}]"}
        for metric, floor in own.items():
            assert floors[metric].value == pytest.approx(floor.value, rel=1e-6)
    assert headline_metrics(together.metrics) == (*DISTANCES, "psnr")


def test_a_map_must_hold_in_all_unless_the_budget_names_one(both):
    study = read_study(both)
    moved = {metric: max(t.score(metric).value for t in study.scored()) for metric in DISTANCES[2:]}
    points = 2 * moved["fid-fp32[mild]"]
    assert 0 < points < moved["fid-fp32[keen]"] / 10
    with pytest.raises(BudgetError, match=r"fid-fp32\[keen\]"):
        qsens.select(both, budget=f"fid-fp32={points:.9f}")
    chosen = qsens.select(both, budget=f"fid-fp32[mild]={points:.9f}")
    assert chosen.selection.limit.metric == "fid-fp32[mild]"
    guards = [limit for limit in limits_of(study, Budget.parse("jpeg:95"), None, None) if limit.is_guard]
    assert [limit.metric for limit in guards] == list(DISTANCES[2:])
    assert len({limit.points for limit in guards}) == 2
    assert find_metrics(study, "fid") == DISTANCES[:2]
    with pytest.raises(SpecError, match="no score named 'fid\\[lite0\\]'"):
        find_metrics(study, "fid[lite0]")


def test_a_run_resumes_and_reopens_with_its_extractors(project, both):
    sweep(project, "both", *SCALES)
    assert reopen_run(both).opened.extractor.identity == read_provenance(both).contents["extractor"]
    assert [Path(name).name for name in read_run_spec(both).extractor] == ["mild.onnx", "keen.onnx"]
    said = CliRunner().invoke(main, ["select", str(both), "--budget", "fid=100000000"]).stdout
    assert "fid[mild]" in said
    assert "fid[keen]" in said


def test_a_spec_of_one_extractor_is_what_it_was(project):
    one = spec_from_values({"extractor": "lite0"}, "test")
    assert one == spec_from_values({"extractor": ["lite0"]}, "test")
    assert one.to_mapping()["extractor"] == "lite0"
    assert SweepSpec().to_mapping()["extractor"] == "auto"
    network(project / "again.onnx")
    (project / "again.toml").write_bytes((project / "mild.toml").read_bytes())
    with pytest.raises(SpecError, match="two extractors are named 'mild'"):
        sweep(project, "twice", "mild", "again")
