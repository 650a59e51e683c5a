"""The graph of a bundle: it reads no file outside, and the document names all its layers and outputs."""

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsens.device.bundle_files import read_bundle
from qsens.device.bundle_model import open_bundle
from qsens.device.errors import DeviceError
from qsens.device.onnx_nodes import external_locations, read_onnx_graph

LAYERS = [
    {"layer": name, "node": f"/{name}", "requested": "int8", "expected": "int8"} for name in ("one", "two")
]
VALUES = {
    "schema_version": 1,
    "runtime": "onnxruntime",
    "flavour": "u8",
    "batch": 1,
    "inputs": [{"name": "image", "dtype": "float32", "shape": [4], "is_batched": True}],
    "outputs": ["picture"],
    "picture": {"output": "picture", "value_range": [0, 1]},
    "layers": LAYERS,
    "float_pins": [],
    "goldens": {"samples": [0], "bounds": {"fp32_psnr_db": 30, "exact_psnr_db": 30}},
    "model": {"name": "net", "graph": "abc"},
    "map": {"digest": "def", "deployed": {"default": "int8", "overrides": {}}},
}


def model(*more, initializers=()):
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["image", "weights"], ["between"], name="/one"),
        helper.make_node("MatMul", ["between", "weights"], ["picture"], name="/two"),
        helper.make_node("MatMul", ["between", "image"], ["unused"], name="/no-layer"),
        *more,
    ]
    image, picture = (helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("image", "picture"))
    return helper.make_model(helper.make_graph(nodes, "graph", [image], [picture], [weights, *initializers]))


def outside(location, **more):
    """A tensor whose values lie in another file."""
    tensor = TensorProto(name="outside", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def node_with(**attributes):
    return helper.make_node("Identity", ["image"], ["copy"], name="/copy", **attributes)


def graph_with(*nodes, initializers=()):
    return helper.make_graph(list(nodes), "inner", [], [], list(initializers))


def in_function(location):
    made = model()
    made.functions.add(name="f", domain="d").node.append(node_with(value=outside(location)))
    return made


def in_training(location):
    made = model()
    made.training_info.add().algorithm.CopyFrom(graph_with(initializers=[outside(location)]))
    return made


def sparse(location):
    return helper.make_sparse_tensor(outside(location), helper.make_tensor("places", 7, [4], range(4)), [9])


def in_sparse_initializer(location):
    made = model()
    made.graph.sparse_initializer.append(sparse(location))
    return made


def twice(location):
    tensor = outside("model.onnx.data")
    tensor.external_data.add(key="location", value=location)
    return model(initializers=[tensor])


PLACES = {
    "initializer": lambda location: model(initializers=[outside(location)]),
    "second location": twice,
    "attribute": lambda location: model(node_with(value=outside(location))),
    "attributes": lambda location: model(node_with(values=[outside(location)])),
    "sparse attribute": lambda location: model(node_with(value=sparse(location))),
    "sparse initializer": in_sparse_initializer,
    "branch": lambda location: model(node_with(body=graph_with(initializers=[outside(location)]))),
    "branches": lambda location: model(node_with(bodies=[graph_with(node_with(value=outside(location)))])),
    "function": in_function,
    "training": in_training,
}


@pytest.fixture
def folder(tmp_path):
    onnx.save(model(), tmp_path / "model.onnx")
    (tmp_path / "bundle.json").write_text(json.dumps(VALUES))
    return tmp_path


def test_a_bundle_of_its_graph_is_opened(folder):
    assert open_bundle(folder) == read_bundle(folder)


def test_weights_may_lie_in_the_file_of_the_bundle(folder):
    made = model(initializers=[outside("model.onnx.data", offset="0")])
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    open_bundle(folder)


@pytest.mark.parametrize("place", PLACES)
def test_a_file_outside_is_refused_wherever_the_graph_names_it(folder, place):
    made = PLACES[place]("../secret")
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(DeviceError, match=r"refers to the file '\.\./secret', which is no part of a bundle"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "location",
    ["/etc/hostname", "bundle.json", "./model.onnx.data", "", "*/_ORT_MEM_ADDR_/*", "model.onnx.data/"],
)
def test_only_the_one_file_of_weights_may_be_named(location):
    made = model(initializers=[outside(location)])
    assert external_locations(made.SerializeToString()) == {location}


def lacks_a_layer(values):
    values["layers"] = LAYERS[:1]


def has_another_node(values):
    values["layers"] = [*LAYERS, {**LAYERS[0], "layer": "three", "node": "/three"}]


def pins_another_node(values):
    values["float_pins"] = [["/four", "fp16"]]


def has_another_output(values):
    values["outputs"] = ["picture", "depth"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacks_a_layer, "'layers' lack the node '/two' of model.onnx"),
        (has_another_node, "name the node '/three', which model.onnx has not"),
        (pins_another_node, "name the node '/four', which model.onnx has not"),
        (has_another_output, "'outputs' are picture, depth, those of model.onnx picture"),
    ],
)
def test_a_document_of_another_graph_is_refused(folder, change, message):
    values = json.loads(json.dumps(VALUES))
    change(values)
    (folder / "bundle.json").write_text(json.dumps(values))
    with pytest.raises(DeviceError, match=message):
        open_bundle(folder)


def test_a_product_with_constants_that_is_no_layer_is_spoken_of(folder):
    batched = numpy_helper.from_array(np.ones((2, 4, 4), np.float32), "batched")
    node = helper.make_node("MatMul", ["between", "batched"], ["more"], name="/batched")
    onnx.save(model(node, initializers=[batched]), folder / "model.onnx")
    with pytest.raises(DeviceError, match="'layers' lack the node '/batched'"):
        open_bundle(folder)
    work = {"in_no_layer": [{"name": "/batched", "kind": "MatMul", "macs": 32, "reason": "no matrix"}]}
    (folder / "bundle.json").write_text(json.dumps({**VALUES, "all_work": work}))
    assert open_bundle(folder).nodes_in_no_layer == {"/batched"}


@pytest.mark.parametrize("work", [None, [], "x", {"in_no_layer": 3}, {"in_no_layer": [3, {"name": 4}]}])
def test_work_that_is_no_record_names_no_node(folder, work):
    (folder / "bundle.json").write_text(json.dumps({**VALUES, "all_work": work}))
    assert open_bundle(folder).nodes_in_no_layer == frozenset()


@pytest.mark.parametrize(
    "content", [b"", b"no graph", bytes(100), b"\x3a\xff\xff\xff\x7f", b"\x3a\x04\x0a\x02\x2a\x7f"]
)
def test_a_file_that_is_no_graph_is_refused(folder, content):
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(DeviceError):
        open_bundle(folder)


def test_a_pipe_and_an_absent_file_are_no_graph(folder):
    (folder / "model.onnx").unlink()
    with pytest.raises(DeviceError, match="cannot read"):
        open_bundle(folder)
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(DeviceError, match="it is a pipe"):
        open_bundle(folder)


def test_a_graph_that_runs_in_a_circle_ends():
    circle = [
        helper.make_node("Cast", [a], [b], name=a, to=1) for a, b in (("x", "y"), ("y", "z"), ("z", "x"))
    ]
    graph = read_onnx_graph(model(*circle).SerializeToString())
    assert not graph.is_constant("x")
    assert graph.layer_before("x") == ()
    assert set(graph.names_behind(graph.producers["x"])) == {"x", "y", "z"}
    assert [node.name for node in graph.weighted_nodes()] == ["/one", "/two"]
