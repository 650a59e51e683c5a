"""Stages of a repair: what they need, when they are taken, and that a stop loses none that was finished."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from lowered_models import INT8, Prepared, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.interfaces import OutputRule
from qsens.engines.lowering.plan import LoweringOptions
from qsens.repair import stages, weights
from qsens.repair.compensation import rounded_codes
from qsens.repair.picture_error import PictureError
from qsens.repair.repair import (
    Repair,
    StageResult,
    kept_stages,
    load_repair,
    stage_texts,
    summary_of,
)
from qsens.repair.stages import Proposal, Subject, fitted_and_held_out, make_repair
from qsens.repair.tries import Tries
from qsens.repair.weights import compensate_weights

OUTLIER = 40.0
GOOD = StageResult("ranges", is_taken=True, error_before=0.1, error_after=0.01, changed=3)
BAD = StageResult("weights", is_taken=False, error_before=0.1, error_after=0.2)
FEW = StageResult("ranges", is_taken=False, skipped=(("ranges", "too few"),))


class Noise:
    """Samples of seeded noise, some of them in clips."""

    name = "noise"
    digest = "noise"

    def __init__(self, count: int, clusters: Sequence[str] | None = None) -> None:
        self.count = count
        self.clusters = clusters

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> dict[str, np.ndarray]:
        return {"image": np.random.default_rng(index).random((3, 8, 8), dtype=np.float32)}


def conv_pair(activation: str) -> onnx.ModelProto:
    """Two convolutions with an activation between them."""
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], name="first", pads=[1] * 4),
        helper.make_node(activation, ["c0"], ["r0"], name="activation"),
        helper.make_node("Conv", ["r0", "w1"], ["picture"], name="last", pads=[1] * 4),
    ]
    weights = {"w0": normal(4, 3, 3, 3, seed=1), "w1": normal(3, 4, 3, 3, seed=2)}
    inputs, outputs = {"image": ["n", 3, 8, 8]}, {"picture": ["n", 3, 8, 8]}
    return onnx_model(nodes, inputs=inputs, outputs=outputs, weights=weights)


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing."""


def subject(setup: Prepared, count: int = 16) -> Subject:
    """INT8 with ranges that are far too wide, so that there is something to repair."""
    return Subject(
        setup.plan, setup.ranges, LoweringOptions(), Noise(count), OutputRule(value_range=(0, 1)), 1, silent
    )


@pytest.fixture(scope="module")
def setup() -> Prepared:
    return prepared(residual_generator(), amax=OUTLIER)


@pytest.fixture(scope="module")
def said():
    """Every word of the repair that the tests share, in order."""
    return []


@pytest.fixture(scope="module")
def made(setup, said, tmp_path_factory):
    path = tmp_path_factory.mktemp("repair") / "repair.npz"
    told = replace(subject(setup), progress=lambda done, total, label: said.append(label), hear=said.append)
    return make_repair(told, "auto", path), path


def test_each_stage_tells_what_it_did_before_the_next_one_begins(made, said):
    ends = [place for place, line in enumerate(said) if line.startswith("Repair: ")]
    assert [said[place].split(" ")[2] for place in ends] == ["ranges", "weights"]
    assert any(line.startswith("repair: weights") for line in said[ends[0] + 1 : ends[1]])
    assert not any(line.startswith("repair: weights") for line in said[: ends[0]])


def error_of(setup: Prepared, repair: Repair, samples: Noise) -> float:
    part = subject(setup)
    measure = PictureError.of(part.plan, part.options, samples, rule=part.output, threads=1)
    return measure(*repair.applied(part.plan, part.ranges))


def test_every_stage_brings_pictures_nearer_that_it_never_saw(setup, made):
    repair, _ = made
    unseen = Noise(80)
    unseen.sample = lambda index: Noise(1).sample(1000 + index)
    errors = [error_of(setup, part, unseen) for part in (Repair(""), replace(repair, layers={}), repair)]
    assert errors[1] < 0.2 * errors[0]
    assert errors[2] < errors[1]
    assert [stage.stage for stage in repair.stages if stage.is_taken] == ["ranges", "weights"]
    assert all(stage.gain_db > 0 for stage in repair.stages)


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (lambda *_: None, "the second moment of its inputs cannot be inverted, damped by 1 of its mean"),
        (lambda weight, scales, _: rounded_codes(weight, scales), "its nearest codes leave no more error"),
    ],
)
def test_layers_that_are_left_alone_are_named_with_the_reason(setup, tmp_path, monkeypatch, codes, said):
    monkeypatch.setattr(weights, "compensated_codes", codes)
    repair = make_repair(subject(setup, 40), "weights", tmp_path / "repair.npz")
    (result,) = repair.stages
    assert dict(result.skipped) == dict.fromkeys([layer.name for layer in setup.plan.graph.layers], said)
    assert not result.is_taken
    assert not repair.layers


def test_a_search_goes_on_where_it_was_stopped(setup, made, tmp_path, monkeypatch):
    whole, path = made[0], tmp_path / "repair.npz"
    measure, counts = PictureError.__call__, []

    def stopping(self: PictureError, *arguments: object) -> float:
        counts.append(1)
        if len(counts) == 20:
            raise KeyboardInterrupt
        return measure(self, *arguments)

    monkeypatch.setattr(PictureError, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        make_repair(subject(setup), "ranges", path)
    (kept,) = [file for file in tmp_path.iterdir() if file.name == "repair-tries.jsonl"]
    kept.write_text(kept.read_text() + '["torn')
    again = make_repair(subject(setup), "ranges", path)
    assert again.amax == pytest.approx(dict(whole.amax))
    # What was measured before the stop is not measured again, and nothing is left of it.
    (result,) = again.stages
    assert result.tries == whole.stages[0].tries
    assert len(counts) < result.tries + 6
    assert not kept.exists()


def test_tries_that_a_stop_left_after_the_last_stage_go(setup, tmp_path):
    tries = tmp_path / "repair-tries.jsonl"
    make_repair(subject(setup), "weights", tmp_path / "repair.npz")
    assert not tries.exists()
    tries.write_text("of a stop between the last stage's file and this one's end\n")
    make_repair(subject(setup), "weights", tmp_path / "repair.npz")
    assert not tries.exists()


def test_tries_of_another_repair_count_for_nothing(tmp_path):
    path = tmp_path / "tries.jsonl"
    assert Tries(path, "one").outcome({"a": 0.1}, lambda: 2.0) == 2.0
    assert Tries(path, "one").outcome({"a": 0.1}, lambda: 3.0) == 2.0
    assert Tries(path, "other").outcome({"a": 0.1}, lambda: 3.0) == 3.0


def test_a_repair_written_before_there_were_scales_is_read(made, tmp_path):
    repair, source = made
    arrays = {name: value for name, value in np.load(source).items() if name != "scaled"}
    np.savez(tmp_path / "repair.npz", **arrays)
    again = load_repair(tmp_path / "repair.npz", (repair.digest,))
    assert again is not None
    assert again.stages == repair.stages


def test_a_finished_repair_is_read_and_not_made_again(setup, made, monkeypatch):
    repair, path = made
    monkeypatch.setattr(stages, "_PROPOSERS", {})
    again = make_repair(subject(setup), "auto", path)
    assert again.digest == repair.digest
    assert again.amax == pytest.approx(dict(repair.amax))
    assert again.stages == repair.stages == kept_stages(path)
    for name, layer in repair.layers.items():
        np.testing.assert_array_equal(again.layers[name].codes, layer.codes)
        np.testing.assert_array_equal(again.layers[name].bias, layer.bias)


def test_a_stop_between_stages_keeps_the_first(setup, made, monkeypatch, tmp_path):
    whole, _ = made
    path = tmp_path / "repair.npz"
    proposers = dict(stages._PROPOSERS)

    def stop(part: Subject, repair: Repair, tries: Tries) -> Proposal:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "_PROPOSERS", proposers | {"weights": stop})
    with pytest.raises(KeyboardInterrupt):
        make_repair(subject(setup), "auto", path)
    monkeypatch.setattr(stages, "_PROPOSERS", {"weights": proposers["weights"]})
    repair = make_repair(subject(setup), "auto", path)
    assert repair.digest == whole.digest
    assert dict(repair.amax) == pytest.approx(dict(whole.amax))


def test_a_damaged_file_is_made_again(setup, made, tmp_path):
    whole, source = made
    path = tmp_path / "repair.npz"
    for damaged in (b"", b"PK\3\4 torn", source.read_bytes()[:-200]):
        path.write_bytes(damaged)
        assert kept_stages(path) == ()
        assert load_repair(path, (whole.digest,)) is None
    assert make_repair(subject(setup), "ranges", path).amax == pytest.approx(dict(whole.amax))


def test_a_stage_that_makes_held_out_pictures_worse_is_not_taken(setup, monkeypatch, tmp_path):
    def worse(part: Subject, repair: Repair, tries: Tries) -> Proposal:
        wide = {entry.tensor: 10 * entry.amax for entry in part.ranges.tensors}
        return replace(repair, amax=wide), StageResult("ranges", is_taken=True, changed=len(wide))

    monkeypatch.setattr(stages, "_PROPOSERS", {"ranges": worse})
    repair = make_repair(subject(setup), "ranges", tmp_path / "repair.npz")
    assert not repair.amax
    (result,) = repair.stages
    assert not result.is_taken
    assert result.error_after > result.error_before
    assert "not taken" in result.text()


def test_layers_that_few_inputs_were_seen_of_are_left_alone(setup):
    def left_alone(count: int) -> set[str]:
        part = subject(setup, count)
        given = (part.plan, part.ranges, part.options, part.samples)
        found = compensate_weights(*given, threads=1, progress=silent)
        few = {layer for layer, reason in found.skipped if reason.startswith(f"only {64 * count:,} inputs")}
        assert not found.layers.keys() & few
        return few

    assert not left_alone(40)
    assert 0 < len(left_alone(1)) < len(setup.plan.graph.layers)


def test_too_few_samples_leave_everything_as_it_is(setup, tmp_path):
    repair = make_repair(subject(setup, count=7), "auto", tmp_path / "repair.npz")
    assert not repair.amax
    assert not repair.layers
    assert stage_texts(repair.stages) == [
        "ranges, weights: left out, 7 calibration samples, 8 are needed (a larger set, or "
        "--calibration-samples)",
    ]


@pytest.mark.parametrize(
    ("stages", "said", "is_taken"),
    [
        ((GOOD, BAD), "Repair: ranges +10.0 dB (the picture", True),
        ((GOOD, BAD), "held out); not taken: weights -3.0 dB.", True),
        ((BAD,), "Repair: nothing was taken, weights -3.0 dB (the picture", False),
        ((FEW,), "Repair: ranges: left out, too few.", False),
    ],
)
def test_a_repair_is_summed_up_in_a_line(stages, said, is_taken):
    summary = summary_of(stages)
    assert said in summary.text
    assert summary.is_taken is is_taken
    assert summary_of(()) is None


def test_no_repair_changes_nothing(setup, tmp_path):
    path = tmp_path / "repair.npz"
    repair = make_repair(subject(setup), "none", path)
    assert repair.applied(setup.plan, setup.ranges) == (setup.plan, setup.ranges)
    assert not path.exists()


@pytest.mark.parametrize(
    ("clusters", "held"),
    [
        (None, [3, 7, 11, 15]),
        (list("aabbccddeeffgghh"), [6, 7, 14, 15]),
        (list("aaaaaaaabbbbbbbb"), [3, 7, 11, 15]),
    ],
)
def test_samples_that_judge_are_never_fitted_to(clusters, held):
    samples = Noise(16, clusters)
    fitted, judging = fitted_and_held_out(samples)
    assert list(judging._indices) == held
    assert sorted([*fitted._indices, *judging._indices]) == list(range(16))


def test_repaired_codes_are_their_own_codes_again(setup, made):
    """Flavours that hold floats, and TensorRT itself, quantize the repaired weight anew."""
    repair, _ = made
    plan = setup.plan.with_repaired(repair.layers)
    for name, layer in repair.layers.items():
        scale = np.abs(plan.int8_weight(name)).max(
            axis=tuple(axis for axis in range(layer.codes.ndim) if layer.scales.shape[axis] == 1),
            keepdims=True,
        )
        codes = np.rint(plan.int8_weight(name) / (scale / np.float32(127)))
        np.testing.assert_array_equal(codes, layer.codes)
    with replace(setup, plan=plan).engine(INT8) as engine:
        assert engine.applied.assignment(setup.names) == dict.fromkeys(setup.names, INT8)
