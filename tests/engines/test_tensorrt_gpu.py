"""The backend on a real GPU; what everything else here only shows against fakes."""

import numpy as np
import pytest
from lowered_models import FP16, FP32, INT8, images, prepared, residual_generator

from qsens.core.precision import PrecisionMap
from qsens.device.audit import mismatches
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_module import pack_plan, unpack_plan
from qsens.device.tensorrt_runtime import TensorRtRuntime
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.engines.tensorrt import TensorRtBackend, problem

_PROBLEM = problem()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(_PROBLEM is not None, reason=f"no TensorRT to run: {_PROBLEM}"),
]
# One step of the 8-bit picture.
ONE_STEP = 1 / 255


@pytest.fixture(scope="module")
def backend():
    return TensorRtBackend(max_batch=4)


@pytest.mark.parametrize(
    "precisions", [(FP32,) * 5, (FP16,) * 5, (INT8,) * 5, (INT8, FP16, FP32, INT8, FP16)]
)
def test_an_engine_makes_the_pictures_of_the_simulator(backend, precisions):
    setup = prepared(residual_generator(32))
    wanted = PrecisionMap.over(dict(zip(setup.names, precisions, strict=True)))
    options = LoweringOptions()
    exact = lower_graph(setup.plan, wanted, setup.ranges, options)
    with OnnxRuntimeBackend(threads=1).build(exact) as simulator:
        expected = simulator.run(images(11))["picture"]
    graph = lower_graph(setup.plan, wanted, setup.ranges, options, flavour=backend.flavour)
    with backend.build(graph) as engine:
        found = engine.run(images(11))["picture"]
        wrong = {row.layer for row in mismatches(engine.audit)}
        times = engine.device_engine.step_times_ms(images(4), 5)
    # Transposed convolutions may have no INT8 kernel; everything else runs as asked.
    assert wrong <= {"up"}
    assert np.mean(np.abs(found - expected)) < ONE_STEP
    assert times
    assert all(value >= 0 for value in times.values())


def test_a_plan_of_another_gpu_is_refused(backend):
    setup = prepared(residual_generator())
    graph = lower_graph(
        setup.plan, PrecisionMap(FP16), setup.ranges, LoweringOptions(), flavour=backend.flavour
    )
    with backend.build(graph) as engine:
        bare, origin = unpack_plan(engine.plan)
    other = type(origin)(origin.runtime, origin.version, "another GPU", "0.0")
    with pytest.raises(DeviceError, match="built for another GPU"):
        TensorRtRuntime(pack_plan(bare, other))
