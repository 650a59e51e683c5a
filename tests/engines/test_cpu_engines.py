from collections.abc import Mapping

import numpy as np
import pytest
from lowered_models import FP32, INT8, prepared, residual_generator

from qsens.core.errors import BuildError
from qsens.core.precision import PrecisionMap
from qsens.device.audit import ExecutedLayer
from qsens.device.errors import DeviceError
from qsens.engines.cpu_engines import CpuEngine
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions


class FakeRuntime:
    """Returns the first channel of its input; remembers the batches; may fail."""

    runtime = "fake"
    version = "1"
    size_bytes = 17

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.batches: list[np.ndarray] = []
        self.is_closed = False

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.fails:
            raise DeviceError("out of paper", "buy some")
        self.batches.append(feeds["image"])
        return {"picture": feeds["image"][:, :1], "sum": np.ones(4)}

    def executed_layers(self) -> tuple[ExecutedLayer, ...]:
        precision = "int8" if self.batches else "fp32"
        return (ExecutedLayer("step", ("first",), precision, "kernel"),)

    def close(self) -> None:
        self.is_closed = True


def engine(runtime: FakeRuntime, *, pads_batches: bool = True) -> CpuEngine:
    setup = prepared(residual_generator())
    wanted = PrecisionMap.over(dict.fromkeys(setup.names, FP32) | {setup.names[0]: INT8})
    lowered = lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(), "u8")
    return CpuEngine(runtime, lowered, pads_batches=pads_batches)


def pictures(count: int) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(count).random((count, 3, 8, 8), dtype=np.float32)}


def test_smaller_batches_are_filled_up_with_their_last_sample():
    runtime = FakeRuntime()
    with engine(runtime) as built:
        built.run(pictures(4))
        outputs = built.run(pictures(2))
    assert [len(batch) for batch in runtime.batches] == [4, 4]
    np.testing.assert_array_equal(runtime.batches[1][:2], pictures(2)["image"])
    np.testing.assert_array_equal(runtime.batches[1][2:], pictures(2)["image"][[1, 1]])
    np.testing.assert_array_equal(outputs["picture"], pictures(2)["image"][:, :1])
    assert len(outputs["sum"]) == 4  # no batch axis, whatever its length
    assert runtime.is_closed


def test_batches_stay_as_they_are_where_shapes_are_free():
    runtime = FakeRuntime()
    built = engine(runtime, pads_batches=False)
    built.run(pictures(4))
    built.run(pictures(2))
    assert [len(batch) for batch in runtime.batches] == [4, 2]


def test_applied_is_what_the_engine_that_ran_executes():
    built = engine(FakeRuntime())
    built.run(pictures(1))
    assert built.applied["first"] is INT8
    assert not any(row.is_mismatch for row in built.audit)
    assert engine(FakeRuntime()).applied["first"] is FP32
    assert [row.layer for row in engine(FakeRuntime()).audit if row.is_mismatch] == ["first"]
    assert built.size_bytes == 17
    assert built.fp16_overflows() == {}


def test_what_the_runtime_says_is_a_build_error():
    with pytest.raises(BuildError, match="out of paper") as caught:
        engine(FakeRuntime(fails=True)).run(pictures(1))
    assert caught.value.hint == "buy some"
