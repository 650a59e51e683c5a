import numpy as np
import onnx
import pytest
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator

from qsens.core.errors import BuildError, SpecError
from qsens.core.layer import uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.engines.lowering.lower import LoweredGraph, lower_graph
from qsens.engines.lowering.lowered_graph import DetachedModel
from qsens.engines.lowering.plan import LoweringOptions, Placement
from qsens.engines.onnxruntime import OnnxRuntimeBackend, applied_map, probe_model, probe_sample


@pytest.mark.parametrize("placement", list(Placement))
def test_applied_is_what_the_session_holds(placement):
    setup = prepared(residual_generator())
    mixed = dict(zip(setup.names, [INT8, FP16, FP32, INT8, FP16], strict=True))
    for wanted in (mixed, dict.fromkeys(setup.names, FP32), dict.fromkeys(setup.names, FP16)):
        with setup.engine(wanted, placement=placement) as engine:
            assert engine.applied == PrecisionMap.over(wanted)


def test_applied_is_not_an_echo_of_the_request():
    setup = prepared(residual_generator())
    built = setup.lower(dict(zip(setup.names, [INT8, INT8, FP32, FP32, FP32], strict=True)))
    claimed = LoweredGraph(built.detached, "exact", PrecisionMap(INT8), setup.graph)
    with OnnxRuntimeBackend(threads=1).build(claimed) as engine:
        assert [engine.applied[name] for name in setup.names] == [INT8, INT8, FP32, FP32, FP32]


def test_layer_that_lost_its_quantizer_reads_back_as_fp32():
    setup = prepared(residual_generator())
    model = onnx.ModelProto()
    model.CopyFrom(setup.lower(INT8).model)
    first = next(node for node in model.graph.node if node.name == "first")
    first.input[0] = "image"
    assert applied_map(model, setup.graph)["first"] is FP32
    assert applied_map(model, setup.graph)["middle"] is INT8


def test_layer_that_the_session_dropped_reads_back_as_fp32():
    setup = prepared(residual_generator())
    model = onnx.ModelProto()
    model.CopyFrom(setup.lower(INT8).model)
    next(node for node in model.graph.node if node.name == "last").name = "renamed"
    assert applied_map(model, setup.graph)["last"] is FP32


def test_size_counts_the_bytes_of_a_deployed_file():
    setup = prepared(residual_generator())
    parameters = sum(layer.parameters for layer in setup.graph.layers)
    sizes = []
    for precision in (FP32, FP16, INT8):
        with setup.engine(precision) as engine:
            sizes.append(engine.size_bytes)
    assert sizes == [4 * parameters, 2 * parameters, parameters]


def test_unknown_provider_names_those_that_are_here():
    with pytest.raises(SpecError, match="no provider 'tpu'") as caught:
        OnnxRuntimeBackend(provider="tpu")
    assert "cpu" in caught.value.hint


def test_probe_tells_exact_sums_from_rounded_ones():
    codes, expected = probe_sample()
    session = OnnxRuntimeBackend(threads=1).open_session(probe_model())
    np.testing.assert_array_equal(session.run(None, {"codes": codes})[0], expected)
    assert np.abs(expected).max() > 2**16  # beyond what half precision sums could hold


def test_graph_of_another_flavour_is_refused():
    setup = prepared(residual_generator())
    lowered = setup.lower(INT8)
    with pytest.raises(BuildError, match="'strong'"):
        OnnxRuntimeBackend().build(LoweredGraph(lowered.detached, "strong", lowered.requested, lowered.graph))


def test_graph_that_the_runtime_refuses_is_a_build_error():
    setup = prepared(residual_generator())
    model = onnx.ModelProto()
    model.CopyFrom(setup.lower(FP32).model)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BuildError, match="NoSuchOperator"):
        OnnxRuntimeBackend().build(
            LoweredGraph(DetachedModel(model), "exact", PrecisionMap(FP32), setup.graph)
        )


def test_same_inputs_twice_give_the_same_images():
    setup = prepared(residual_generator())
    with setup.engine(INT8) as engine:
        np.testing.assert_array_equal(engine.run(images())["picture"], engine.run(images())["picture"])


@pytest.mark.gpu
def test_cuda_provider_keeps_integer_sums_exact():
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("no CUDA provider in this ONNX Runtime: needs onnxruntime-gpu and an NVIDIA GPU")
    setup = prepared(residual_generator())
    lowered = setup.lower(INT8)
    with (
        OnnxRuntimeBackend(provider="cuda").build(lowered) as cuda,
        OnnxRuntimeBackend().build(lowered) as cpu,
    ):
        np.testing.assert_array_equal(cuda.run(images())["picture"], cpu.run(images())["picture"])


def test_optimised_sessions_say_which_layers_are_int8():
    setup = prepared(residual_generator(16), amax=24.0)
    backend = OnnxRuntimeBackend(threads=1, optimised=True)
    wanted = uniform_map(setup.graph.layers, INT8).with_layers([setup.names[0]], FP16)
    lowered = lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(), backend.flavour)
    with backend.build(lowered) as engine:
        engine.run(images())
        kernels = {row.node: row.actual for row in engine.audit}
        assert engine.applied == PrecisionMap.over(
            {layer.name: Precision(kernels[layer.node]) for layer in setup.graph.layers}
        )
        differing = [row.layer for row in engine.audit if row.is_mismatch]
    assert kernels["middle"] == "int8"  # convolution, activation and quantizer in one kernel
    assert kernels["up"] == "fp32"  # there is no integer kernel of a transposed convolution
    assert kernels["first"] == "fp32"  # asked for as fp16, expected as fp32
    assert "up" in differing
    assert not {"first", "middle"} & set(differing)


def test_optimised_engine_is_as_far_from_fp32_as_the_exact_graph():
    setup = prepared(residual_generator(16), amax=24.0)
    backend = OnnxRuntimeBackend(threads=1, optimised=True)
    everywhere = uniform_map(setup.graph.layers, INT8)
    with setup.engine(FP32) as exact:
        float_pictures = exact.run(images(32))["picture"]
    with setup.engine(INT8) as exact:
        simulated = exact.run(images(32))["picture"] - float_pictures
    lowered = lower_graph(setup.plan, everywhere, setup.ranges, LoweringOptions(), "u8")
    with backend.build(lowered) as engine:
        shipped = engine.run(images(32))["picture"] - float_pictures
    decibels = 10 * np.log10(np.mean(simulated**2) / np.mean(shipped**2))
    assert abs(decibels) < 0.1


def test_optimised_sessions_take_the_graph_of_cpus_and_run_there(monkeypatch):
    setup = prepared(residual_generator())
    with pytest.raises(BuildError, match="'exact'") as caught:
        OnnxRuntimeBackend(optimised=True).build(setup.lower(INT8))
    assert "u8" in caught.value.hint
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(SpecError, match="'cuda'"):
        OnnxRuntimeBackend(provider="cuda", optimised=True)
