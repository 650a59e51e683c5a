"""Everything that a sweep can be asked for from Python beside its generator and data, with types."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypedDict

Name = str | Any


class SweepValues(TypedDict, total=False):
    """Keys of a spec, as in its TOML file; what is left out has the default of `qsens.core.spec.SweepSpec`.

    `metrics`, `strategy`, `extractor` and `loop` (alone, or as `name` beside its options) are names of
    plug-ins, `module:Class`, or classes and objects of your own (`qsens.core.interfaces` has their
    contracts). `--for` of the command line is `target`, `--by` is
    `strategy_options={"by": "block"}`; `image_rule` is what --resize, --crop, --value-range and
    --colour-order say, `inputs` the same by input, `output` what --output and its companions say.
    """

    model: str
    model_options: Mapping[str, Any]
    input_shapes: Mapping[str, Sequence[int]]
    inputs: Mapping[str, Mapping[str, Any]]
    image_rule: Mapping[str, Any]
    output: Mapping[str, Any]
    reference: str | PathLike[str]
    calibration_samples: int
    evaluation_samples: int
    screen_samples: int
    range_method: str
    percentile: float
    repair: str
    placement: str
    weight_scales: str
    float_precision: str
    pinned: Sequence[str]
    layer_order: str
    target: str
    backend: str
    backend_options: Mapping[str, Any]
    loop: Name | Mapping[str, Any]
    strategy: Name
    strategy_options: Mapping[str, Any]
    start_from: str | PathLike[str]
    metrics: Sequence[Name]
    metric_options: Mapping[str, Mapping[str, Any]]
    extractor: Name | Sequence[Name]
    extractor_options: Mapping[str, Mapping[str, Any]]
    inception_weights: str | PathLike[str]
    seed: int
    batch_size: int
    threads: int
    largest_picture_megapixels: int
    budget: str
    guard: str
    yardsticks: Sequence[str]
    delivery: str
