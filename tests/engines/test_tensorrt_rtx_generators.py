"""NVIDIA's compiler takes every boundary of the shipped talker, both ways, and the demo's style network."""

from functools import cache

import pytest
from lowered_models import FP16, INT8

from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.layer import map_of
from qsens.core.precision import PrecisionMap
from qsens.device.audit import mismatches
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, Placement
from qsens.engines.tensorrt_rtx import TensorRtRtxBackend, problem
from qsens.graph.prepare import prepare_graph
from qsens.run.open import open_generator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(problem() is not None, reason=f"needs the extra rtx: {problem()}"),
    pytest.mark.timeout(900),
]


@cache
def exported(name, input_shapes):
    shapes = dict(input_shapes) if input_shapes else None
    return prepare_graph(open_generator(None, name, {}).export(), input_shapes=shapes)


class Compiled:
    """A generator whose maps can be compiled; one range for every tensor does for a compiler."""

    def __init__(self, name, placement, input_shapes=None):
        self.graph = exported(name, input_shapes)
        self.plan = LoweringPlan.of(self.graph)
        self.options = LoweringOptions(placement)
        tensors = self.plan.calibrated_tensors(self.options.placement)
        entries = tuple(TensorRange(tensor, -4.0, 4.0, 4.0) for tensor in tensors)
        self.ranges = Ranges("minmax", 1, "test", entries)
        self.backend = TensorRtRtxBackend()

    def cut(self, count, before, after):
        """`before` in the first `count` layers, `after` in the rest."""
        layers = self.graph.layers
        return map_of(layers, {layer.name: before if layer.index < count else after for layer in layers})

    def check(self, precision_map: PrecisionMap):
        """Compile; what runs in another precision is a transposed convolution that should be INT8."""
        lowered = lower_graph(self.plan, precision_map, self.ranges, self.options, flavour="strong")
        kinds = {layer.name: layer.kind for layer in self.graph.layers}
        with self.backend.build(lowered) as engine:
            assert engine.size_bytes > 0
            assert all(row.actual is not None for row in engine.audit), "a layer the compiler did not list"
            wrong = {
                row.layer: (kinds[row.layer], row.expected, row.actual) for row in mismatches(engine.audit)
            }
            outputs = [layer.outputs[0][1] for layer in engine.layers if layer.outputs]
        assert set(wrong.values()) <= {("ConvTranspose", "int8", "fp16")}, wrong
        assert outputs[-1] == "FLOAT"


@pytest.fixture(scope="module")
def talker():
    """With the placement that its demo sweeps."""
    return Compiled("wav2lip", Placement.DENSE)


@pytest.mark.parametrize(("before", "after"), [(INT8, FP16), (FP16, INT8)], ids=["forward", "backward"])
def test_every_boundary_of_the_talker_compiles(talker, before, after):
    for count in range(len(talker.graph.layers) + 1):
        talker.check(talker.cut(count, before, after))


@pytest.mark.parametrize("placement", [Placement.RESIDUAL, Placement.INPUTS])
def test_other_placements_of_the_talker_compile(placement):
    talker = Compiled("wav2lip", placement)
    layers = len(talker.graph.layers)
    for count in (layers // 2, layers):
        talker.check(talker.cut(count, INT8, FP16))


@pytest.mark.parametrize("placement", [Placement.RESIDUAL, Placement.DENSE])
def test_the_style_network_compiles(placement):
    style = Compiled("style", placement, (("image", (1, 3, 128, 128)),))
    layers = len(style.graph.layers)
    for count in (0, layers // 2, layers):
        style.check(style.cut(count, INT8, FP16))
