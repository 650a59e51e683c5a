"""Batching, shapes and work are told from feeds of different values, real ones where there are any."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_models import normal, onnx_model

from qsens.core.errors import LoadError
from qsens.graph.prepare import prepare_graph


def graph_with(*nodes, inputs=None, types=None, weights=None, outputs=("z",)):
    """A 1x1 convolution `x` to `y`, then the given nodes; inputs without a type are float."""
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    model = onnx_model(
        [conv, *nodes],
        inputs={"x": ["n", 3, 4, 4], **(inputs or {})},
        outputs=dict.fromkeys(outputs),
        weights={"w": normal(3, 3, 1, 1), **(weights or {})},
    )
    for value in model.graph.input:
        if value.name in (types or {}):
            value.type.tensor_type.elem_type = types[value.name]
    return model


def samples_of(**inputs):
    """Three samples with different pictures; each keyword gives the three values of another input."""
    return [
        {
            "x": normal(3, 4, 4, seed=place),
            **{name: np.asarray(values[place]) for name, values in inputs.items()},
        }
        for place in range(3)
    ]


def mixing_batch_mean():
    nodes = [
        helper.make_node("ReduceMean", ["y"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["y", "mean"], ["z"]),
    ]
    return graph_with(*nodes), samples_of()


def mixing_attention():
    nodes = [
        helper.make_node("Reshape", ["y", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "columns"], ["likeness"]),
        helper.make_node("Softmax", ["likeness"], ["attention"], axis=1),
        helper.make_node("MatMul", ["attention", "rows"], ["z"]),
    ]
    return graph_with(*nodes, weights={"flat": np.array([-1, 48], np.int64)}), samples_of()


def mixing_labels():
    """The largest label of the batch scales all its pictures: made-up labels may all be alike."""
    nodes = [
        helper.make_node("ReduceMax", ["label"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["scale"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["y", "scale"], ["z"]),
    ]
    model = graph_with(*nodes, inputs={"label": ["n"]}, types={"label": TensorProto.INT64})
    return model, samples_of(label=np.array([1, 5, 3]))


def mixing_flags():
    nodes = [
        helper.make_node("Cast", ["flag"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["number"], ["scale"], keepdims=0),
        helper.make_node("Mul", ["y", "scale"], ["z"]),
    ]
    model = graph_with(*nodes, inputs={"flag": ["n"]}, types={"flag": TensorProto.BOOL})
    return model, samples_of(flag=np.array([True, False, True]))


@pytest.mark.parametrize("with_samples", [True, False])
@pytest.mark.parametrize("made", [mixing_batch_mean, mixing_attention, mixing_labels, mixing_flags])
def test_samples_that_change_each_other_run_one_at_a_time(made, with_samples):
    model, samples = made()
    graph = prepare_graph(model, samples=samples if with_samples else ())
    assert not graph.can_batch
    assert "change each other's output 'z'" in graph.why_single


def test_one_sample_alone_shows_mixing_too():
    model, samples = mixing_batch_mean()
    assert not prepare_graph(model, samples=samples[:1]).can_batch


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            graph_with(
                helper.make_node("Reshape", ["y", "sides"], ["z"]),
                weights={"sides": np.array([1, 3, 16], np.int64)},
            ),
            "a batch of two does not run",
        ),
        (
            graph_with(
                helper.make_node("Reshape", ["y", "sides"], ["z"]),
                weights={"sides": np.array([1, -1], np.int64)},
            ),
            "output 'z' has no batch axis",
        ),
        (
            graph_with(helper.make_node("ReduceMean", ["y"], ["mean"], keepdims=0), outputs=("y", "mean")),
            "output 'mean' has no batch axis",
        ),
    ],
)
def test_the_reason_for_one_at_a_time_is_given(model, reason):
    assert reason in prepare_graph(model, samples=samples_of()).why_single


def test_inputs_without_batch_axis_do_not_keep_a_graph_from_batching():
    model = graph_with(helper.make_node("Mul", ["y", "gain"], ["z"]), inputs={"gain": [1]})
    graph = prepare_graph(model, samples=samples_of(gain=np.array([[0.1], [0.5], [0.9]], np.float32)))
    assert graph.can_batch


def resizing(kind, side=4):
    """Conv, Resize by an input, Conv: the input is a ratio or a size."""
    wanted = ["y", "", "all"] if kind == "ratio" else ["y", "", "", "all"]
    fixed = np.ones(2, np.float32) if kind == "ratio" else np.array([1, 3], np.int64)
    nodes = [
        helper.make_node("Concat", ["fixed", kind], ["all"], axis=0),
        helper.make_node("Resize", wanted, ["up"], mode="nearest"),
        helper.make_node("Conv", ["up", "v"], ["z"], name="high"),
    ]
    return graph_with(
        *nodes,
        inputs={"x": ["n", 3, side, side], kind: [2]},
        types={} if kind == "ratio" else {kind: TensorProto.INT64},
        weights={"fixed": fixed, "v": normal(3, 3, 1, 1, seed=1)},
    )


RATIOS = np.full((3, 2), 3, np.float32)
SIZES = np.full((3, 2), 12, np.int64)


@pytest.mark.parametrize(("kind", "values"), [("ratio", RATIOS), ("size", SIZES)])
def test_sizes_that_follow_values_are_those_of_the_samples(kind, values):
    graph = prepare_graph(resizing(kind), samples=samples_of(**{kind: values}))
    assert [layer.output_shape for layer in graph.layers] == [(1, 3, 4, 4), (1, 3, 12, 12)]
    assert graph.layers[1].macs == 12 * 12 * 3 * 3
    assert graph.observed == ("high",)
    assert graph.notes == ()


def test_sizes_that_differ_among_samples_are_said_to_be_the_first_ones():
    ratios = np.array([[2, 2], [3, 3], [2, 2]], np.float32)
    graph = prepare_graph(resizing("ratio"), samples=samples_of(ratio=ratios))
    assert graph.layers[1].output_shape == (1, 3, 8, 8)
    assert "'high' differ from sample to sample" in graph.notes[0]


def test_sizes_of_made_up_inputs_are_said_to_be_so():
    (note,) = prepare_graph(resizing("ratio", side=32)).notes
    assert "'high' are those of a run on made-up inputs" in note
    assert "--calibration" in note


def test_a_made_up_size_that_does_not_run_leads_to_samples():
    with pytest.raises(LoadError, match="cannot run on x 1x3x4x4, size 2") as caught:
        prepare_graph(resizing("size"))
    assert "made up for 'size' (int64, 0 and 1)" in caught.value.hint
    assert "--calibration SET" in caught.value.hint


def test_an_index_that_samples_keep_within_bounds_runs():
    """Of labels that begin at 7, those that are made up are outside the table."""
    nodes = [
        helper.make_node("Sub", ["label", "seven"], ["row"]),
        helper.make_node("Gather", ["table", "row"], ["gain"], axis=0),
        helper.make_node("Mul", ["y", "gain"], ["z"]),
    ]
    model = graph_with(
        *nodes,
        inputs={"label": []},
        types={"label": TensorProto.INT64},
        weights={"seven": np.array(7, np.int64), "table": normal(3, 1, 1, seed=4)},
    )
    with pytest.raises(LoadError, match="cannot run"):
        prepare_graph(model)
    assert prepare_graph(model, samples=samples_of(label=np.array([7, 8, 9]))).can_batch
