import numpy as np
from lowered_models import images, prepared, residual_generator

from qsens.calibration import measure
from qsens.engines.lowering.plan import Placement
from qsens.engines.onnxruntime import OnnxRuntimeBackend


def test_extremes_are_those_of_the_values():
    setup = prepared(residual_generator())
    tensors = setup.plan.calibrated_tensors(Placement.DENSE)
    backend = OnnxRuntimeBackend(threads=1)
    feed = images(2)
    inner = [name for name in tensors if name != "image"]
    seen = dict(
        zip(
            inner,
            backend.open_session(measure.observing_model(setup.graph, tensors)).run(inner, feed),
            strict=True,
        )
    )
    seen["image"] = feed["image"]
    extremes = backend.open_session(measure.extremes_model(setup.graph, tensors)).run(None, feed)
    for name, (low, high) in zip(tensors, extremes, strict=True):
        assert (low, high) == (seen[name].min(), seen[name].max())


def test_observing_changes_no_value():
    setup = prepared(residual_generator())
    backend = OnnxRuntimeBackend(threads=1)
    plain = backend.open_session(setup.graph.model).run(["picture"], images())[0]
    watched = backend.open_session(measure.observing_model(setup.graph, ["picture", "r0"]))
    np.testing.assert_array_equal(watched.run(["picture"], images())[0], plain)


def test_every_calibrated_tensor_is_in_one_group_of_bounded_size(monkeypatch):
    setup = prepared(residual_generator())
    tensors = setup.plan.calibrated_tensors(Placement.DENSE)
    assert list(measure.groups_of_tensors(setup.graph, tensors)) == [list(tensors)]
    monkeypatch.setattr(measure, "LARGEST_GROUP_BYTES", 5000)
    groups = list(measure.groups_of_tensors(setup.graph, tensors))
    assert len(groups) > 1
    assert [name for group in groups for name in group] == list(tensors)


def test_a_tensor_of_unknown_size_is_not_taken_for_a_small_one(monkeypatch):
    graph = prepared(residual_generator()).graph
    largest = 4 * max(int(np.prod(layer.output_shape)) for layer in graph.layers)
    monkeypatch.setattr(measure, "LARGEST_GROUP_BYTES", 2 * largest)
    groups = measure.groups_of_tensors(graph, [f"unknown{index}" for index in range(6)])
    assert [len(group) for group in groups] == [2, 2, 2]


def test_placements_ask_for_what_they_quantize():
    plan = prepared(residual_generator()).plan
    inputs, residual, dense = (
        set(plan.calibrated_tensors(placement))
        for placement in (Placement.INPUTS, Placement.RESIDUAL, Placement.DENSE)
    )
    assert inputs <= residual < dense
    assert {"image", "r0", "r1", "r2", "r3"} <= inputs
    assert "c4" in dense - residual  # the last pre-activation
