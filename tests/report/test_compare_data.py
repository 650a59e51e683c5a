"""Comparability, labels, settings and differences of several runs."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import CONTENTS, LAYERS, fid_against, influence_of, with_against, write_compared_run

from qsens.core.errors import SpecError
from qsens.core.metric_names import Z95
from qsens.core.spec import SweepSpec
from qsens.report.compare.compare import CompareOptions, compare_runs
from qsens.report.compare.differences import Verdict
from qsens.report.compare.figures import looks_of
from qsens.report.compare.runs import labels_of
from qsens.testing import example_layers

OTHER = {**CONTENTS, "generator": "1" * 64, "graph": "2" * 64}


@pytest.fixture
def pair(tmp_path):
    def make(**second):
        first = write_compared_run(tmp_path / "old")
        return [first, write_compared_run(tmp_path / "new", **second)]

    return make


def difference(comparison, subject, metric="fid[lite0]"):
    return next(
        entry for entry in comparison.differences if (entry.subject, entry.metric) == (subject, metric)
    )


def test_scores_of_the_same_inputs_are_paired(pair):
    found = difference(compare_runs(pair(damage=1.5), CompareOptions()), "all INT8")
    assert found.value == pytest.approx(2.0)
    assert found.is_paired
    assert found.half_width == 0  # both runs' influences of this map are the same here
    assert found.verdict is Verdict.WORSE


def test_the_paired_interval_is_that_of_the_difference_of_influences(pair):
    paths = pair(damage=1.5)
    other = replace_map_order(paths[1])
    found = difference(compare_runs([paths[0], other], CompareOptions()), "all INT8")
    values = influence_of(3) - influence_of(2)
    expected = Z95 * values.std(ddof=1) / math.sqrt(len(values))
    assert found.half_width == pytest.approx(expected, rel=1e-2)


def replace_map_order(path: Path) -> Path:
    """The run's all-INT8 trial takes the influences of the next trial."""
    (path / "evidence" / "trial-00002.npz").write_bytes((path / "evidence" / "trial-00003.npz").read_bytes())
    return path


def test_without_evidence_the_errors_of_both_are_added(pair):
    found = difference(compare_runs(pair(damage=1.05, has_evidence=False), CompareOptions()), "all INT8")
    values = influence_of(2)
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert not found.is_paired
    assert found.half_width == pytest.approx(Z95 * math.sqrt(2) * error)
    assert found.verdict is Verdict.NONE


def test_no_pairing_where_only_the_number_of_inputs_agrees(pair):
    contents = {**CONTENTS, "evaluation": "0" * 64}
    found = difference(compare_runs(pair(contents=contents), CompareOptions()), "all INT8")
    assert not found.is_paired


def test_checkpoints_are_compared_by_what_they_lose_too(pair):
    comparison = compare_runs(pair(fp32=8.0, damage=1.5, contents=OTHER), CompareOptions())
    assert difference(comparison, "FP32").value == pytest.approx(-2.0)
    assert difference(comparison, "all INT8").value == pytest.approx(0.0)
    assert difference(comparison, "loss of all INT8").value == pytest.approx(2.0)
    psnr = next(metric for metric in comparison.metrics.shared if metric.name == "psnr")
    assert psnr.is_own_fp32
    assert not any(
        entry.subject.startswith("loss") for entry in comparison.differences if entry.metric == "psnr"
    )


def test_higher_is_better_turns_the_verdict(pair):
    found = difference(compare_runs(pair(damage=1.5), CompareOptions()), "all INT8", "psnr")
    assert found.value == pytest.approx(-10.0)
    assert found.verdict is Verdict.WORSE


def test_equal_scores_without_an_error_are_the_same(pair):
    assert difference(compare_runs(pair(), CompareOptions()), "all INT8").verdict is Verdict.SAME


def test_scores_that_differ_by_rounding_are_the_same(pair):
    comparison = compare_runs(pair(damage=1.0 + 1e-9, fp32=10.0 + 1e-8), CompareOptions())
    fids = [entry for entry in comparison.differences if entry.metric == "fid[lite0]"]
    assert {(entry.verdict, entry.value) for entry in fids} == {(Verdict.SAME, 0.0)}
    assert not any(entry.subject.startswith("loss") for entry in comparison.differences)


@pytest.mark.parametrize(
    ("against", "named"),
    [
        (fid_against(reference="9" * 64), "reference ffffffffffff in old, 999999999999 in new"),
        (fid_against(evaluation="9" * 64), "evaluation eeeeeeeeeeee in old, 999999999999 in new"),
        (
            fid_against(extractor="vgg/raw/0"),
            "measured by lite0/raw/0123456789abcdef in old, vgg/raw/0 in new",
        ),
    ],
)
def test_a_score_against_something_else_is_left_out_with_both_values(pair, against, named):
    comparison = compare_runs(pair(against=against), CompareOptions())
    assert [metric.name for metric in comparison.metrics.shared] == ["psnr"]
    assert [entry.name for entry in comparison.metrics.left_out] == ["fid[lite0]"]
    assert named in comparison.metrics.left_out[0].reason
    assert {entry.metric for entry in comparison.differences} == {"psnr"}


def test_another_number_of_images_is_no_comparison_and_the_bias_is_named(pair):
    with pytest.raises(SpecError, match="64 images in old, 32 in new, and Fréchet distances fall"):
        compare_runs(pair(images=32), CompareOptions())


def test_asking_for_a_score_that_must_not_be_compared_is_refused(pair):
    paths = pair(against=fid_against(reference="9" * 64))
    with pytest.raises(SpecError, match="must not be compared on 'fid': fid\\[lite0\\]: reference") as caught:
        compare_runs(paths, CompareOptions(metrics=("fid",)))
    assert "psnr" in caught.value.hint
    with pytest.raises(SpecError, match="no score named 'lpips'"):
        compare_runs(paths, CompareOptions(metrics=("lpips",)))


def test_a_metric_with_two_directions_is_not_compared(pair):
    def turned(trial):
        scores = tuple(replace(score, lower_is_better=not score.lower_is_better) for score in trial.scores)
        return replace(trial, scores=scores)

    with pytest.raises(SpecError, match="higher is better in one run and lower in another"):
        compare_runs(pair(change=turned), CompareOptions())


def test_a_metric_of_one_run_only_is_left_out(pair):
    def without_psnr(trial):
        return replace(trial, scores=trial.scores[:1])

    comparison = compare_runs(pair(change=without_psnr), CompareOptions())
    assert comparison.metrics.left_out[0].reason == "not scored in new"


def test_a_later_run_of_several_can_be_the_one_that_differs(tmp_path):
    paths = [write_compared_run(tmp_path / name) for name in ("a", "b")]
    against = "fp32 evaluation=0"
    paths.append(
        write_compared_run(tmp_path / "c", change=lambda trial: with_against(trial, "psnr", against))
    )
    reason = compare_runs(paths, CompareOptions()).metrics.left_out[0].reason
    assert reason == "evaluation eeeeeeeeeeee in a, 0 in c"


def test_settings_name_what_differs_and_nothing_else(pair):
    layers = tuple(replace(layer, name=f"x{layer.name}") for layer in LAYERS)
    spec = SweepSpec(placement="dense", threads=2, strategy="boundary")
    comparison = compare_runs(pair(spec=spec, layers=layers, contents=OTHER), CompareOptions())
    settings = {entry.name: entry.values for entry in comparison.settings}
    assert set(settings) == {"placement", "layers", "digest of generator", "digest of graph"}
    assert settings["placement"] == ("residual", "dense")
    assert settings["digest of graph"] == ("b" * 12, "2" * 12)
    assert settings["layers"][0].startswith("4 (names ")
    assert settings["layers"][0] != settings["layers"][1]


def test_a_path_with_the_same_bytes_is_no_difference(tmp_path):
    paths = [
        write_compared_run(tmp_path / name, spec=SweepSpec(reference=f"/{name}/faces")) for name in ("a", "b")
    ]
    assert compare_runs(paths, CompareOptions()).settings == ()


def labels(folders, *specs):
    return labels_of([Path(folder) for folder in folders], specs)


def test_labels_are_the_one_value_that_differs_or_the_folders():
    plain = SweepSpec()
    dense = SweepSpec(placement="dense")
    assert labels(["run-residual", "run-dense"], plain, dense) == ("residual", "dense")
    assert labels(["first-run", "other-run"], plain, SweepSpec(seed=1)) == ("seed 0", "seed 1")
    assert labels(["one", "two"], plain, SweepSpec(placement="dense", seed=1)) == ("one", "two")
    assert labels(["one", "two"], plain, plain) == ("one", "two")
    assert labels(["x/run", "y/run"], plain, plain) == ("x/run", "y/run")
    old, new = SweepSpec(checkpoint="/x/old.onnx"), SweepSpec(checkpoint="/x/new.onnx")
    assert labels(["run-old", "run-new"], old, new) == ("old", "new")


def test_long_folder_names_lose_their_middle_where_that_tells_them_apart():
    folders = [f"{'a' * 60}-{name}" for name in ("one", "two")]
    found = labels(folders, SweepSpec(), SweepSpec())
    assert all(len(label) <= 40 for label in found)
    assert found[0].endswith("-one")
    middle = [f"{'a' * 40}{name}{'b' * 40}" for name in ("one", "two")]
    assert labels(middle, SweepSpec(), SweepSpec()) == tuple(middle)


def test_runs_look_different_without_colour_and_in_numbers():
    assert len(set(looks_of(56))) == 56
    assert len({look.marker for look in looks_of(8)}) == 8


def test_other_layers_are_compared_all_the_same(pair):
    comparison = compare_runs(pair(layers=example_layers(6), contents=OTHER), CompareOptions())
    assert difference(comparison, "all INT8").value == pytest.approx(2.0)
