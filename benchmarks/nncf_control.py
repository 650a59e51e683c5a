"""NNCF's quantization with accuracy control over a sweep's own samples and score, its work counted.

Needs the packages `nncf` and `openvino`. NNCF takes a score of which more is better, so that it is given the
negated Fréchet distance. It asks the function for a single image first, of which there is no such distance:
where the function fails there, NNCF 3.4 ranks groups of quantizers by the error of their pictures and takes
those back first whose return leaves the largest. So that it ranks by the score, a single image gets a number
of its own, which also tells NNCF the images to rank on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import nncf
import numpy as np
import openvino
from nncf.common.quantization.structs import QuantizerConfig
from nncf.quantization.algorithms.min_max import algorithm

from qsens.calibration.batches import Feed, InputCache
from qsens.graph.graph import Graph
from qsens.run.open import OpenedSweep
from qsens.scoring.extractors import features_of_images
from qsens.scoring.frechet import Reference, frechet_distance
from qsens.scoring.pictures import picture_output, pictures_from_values

WEIGHTED = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
    "MatMul",
)
PICTURES_PER_RUN = 8
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Work:
    """What a search cost: evaluations on all samples, on some, samples run by both, and seconds."""

    full: int = 0
    partial: int = 0
    frames: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True, eq=False)
class PictureScore:
    """FID of pictures to the real images of a sweep, in that sweep's own features."""

    opened: OpenedSweep
    reference: Reference
    picture: str

    @classmethod
    def of(cls, opened: OpenedSweep) -> PictureScore:
        """The score that `opened` has as its headline; the real images' features are computed here."""
        assert opened.reference is not None, "the demos have real images"
        assert opened.extractor is not None, "FID reads features"
        features = features_of_images(opened.reference, opened.extractor)
        picture = picture_output(opened.graph.example_outputs, opened.spec.output)
        return cls(opened, Reference.from_features(features, opened.extractor.identity), picture)

    def __call__(self, values: Sequence[Array]) -> float:
        """FID of the picture output of samples, in batches. Raises `ScoreError` for a single sample."""
        return frechet_distance(self.reference, self.features(values))

    def features(self, values: Sequence[Array]) -> Array:
        """Features (N, D) of the picture output of samples, in batches."""
        assert self.opened.extractor is not None, "FID reads features"
        together = np.concatenate(values)
        parts = [
            self.opened.extractor.run(pictures_from_values(batch, self.opened.spec.output))
            for batch in np.array_split(together, -(-len(together) // PICTURES_PER_RUN))
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Controlled:
    """NNCF's model with its layers, by qsens' names, that it left in INT8."""

    model: openvino.Model
    in_int8: frozenset[str]
    work: Work


@dataclass(frozen=True, eq=False)
class _Validation:
    """NNCF's validation function."""

    score: PictureScore
    samples: int
    work: Work

    def __call__(self, compiled: openvino.CompiledModel, feeds: Iterable[Feed]) -> tuple[float, list[float]]:
        """The negated distance, and that of each image's features to the mean of the real ones."""
        features = self.score.features([run(compiled, feed, self.score.picture) for feed in feeds])
        singly = -np.square(features - self.score.reference.mean).sum(axis=1)
        if len(features) == 1:
            return float(singly[0]), singly.tolist()
        self.work.frames += len(features)
        self.work.full += len(features) == self.samples
        self.work.partial += len(features) < self.samples
        return -frechet_distance(self.score.reference, features), singly.tolist()


def accuracy_controlled(opened: OpenedSweep, *, is_signed: bool, share: float) -> Controlled:
    """Quantize with NNCF until the FID is within `share` of FP32's.

    `is_signed` forces symmetric signed activations, as TensorRT has them; else the choice is NNCF's, which is
    unsigned for what cannot be negative.
    """
    work = Work()
    cpu, wall = time.process_time(), time.perf_counter()
    validation = _Validation(PictureScore.of(opened), len(opened.evaluation), work)
    calibration, evaluation = (
        list(InputCache(samples, opened.graph, 1).singly())
        for samples in (opened.calibration, opened.evaluation)
    )
    with _signed_grid() if is_signed else nullcontext():
        model = nncf.quantize_with_accuracy_control(
            openvino_model(opened.graph, calibration[0]),
            calibration_dataset=nncf.Dataset(calibration, dict),
            validation_dataset=nncf.Dataset(evaluation, dict),
            validation_fn=validation,
            max_drop=share,
            drop_type=nncf.DropType.RELATIVE,
        )
    work.cpu_s, work.wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return Controlled(model, int8_layers(model, opened.graph), work)


def _signed_grid() -> AbstractContextManager[object]:
    """Symmetric signed codes for everything. NNCF 3.4 has a word for it that its table of devices refuses."""
    real = algorithm.calculate_quantizer_parameters

    def signed(statistics: object, config: QuantizerConfig, *more: object) -> object:
        forced = copy(config)
        forced.signedness_to_force = True
        return real(statistics, forced, *more)

    return patch.object(algorithm, "calculate_quantizer_parameters", signed)


def openvino_model(graph: Graph, feed: Feed) -> openvino.Model:
    """The FP32 graph for inputs of the shapes in `feed`: INT8 transposed convolutions need them fixed."""
    model = openvino.Core().read_model(graph.model.SerializeToString())
    model.reshape({name: list(value.shape) for name, value in feed.items()})
    return model


def run(compiled: openvino.CompiledModel, feed: Mapping[str, Array], output: str) -> Array:
    """One output of a compiled model, copied out of its memory."""
    return np.array(compiled(dict(feed))[output])


def int8_layers(model: openvino.Model, graph: Graph) -> frozenset[str]:
    """Names of the layers whose weights and data NNCF quantized.

    Raises:
        KeyError: for a layer that the model does not have.
    """
    found = {name: operation for operation in _weighted(model) for name in _result_names(operation)}
    outputs = {node.name: node.output[0] for node in graph.model.graph.node}
    return frozenset(
        layer.name for layer in graph.layers if _is_quantized(found[outputs[layer.node]], port=1)
    )


def _weighted(model: openvino.Model) -> list[openvino.Node]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED]


def _result_names(operation: openvino.Node) -> set[str]:
    """The ONNX names of what a layer's node puts out: OpenVINO keeps a bias apart."""
    result = operation.output(0)
    while not result.get_names():
        readers = [entry.get_node() for entry in result.get_target_inputs()]
        result = next(node for node in readers if node.get_type_name() == "Add").output(0)
    return set(result.get_names())


def _is_quantized(operation: openvino.Node, port: int) -> bool:
    """Whether a layer's weights come out of a quantizer, or of codes that one left."""
    source = operation.input_value(port).get_node()
    while source.get_type_name() not in ("FakeQuantize", "Constant"):
        source = source.input_value(0).get_node()
    return source.get_type_name() == "FakeQuantize" or source.get_element_type() == openvino.Type.i8
