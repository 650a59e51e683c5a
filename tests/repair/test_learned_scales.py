"""Channel scales that are learned: the graph with gradients, what they bring, stops, and what they need."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from lowered_models import INT8, Prepared, prepared, residual_generator
from test_channel_scales import IMAGE, branched_generator
from test_stages import OUTLIER, Noise, conv_pair, error_of, subject

from qsens.core.errors import BuildError
from qsens.core.precision import Precision
from qsens.engines.lowering.plan import Grid, LoweringOptions, PlacedMap, Placement
from qsens.repair import stages
from qsens.repair.channel_scales import ScaleLayout, scalable_layers, scaled_plan
from qsens.repair.repair import load_repair
from qsens.repair.stages import make_repair

torch = pytest.importorskip("torch")
from qsens.repair import gradient_graph, learned_scales  # noqa: E402  (they need torch)

GENERATORS = {
    "residual": (
        residual_generator,
        {"image": np.random.default_rng(1).random((2, 3, 8, 8), dtype=np.float32)},
    ),
    "branched": (branched_generator, IMAGE),
}


def uneven_pair() -> Prepared:
    """Two convolutions; two of the four channels between them are eight times smaller than the others."""
    even = prepared(conv_pair("Relu"), amax=OUTLIER, amaxes={"image": 1.0})
    return replace(even, plan=scaled_plan(even.plan, {"first": np.array([0, 3, 3, 0], np.int8)}))


@pytest.fixture
def few_steps(monkeypatch):
    """Steps that are few and large: for tests."""
    monkeypatch.setattr(learned_scales, "LEARNING_STEPS", 24)
    monkeypatch.setattr(learned_scales, "SCALE_RATE", 0.3)


@pytest.mark.parametrize("placement", [Placement.RESIDUAL, Placement.DENSE])
@pytest.mark.parametrize("grid", Grid)
@pytest.mark.parametrize("name", GENERATORS)
def test_the_graph_with_gradients_computes_what_int8_does(name, grid, placement, monkeypatch):
    monkeypatch.setattr(gradient_graph, "LEFT_OF_ROUNDING", 1.0)
    make, feed = GENERATORS[name]
    setup, options = prepared(make()), LoweringOptions(placement, grid=grid)
    entries = scalable_layers(setup.plan)
    exponents = {entry.layer: np.arange(entry.channels) % 3 - 1 for entry in entries}
    changed = replace(setup, plan=scaled_plan(setup.plan, exponents))
    lowered = changed.lower(INT8, placement=placement, grid=grid)
    placed = PlacedMap(setup.plan, lowered.requested, setup.ranges, options)
    thresholds = {entry.tensor: torch.tensor(np.log2(entry.amax)) for entry in setup.ranges.tensors}
    vector = np.concatenate([[0], *(exponents[entry.layer] for entry in entries)]).astype(np.float32)
    graph = gradient_graph.GradientGraph(setup.plan, options, ScaleLayout.of(setup.plan, entries))
    found = graph.run(feed, placed, thresholds, torch.from_numpy(vector))
    with changed.engine(INT8, placement=placement, grid=grid) as engine:
        ((picture, values),) = engine.run(feed).items()
    with setup.engine(Precision.FP32) as engine:
        (plain,) = engine.run(feed).values()
    difference = np.square(found[picture].detach().numpy() - values).mean()
    # Linear resizing of codes makes halves of codes, which either may round up or down.
    share = 0.15 if (name, placement) == ("branched", Placement.DENSE) else 1e-4
    assert difference < share * np.square(values - plain).mean()


def test_channels_of_unlike_sizes_get_scales_of_their_own(tmp_path, few_steps):
    setup, path = uneven_pair(), tmp_path / "repair.npz"
    repair = make_repair(subject(setup, 16), "ranges,scales", path)
    assert [stage.is_taken for stage in repair.stages] == [True, True]
    assert (repair.exponents["first"][1:3] < repair.exponents["first"][[0, 3]]).all()
    again = load_repair(path, (repair.digest,))
    np.testing.assert_array_equal(again.exponents["first"], repair.exponents["first"])
    ranges_alone = make_repair(subject(setup, 16), "ranges", tmp_path / "ranges.npz")
    assert error_of(setup, repair, Noise(24)) < 0.8 * error_of(setup, ranges_alone, Noise(24))


def test_learning_goes_on_where_it_was_stopped(tmp_path, few_steps, monkeypatch):
    setup, path = uneven_pair(), tmp_path / "repair.npz"
    whole = make_repair(subject(setup, 8), "scales", tmp_path / "whole.npz")
    gradient, steps = learned_scales._Learning._gradient, []

    def stopping(self: object, values: np.ndarray, step: int) -> np.ndarray:
        steps.append(step)
        if len(steps) == 15:
            raise KeyboardInterrupt
        return gradient(self, values, step)

    monkeypatch.setattr(learned_scales._Learning, "_gradient", stopping)
    with pytest.raises(KeyboardInterrupt):
        make_repair(subject(setup, 8), "scales", path)
    again = make_repair(subject(setup, 8), "scales", path)
    assert steps[15:] == list(range(10, 24))
    assert again.amax == whole.amax
    np.testing.assert_array_equal(again.exponents["first"], whole.exponents["first"])
    assert not (tmp_path / "repair-tries.jsonl").exists()


def test_maps_that_are_drawn_are_int8_up_to_a_layer():
    layers = prepared(residual_generator()).graph.layers
    draw = np.random.default_rng(0)
    counts = []
    for _ in range(50):
        kinds = list(
            learned_scales._drawn_map(layers, draw).assignment(layer.name for layer in layers).values()
        )
        counts.append(kinds.count(Precision.INT8))
        assert kinds == [Precision.INT8] * counts[-1] + [Precision.FP32] * (len(layers) - counts[-1])
    assert min(counts) >= 1
    assert len(set(counts)) > 2


@pytest.mark.parametrize(
    ("activation", "has_torch", "said"),
    [
        ("Sigmoid", True, "no layer hands its channels to other layers alone, through activations like ReLU"),
        ("Relu", False, "torch is not installed (pip install 'qsens[torch]'"),
    ],
)
def test_what_scales_need_is_said(activation, has_torch, said, tmp_path, monkeypatch):
    if not has_torch:
        monkeypatch.setattr(stages, "find_spec", lambda name: None)
    repair = make_repair(subject(prepared(conv_pair(activation), amax=OUTLIER)), "scales", tmp_path / "r.npz")
    assert repair.stages[0].text().startswith(f"scales: left out, {said}")


def test_an_operator_that_torch_does_not_have_is_named(tmp_path, monkeypatch):
    def refused(view: object) -> Sequence[Mapping[str, object]]:
        raise BuildError("node 'odd' (Odd) has no form")

    monkeypatch.setattr(gradient_graph, "operation_of", refused)
    repair = make_repair(subject(prepared(conv_pair("Relu"), amax=OUTLIER)), "scales", tmp_path / "r.npz")
    assert (
        repair.stages[0].text()
        == "scales: left out, gradients go through torch, and node 'odd' (Odd) has no form"
    )
