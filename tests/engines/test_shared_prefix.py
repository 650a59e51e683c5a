"""Engines that share work between maps, against plain engines, bit by bit."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lowered_models import FP16, FP32, INT8, Prepared, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.errors import SpecError
from qsens.core.precision import PrecisionMap
from qsens.engines import shared_prefix
from qsens.engines.cpu_engines import OnnxRuntimeEngine
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.lowered_graph import DetachedModel
from qsens.engines.lowering.plan import LoweringOptions, Placement
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.engines.shared_prefix import PrefixReuse

BACKEND = OnnxRuntimeBackend(threads=1)


@pytest.fixture(autouse=True)
def _all_pays(monkeypatch):
    monkeypatch.setattr(shared_prefix, "MACS_PER_BYTE", 0)
    monkeypatch.setattr(shared_prefix, "SMALLEST_SHARE", 0)


@dataclass
class Subject:
    """A network with what is fed to it, batch by batch."""

    network: Prepared
    feeds: list
    placement: Placement = Placement.RESIDUAL

    def lower(self, requested):
        options = LoweringOptions(self.placement)
        return lower_graph(self.network.plan, requested, self.network.ranges, options)

    def maps(self, order):
        names = self.network.names
        inside = {
            "up": [names[:count] for count in range(len(names) + 1)],
            "down": [names[:count] for count in range(len(names), -1, -1)],
            "ends": [names[count:] for count in range(len(names) + 1)],
            "alone": [[], *([name] for name in names)],
            "all but": [names, *([other for other in names if other != name] for name in names)],
            "random": [
                [name for name in names if random.random() < 0.5]
                for random in map(np.random.default_rng, [3] * 2 + list(range(5)))
            ],
        }[order]
        return [
            PrecisionMap.over({name: INT8 if name in chosen else FP16 for name in names}) for chosen in inside
        ]


def batches(count, batch_size, shapes, seed=0):
    random = np.random.default_rng(seed)
    values = {name: random.uniform(-2, 2, (count, *shape)) for name, shape in shapes.items()}
    return [
        {name: value[start : start + batch_size].astype(np.float32) for name, value in values.items()}
        for start in range(0, count, batch_size)
    ]


def result_of(engine, feeds):
    """All that a trial sees of an engine, outputs as bytes."""
    outputs = [
        {name: (value.dtype, value.shape, value.tobytes()) for name, value in engine.run(feed).items()}
        for feed in feeds
    ]
    return outputs, engine.applied, engine.size_bytes, engine.fp16_overflows()


def check_same(subject, maps, limit_bytes=2**20, known=None):
    """Compare every map with its plain run; the multiply-accumulates that reuse skipped."""
    reuse = PrefixReuse(BACKEND, subject.lower, limit_bytes)
    skipped = 0
    for index, requested in enumerate(maps):
        coming = maps[index + 1 :] if known is None else known
        with BACKEND.build(subject.lower(requested)) as plain:
            expected = result_of(plain, subject.feeds)
        with reuse.build(subject.lower(requested), coming) as engine:
            assert result_of(engine, subject.feeds) == expected, requested
            skipped += getattr(engine, "skipped_macs", 0)
    return skipped


def residual(batch_size=2, **options):
    shapes = {"image": (3, 8, 8)}
    return Subject(prepared(residual_generator()), batches(5, batch_size, shapes), **options)


def two_inputs():
    """An encoder for each input, a skip over the decoder, and a concatenation."""
    nodes = [
        helper.make_node("Conv", ["face", "wf"], ["f0"], name="face_in", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["f0"], ["f1"], name="relu_f"),
        helper.make_node("Conv", ["sound", "ws"], ["s0"], name="sound_in", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["s0"], ["s1"], name="relu_s"),
        helper.make_node("Concat", ["f1", "s1"], ["both"], name="join", axis=1),
        helper.make_node("Conv", ["both", "wm"], ["m0"], name="mix", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["m0"], ["m1"], name="relu_m"),
        helper.make_node("Concat", ["m1", "f1"], ["skip"], name="join_skip", axis=1),
        helper.make_node("Conv", ["skip", "wo"], ["o0"], name="out"),
        helper.make_node("Tanh", ["o0"], ["picture"], name="tanh"),
    ]
    weights = {
        "wf": normal(6, 3, 3, 3, seed=1),
        "ws": normal(6, 2, 3, 3, seed=2),
        "wm": normal(8, 12, 3, 3, seed=3),
        "wo": normal(3, 14, 1, 1, seed=4),
    }
    return onnx_model(
        nodes,
        inputs={"face": ["n", 3, 6, 6], "sound": ["n", 2, 6, 6]},
        outputs={"picture": ["n", 3, 6, 6]},
        weights=weights,
    )


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("order", ["up", "down", "ends", "alone", "all but", "random"])
def test_a_residual_network(order, placement):
    subject = residual(placement=placement)
    skipped = check_same(subject, subject.maps(order))
    # Reuse must have happened, or nothing was compared.
    assert skipped > 0


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_batches_and_a_ragged_last_one(batch_size):
    subject = residual(batch_size)
    assert check_same(subject, subject.maps("up")) > 0


@pytest.mark.parametrize("order", ["up", "alone"])
def test_several_inputs(order):
    shapes = {"face": (3, 6, 6), "sound": (2, 6, 6)}
    subject = Subject(prepared(two_inputs()), batches(5, 2, shapes))
    assert check_same(subject, subject.maps(order)) > 0


@pytest.mark.parametrize("limit_bytes", [1, 3_000, 6_000])
def test_little_room_costs_reuse_and_no_bits(limit_bytes):
    subject = residual()
    with_room = check_same(subject, subject.maps("down"))
    assert check_same(subject, subject.maps("down"), limit_bytes) < with_room


def test_maps_that_do_not_come_as_foretold():
    subject = residual()
    foretold = subject.maps("up")
    check_same(subject, subject.maps("random"), known=foretold)
    check_same(subject, list(reversed(foretold)), known=foretold)


def test_the_same_map_again_runs_nothing():
    subject = residual()
    requested = subject.maps("up")[2]
    network = sum(layer.macs for layer in subject.network.graph.layers)
    assert check_same(subject, [requested, requested]) == network * 5


def test_overflow_is_counted_in_the_part_that_is_not_run_again():
    # Values of 3e5 in front of the second layer: FP16 holds none of them.
    model = residual_generator()
    for tensor in model.graph.initializer:
        if tensor.name == "w0":
            tensor.CopyFrom(onnx.numpy_helper.from_array(normal(8, 3, 3, 3, seed=1) * 1e6, "w0"))
    network = prepared(model, amaxes={"r0": 1e6, "c0": 1e6})
    subject = Subject(network, batches(5, 2, {"image": (3, 8, 8)}))
    maps = [
        PrecisionMap.over(dict(zip(network.names, [FP16, FP32, FP32, late, FP32], strict=True)))
        for late in (FP32, INT8, FP16)
    ]
    with BACKEND.build(subject.lower(maps[1])) as engine:
        result_of(engine, subject.feeds)
        assert engine.fp16_overflows()["first"] > 0
    assert check_same(subject, maps) > 0


def test_a_graph_that_cannot_be_cut_runs_whole():
    subject = residual()
    lowered = subject.lower(subject.maps("up")[0])
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(lowered.detached.skeleton)
    relu = next(node for node in skeleton.graph.node if node.name == "relu0")
    relu.op_type, relu.domain = "FusedMatMul", "com.microsoft"
    relu.input.append(relu.input[0])
    skeleton.opset_import.add(domain="com.microsoft", version=1)
    foreign = replace(lowered, detached=DetachedModel(skeleton, lowered.detached.weights))
    reuse = PrefixReuse(BACKEND, subject.lower, 2**20)
    with reuse.build(foreign, subject.maps("up")) as engine:
        assert type(engine) is OnnxRuntimeEngine


@pytest.mark.parametrize(("rule", "value"), [("MACS_PER_BYTE", 10**9), ("SMALLEST_SHARE", 1.1)])
def test_nothing_is_reused_where_it_does_not_pay(monkeypatch, rule, value):
    monkeypatch.setattr(shared_prefix, rule, value)
    subject = residual()
    assert check_same(subject, subject.maps("up")) == 0


def test_only_the_exact_session_on_a_cpu_reuses():
    assert OnnxRuntimeBackend(threads=1).reusing(lambda _: None) is not None
    assert OnnxRuntimeBackend(threads=1, optimised=True).reusing(lambda _: None) is None
    assert OnnxRuntimeBackend(threads=1, reuse_mib=0).reusing(lambda _: None) is None
    with pytest.raises(SpecError, match="-1"):
        OnnxRuntimeBackend(threads=1, reuse_mib=-1)


@st.composite
def random_networks(draw):
    """Convolutions, activations, sums and concatenations over tensors of 4 channels, one or two inputs."""
    inputs = draw(st.sampled_from([("x",), ("x", "z")]))
    there, nodes, weights = list(inputs), [], {}
    for index in range(draw(st.integers(3, 8))):
        kind = draw(st.sampled_from(["conv", "conv relu", "relu", "add", "concat conv"]))
        one, other = draw(st.sampled_from(there)), draw(st.sampled_from(there))
        name = f"t{index}"
        if "conv" in kind:
            source, fan_in = one, 4
            if kind == "concat conv":
                source, fan_in = f"{name}cat", 8
                nodes.append(helper.make_node("Concat", [one, other], [source], name=source, axis=1))
            weights[f"w{index}"] = normal(4, fan_in, 3, 3, seed=index)
            made = f"{name}c" if kind == "conv relu" else name
            nodes.append(
                helper.make_node(
                    "Conv", [source, f"w{index}"], [made], name=f"conv{index}", pads=[1, 1, 1, 1]
                )
            )
            if kind == "conv relu":
                nodes.append(helper.make_node("Relu", [made], [name], name=f"relu{index}"))
        elif kind == "relu":
            nodes.append(helper.make_node("Relu", [one], [name], name=name))
        else:
            nodes.append(helper.make_node("Add", [one, other], [name], name=name))
        there.append(name)
    weights["w_out"] = normal(3, 4, 1, 1, seed=99)
    nodes.append(helper.make_node("Conv", [there[-1], "w_out"], ["picture"], name="out"))
    return onnx_model(
        nodes,
        inputs={name: ["n", 4, 5, 5] for name in inputs},
        outputs={"picture": ["n", 3, 5, 5]},
        weights=weights,
    )


def test_a_sum_that_is_handed_out_leaves_its_layer_in_fp16():
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="two", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["r0", "c1"], ["sum"], name="add"),
        helper.make_node("Conv", ["sum", "w2"], ["picture"], name="out"),
    ]
    weights = {
        "w0": normal(4, 4, 3, 3, seed=0),
        "w1": normal(4, 4, 3, 3, seed=1),
        "w2": normal(3, 4, 1, 1, seed=2),
    }
    model = onnx_model(
        nodes, inputs={"x": ["n", 4, 5, 5]}, outputs={"picture": ["n", 3, 5, 5]}, weights=weights
    )
    subject = Subject(prepared(model), batches(3, 2, {"x": (4, 5, 5)}), Placement.INPUTS)
    maps = [
        PrecisionMap.over({"one": INT8, "two": INT8, "out": FP32}),
        PrecisionMap.over({"one": INT8, "two": FP16, "out": FP32}),
        PrecisionMap.over({"one": FP32, "two": FP16, "out": FP32}),
    ]
    check_same(subject, maps)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    model=random_networks(),
    seed=st.integers(0, 10),
    placement=st.sampled_from(list(Placement)),
    limit=st.sampled_from([2**20, 2000]),
)
def test_any_network_and_any_maps(model, seed, placement, limit):
    network = prepared(model)
    names = [value.name for value in network.graph.model.graph.input]
    subject = Subject(network, batches(3, 2, dict.fromkeys(names, (4, 5, 5)), seed), placement)
    random = np.random.default_rng(seed)
    chosen = {name: random.choice(3) for name in network.names}
    maps = []
    for _ in range(4):
        # Neighbours: one layer changes from each map to the next.
        chosen[network.names[random.integers(len(chosen))]] = random.choice(3)
        maps.append(PrecisionMap.over({name: (FP32, FP16, INT8)[index] for name, index in chosen.items()}))
    check_same(subject, maps, limit)
