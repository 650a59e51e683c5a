"""Studies made up for the tests of reasons: trials by the places of their INT8 layers."""

import math
from dataclasses import replace

from qsens.core.layer import map_of
from qsens.core.precision import Precision
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.selection.budget import Limit
from qsens.testing import example_layers

LAYERS = example_layers(6)
NAMES = [layer.name for layer in LAYERS]
LIMIT = Limit("fid-fp32", 0.0, 2.0, lower_is_better=True)


def score(value, *, metric="fid-fp32", images=512, error=None, difference=None, lower_is_better=True):
    return Score(metric, value, images, "x", lower_is_better, error, difference, error)


def tried(number, int8, *scores, layers=LAYERS, other=Precision.FP16, **more):
    """A trial with INT8 at these places; numbers among `scores` are distances from the FP32 outputs."""
    wished = {layer.name: Precision.INT8 if place in int8 else other for place, layer in enumerate(layers)}
    requested = map_of(layers, wished)
    kept = tuple(entry if isinstance(entry, Score) else score(entry) for entry in scores)
    return replace(Trial(number, requested, requested, Outcome.SCORED, kept), **more)


def screened(number, int8, value, **more):
    return tried(number, int8, score(value, images=32), outcome=Outcome.SCREENED, **more)


def failed(number, int8, error="no kernel for it", **more):
    return tried(number, int8, outcome=Outcome.FAILED, error=error, applied=None, **more)


def anchors(layers=LAYERS, int8=14.8, fp16=0.01):
    every = range(len(layers))
    return [
        tried(0, (), 0.0, layers=layers, other=Precision.FP32),
        tried(1, (), fp16, layers=layers),
        tried(2, every, *([] if math.isinf(int8) else [int8]), layers=layers),
    ]


def study_of(*trials, layers=LAYERS, first=None):
    return Study("s", layers, (*(anchors(layers) if first is None else first), *trials))
