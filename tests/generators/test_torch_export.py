import numpy as np
import pytest
import tiny_torch
from tiny_models import run_model
from tiny_torch import torch

from qsens.core.interfaces import Generator
from qsens.generators.exported_program import open_exported_program
from qsens.generators.torch_export import quiet_export
from qsens.generators.torch_module import open_torch
from qsens.graph.prepare import prepare_graph


@pytest.fixture(scope="module")
def generator():
    return open_torch(None, factory="tiny_torch:everything")


@pytest.fixture(scope="module")
def graph(generator):
    return prepare_graph(generator.export())


def test_a_torch_generator_is_a_generator(generator):
    assert isinstance(generator, Generator)
    assert generator.name == "everything"


def test_inputs_outputs_and_batch(graph):
    assert [(spec.name, spec.shape) for spec in graph.inputs] == [("image", (3, 8, 8)), ("audio", (1, 6))]
    assert graph.outputs == ("picture", "features")
    assert graph.can_batch


def test_layers_carry_torch_names_in_execution_order(graph):
    assert [(layer.name, layer.block, layer.kind) for layer in graph.layers] == [
        ("encoder.0.0.conv_block.0", "encoder.0", "Conv"),
        ("encoder.1.0.conv_block.0", "encoder.1", "Conv"),
        ("shared", "shared", "Conv"),
        ("shared@2", "shared", "Conv"),
        ("depthwise", "depthwise", "Conv"),
        ("kernel", "kernel", "Conv"),
        ("volume", "volume", "Conv"),
        ("attention.in_proj", "attention", "MatMul"),
        ("attention.out_proj", "attention", "Gemm"),
        ("audio", "audio", "Conv"),
        ("mapper.0", "mapper.0", "Gemm"),
        ("decoder.0.0.conv_block.0", "decoder.0", "ConvTranspose"),
        ("out", "out", "Conv"),
    ]


def test_the_graph_computes_what_torch_computes(generator, graph):
    inputs = {"image": torch.rand(3, 3, 8, 8), "audio": torch.rand(3, 1, 6)}
    with torch.no_grad():
        wanted = generator.module(**inputs)
    got = run_model(graph.model, {name: value.numpy() for name, value in inputs.items()})
    for name, values in zip(graph.outputs, got, strict=True):
        np.testing.assert_allclose(values, wanted[name].numpy(), rtol=1e-3, atol=1e-4)


def test_normalisations_are_folded_and_counted(graph):
    kinds = [node.op_type for node in graph.model.graph.node]
    assert "BatchNormalization" not in kinds
    assert {"InstanceNormalization", "LayerNormalization"} <= set(kinds)
    first, last = graph.layers[0], graph.layers[11]
    assert first.macs_torchprofile - first.macs == 8 * 8 * 8
    assert last.macs_torchprofile == 6 * 16 * 16 * (8 * 9) + 6 * 16 * 16
    assert first.parameters == 3 * 8 * 9 + 8


def test_true_macs_agree_with_the_flop_counter_of_torch(generator, graph):
    counter = torch.utils.flop_counter.FlopCounterMode(display=False, depth=6)
    with counter, torch.no_grad():
        generator.module(**generator.example_inputs)
    counts = counter.get_flop_counts()
    for layer in graph.layers:
        module = f"Everything.{layer.name}"
        if layer.name != "shared@2" and module in counts and "attention" not in layer.name:
            calls = 2 if layer.name == "shared" else 1
            assert layer.macs * calls == sum(counts[module].values()) // 2, layer.name
    assert f"Everything.{graph.layers[11].name}" in counts


def test_the_model_carries_no_exporter_notes(graph):
    assert not any(node.metadata_props or node.doc_string for node in graph.model.graph.node)


@pytest.mark.slow
def test_exporting_prints_nothing(capfd):
    open_torch(None, factory="tiny_torch:small", input_shapes={"image": (1, 3, 8, 8)}).export()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_module_that_fixes_its_batch_is_exported_with_one_sample():
    generator = open_torch(None, factory="tiny_torch:one_at_a_time", input_shapes={"image": (1, 3, 8, 8)})
    graph = prepare_graph(generator.export())
    assert not graph.can_batch
    assert [layer.name for layer in graph.layers] == ["body.0", "out"]


@pytest.fixture(scope="module")
def program_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "small.pt2"
    batch = {"image": {0: torch.export.Dim("batch")}}
    program = torch.export.export(tiny_torch.small(), (torch.rand(2, 3, 8, 8),), dynamic_shapes=batch)
    torch.export.save(program, path)
    return path


@pytest.mark.slow
def test_an_exported_program_keeps_names_and_its_dynamic_batch(program_file):
    generator = open_exported_program(program_file)
    graph = prepare_graph(generator.export())
    assert isinstance(generator, Generator)
    assert [layer.name for layer in graph.layers] == ["body.0", "out"]
    assert graph.can_batch
    values = np.random.default_rng(0).random((3, 3, 8, 8), np.float32)
    with torch.no_grad():
        wanted = tiny_torch.small()(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(run_model(graph.model, {"image": values})[0], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_file_of_the_optimising_exporter_names_layers_by_their_own_modules():
    with quiet_export():
        program = torch.onnx.export(
            tiny_torch.small(), (torch.zeros(1, 3, 4, 4),), dynamo=True, verbose=False
        )
    layers = prepare_graph(program.model_proto).layers
    assert [layer.name for layer in layers] == ["body.0", "out"]
