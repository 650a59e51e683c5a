import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from lowered_models import images, residual_generator
from onnx import helper
from quantized_models import probe
from tiny_models import conv_model, normal, onnx_model, run_model

openvino = pytest.importorskip("openvino")

from qsens.device import openvino_runtime  # noqa: E402  after the check that openvino is here
from qsens.device.errors import DeviceError  # noqa: E402
from qsens.device.machine import this_cpu_saturates  # noqa: E402
from qsens.device.onnx_nodes import read_onnx_graph  # noqa: E402
from qsens.device.openvino_runtime import OpenVinoRuntime  # noqa: E402
from qsens.device.openvino_steps import CompiledSteps  # noqa: E402

RESIDUAL = residual_generator().SerializeToString()
# What the CPU gets wrong without VNNI is the subject of a test of its own.
EXACT = [False] if this_cpu_saturates() else [False, True]


def step_of(runtime: OpenVinoRuntime, node: str):
    return next(step for step in runtime.executed_layers() if node in step.nodes)


@pytest.mark.parametrize("is_signed", EXACT)
@pytest.mark.parametrize(
    ("operator", "group"), [("Conv", 1), ("Conv", 4), ("Conv", 32), ("ConvTranspose", 1), ("Gemm", 1)]
)
def test_quantized_layers_compute_what_integer_arithmetic_does(operator, group, is_signed):
    made = probe(operator, is_signed=is_signed, group=group)
    runtime = OpenVinoRuntime(made.model.SerializeToString(), threads=1)
    np.testing.assert_array_equal(runtime.run(made.feeds)["y"], made.expected)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "Gemm"])
def test_layers_that_read_non_negative_codes_run_in_int8(operator):
    made = probe(operator, is_signed=False)
    runtime = OpenVinoRuntime(made.model.SerializeToString(), threads=1)
    runtime.run(made.feeds)
    step = step_of(runtime, "layer")
    assert step.precision == "int8"
    assert step.kernel.lower().endswith("i8")
    assert step.note == ""


def test_float_graph_runs_in_float32_under_its_own_names():
    runtime = OpenVinoRuntime(RESIDUAL, threads=1)
    batch = images(3)
    expected = run_model(onnx.load_from_string(RESIDUAL), batch)[0]
    np.testing.assert_allclose(runtime.run(batch)["picture"], expected, atol=2e-6)
    for node in ("first", "middle", "inner", "up", "last"):
        step = step_of(runtime, node)
        assert (step.name, step.precision) == (node, "fp32")
    assert step_of(runtime, "first").nodes == ("first", "relu0")
    assert "sigmoid" in {node for step in runtime.executed_layers() for node in step.nodes}


def test_every_product_of_a_chain_is_found():
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["g0"], "one", transB=1),
        helper.make_node("Relu", ["g0"], ["r0"], "relu"),
        helper.make_node("MatMul", ["r0", "w1"], ["m1"], "two"),
        helper.make_node("Relu", ["m1"], ["r1"], "relu1"),
        helper.make_node("MatMul", ["r1", "w2"], ["y"], "three"),
    ]
    weights = {"w0": normal(24, 16), "b0": normal(24), "w1": normal(24, 32), "w2": normal(32, 8)}
    model = onnx_model(nodes, inputs={"x": ["n", 16]}, outputs={"y": ["n", 8]}, weights=weights)
    runtime = OpenVinoRuntime(model.SerializeToString(), batch=4, threads=1)
    assert [step_of(runtime, node).precision for node in ("one", "two", "three")] == ["fp32"] * 3


def test_names_with_commas_survive():
    model = conv_model()
    model.graph.node[0].name = "block,first 100%2C"
    runtime = OpenVinoRuntime(model.SerializeToString(), threads=1)
    assert step_of(runtime, "block,first 100%2C").name == "block,first 100%2C"


def test_reformats_are_told_from_work():
    steps = OpenVinoRuntime(RESIDUAL, threads=1).executed_layers()
    assert all(not step.nodes for step in steps if step.is_reformat)
    assert all(not step.is_reformat for step in steps if step.nodes)


def test_each_shape_is_compiled_once_and_the_largest_is_told(monkeypatch):
    compiled = []
    whole = OpenVinoRuntime._compile

    def counted(self, shapes, more):
        compiled.append(dict(shapes)["image"])
        return whole(self, shapes, more)

    monkeypatch.setattr(OpenVinoRuntime, "_compile", counted)
    runtime = OpenVinoRuntime(RESIDUAL, batch=2, threads=1)
    for count in (2, 3, 2, 3):
        assert len(runtime.run(images(count))["picture"]) == count
    runtime.executed_layers()
    assert compiled == [(2, 3, 8, 8), (3, 3, 8, 8)]


def test_steps_of_free_sides_are_told_after_a_run():
    runtime = OpenVinoRuntime(conv_model(side="side").SerializeToString(), batch=1, threads=1)
    assert runtime.executed_layers() == ()
    runtime.run(images(1))
    assert step_of(runtime, "first").precision == "fp32"


def test_step_times_are_those_of_executed_layers():
    runtime = OpenVinoRuntime(RESIDUAL, threads=1)
    times = runtime.step_times_ms(images(2), 3)
    runtime.run(images(2))
    assert set(times) <= {step.name for step in runtime.executed_layers()}
    assert {"first", "middle", "inner", "up", "last"} <= set(times)
    assert all(value >= 0 for value in times.values())


def test_narrower_floats_are_refused(monkeypatch):
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("OpenVINO has no BF16 on this CPU")
    wished = {"INFERENCE_PRECISION_HINT": "bf16"}
    monkeypatch.setattr(OpenVinoRuntime, "_supported_settings", lambda self, threads: wished)
    with pytest.raises(DeviceError, match="bfloat16"):
        OpenVinoRuntime(RESIDUAL, batch=1)


def test_bad_models_and_bad_feeds_are_device_errors(tmp_path):
    with pytest.raises(DeviceError, match="no ONNX model"):
        OpenVinoRuntime(RESIDUAL[:-400])
    unknown = onnx.load_from_string(RESIDUAL)
    unknown.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(DeviceError, match="NoSuchOperator"):
        OpenVinoRuntime(unknown.SerializeToString(), batch=1)
    runtime = OpenVinoRuntime(RESIDUAL, threads=1)
    with pytest.raises(DeviceError, match="image 1x5x8x8"):
        runtime.run({"image": np.zeros((1, 5, 8, 8), np.float32)})
    with pytest.raises(DeviceError, match="picture"):
        runtime.run({"picture": np.zeros((1, 3, 8, 8), np.float32)})
    path = tmp_path / "model.onnx"
    path.write_bytes(RESIDUAL)
    assert OpenVinoRuntime(path).size_bytes == len(RESIDUAL)


def test_layers_are_marked_where_the_cpu_saturates(monkeypatch):
    for saturates, word in ((True, "saturates"), (None, "may saturate")):
        monkeypatch.setattr(openvino_runtime, "this_cpu_saturates", lambda value=saturates: value)
        notes = []
        for is_signed in (True, False):
            made = probe("Conv", is_signed=is_signed)
            notes.append(step_of(OpenVinoRuntime(made.model.SerializeToString()), "layer").note)
        assert notes[0].startswith(word)
        assert notes[1] == ""


class FakeStep:
    """A step of a compiled model as OpenVINO describes it."""

    def __init__(self, name: str, layer_type: str, kernel: str, precision: str, nodes: str, sources=()):
        self.sources = sources
        self.name = name
        facts = {
            "layerType": layer_type,
            "primitiveType": kernel,
            "runtimePrecision": precision,
            "originalLayersNames": nodes,
        }
        self.facts = {key: SimpleNamespace(value=value) for key, value in facts.items()}

    def get_friendly_name(self):
        return self.name

    def get_rt_info(self):
        return self.facts

    def get_input_size(self):
        return len(self.sources)

    def input_value(self, place):
        return SimpleNamespace(get_node=lambda: self.sources[place])


@pytest.mark.parametrize(
    ("kernel", "precision", "told"),
    [
        ("jit_avx2_I8", "u8", "int8"),
        ("brgconv_avx512_1x1_I8", "i8", "int8"),
        ("gemm_acl_i8", "i8", "int8"),
        ("brgconv_avx2_f32", "i8", "fp32"),  # a free batch: the type alone would overstate
        ("jit_uni_I8", "f32", "fp32"),
        ("brgconv_avx512_f32", "f32", "fp32"),
        ("gemm_acl_f16", "f16", "fp16"),
        ("brgconv_avx512_bf16", "bf16", None),
    ],
)
def test_precision_is_that_of_kernel_and_type_together(kernel, precision, told):
    graph = read_onnx_graph(RESIDUAL)
    model = SimpleNamespace(
        get_ordered_ops=lambda: [FakeStep("up", "Deconvolution", kernel, precision, "up,relu3")]
    )
    (step,) = CompiledSteps(model, graph).executed({})
    assert (step.precision, step.nodes) == (told, ("up", "relu3"))
    assert step.note == ("bf16" if told is None else "")


def test_layers_joined_into_one_kernel_are_not_told():
    constant = FakeStep("weights", "Const", "unknown_f32", "f32", "weights")
    steps = [
        constant,
        FakeStep("reshaped", "Reshape", "unknown_f32", "f32", "relu0", [constant]),
        FakeStep("last", "Subgraph", "jit_avx512_f32", "f32", "inner,relu2,last"),
        FakeStep("relu1", "Subgraph", "jit_avx512_f32", "f32", "middle/Bias,relu1"),
        FakeStep("middle", "Convolution", "jit_avx512_f32", "f32", "middle"),
    ]
    read = CompiledSteps(SimpleNamespace(get_ordered_ops=lambda: steps), read_onnx_graph(RESIDUAL))
    assert read.hidden_layers() == {"inner", "last"}
    told = {step.name: step.precision for step in read.executed({})}
    assert told == {"last": None, "relu1": "fp32", "middle": "fp32"}


SATURATION_SCRIPT = """
import json, sys
import numpy as np
sys.path[:0] = sys.argv[1:]
from quantized_models import probe
from qsens.device.openvino_runtime import OpenVinoRuntime
found = []
for operator in ("Conv", "ConvTranspose"):
    for is_signed, limit in ((False, 127), (True, 127), (True, 63)):
        made = probe(operator, is_signed=is_signed, weight_limit=limit)
        runtime = OpenVinoRuntime(made.model.SerializeToString(), threads=1)
        wrong = float(np.mean(runtime.run(made.feeds)["y"] != made.expected))
        step = next(step for step in runtime.executed_layers() if "layer" in step.nodes)
        found.append([operator, is_signed, limit, step.precision, step.note, wrong])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_without_vnni_what_is_marked_is_wrong_and_what_is_not_is_exact():
    if (
        this_cpu_saturates({}, onednn=False) is not False
        or this_cpu_saturates({"ONEDNN_MAX_CPU_ISA": "AVX2"}) is not True
    ):
        pytest.skip("needs an x86 CPU with VNNI, which oneDNN can be told not to use")
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SATURATION_SCRIPT, str(tests), str(tests.parent)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    int8 = [row for row in found if row[3] == "int8"]
    assert {(row[0], row[1], row[2]) for row in int8} >= {("Conv", False, 127), ("Conv", True, 127)}
    for operator, is_signed, limit, _, note, wrong in int8:
        if is_signed and limit == 127:
            assert note == "saturates"
            assert wrong > 0.5
        else:
            assert (operator, note, wrong) == (operator, "", 0.0)
