"""Opens all that a spec names, and refuses early what would otherwise fail after hours of work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from qsens.calibration.real_images import RealImages, open_real_images
from qsens.calibration.sets import shapes_of_sample
from qsens.core.errors import SpecError
from qsens.core.interfaces import (
    Backend,
    Extractor,
    Generator,
    InputSpec,
    Loop,
    Metric,
    OutputRule,
    SampleSet,
    ScoringContext,
    Strategy,
)
from qsens.core.maps import pin_layers
from qsens.core.own_code import use_own_code
from qsens.core.plugins import create
from qsens.core.spec import SweepSpec
from qsens.core.start import StartingPoint
from qsens.engines.lowering.plan import Grid, LoweringOptions, Placement, WeightScales
from qsens.generators.refusals import refuse_what_holds_no_weights
from qsens.graph.examples import Feed
from qsens.graph.graph import Graph
from qsens.graph.layers import in_blocks, in_order
from qsens.graph.prepare import prepare_graph
from qsens.graph.shapes import free_inputs
from qsens.run.limits import check_limits
from qsens.run.loop import PlannedMaps, plan_without_scores
from qsens.run.looped import feeds_digest, sampled, scored_outputs, with_pictures_of
from qsens.run.open_plugins import (
    names_of_strategies,
    open_backend,
    open_extractor,
    open_metrics,
    open_strategy,
)
from qsens.run.scored_layers import scored_graph
from qsens.scoring.extractors import AUTO
from qsens.scoring.pictures import picture_outputs, settled_output

_BY_SUFFIX = {".onnx": "onnx", ".pt2": "exported-program"}
_SHARED_OPTIONS = frozenset({"input_shapes", "trust_checkpoint"})


def check_before_calibrating(spec: SweepSpec, metrics: Sequence[Metric]) -> None:
    """Checks what would otherwise come to light only after minutes or hours of work. Raises `SpecError`."""
    check_limits(spec.budget, spec.guard, [metric.name for metric in metrics])


def check_annotations(metrics: Sequence[Metric], samples: SampleSet) -> None:
    """Refuse a metric that reads what the evaluation set does not know. Raises `SpecError`."""
    known = samples.annotation(0)
    for metric in metrics:
        missing = [key for key in metric.needs_annotations if key not in known]
        if missing:
            raise SpecError(
                f"metric {metric.name!r} reads the {missing[0]} of each sample, "
                f"which {samples.name!r} does not state",
                "leave the metric out, or evaluate on a set whose plug-in states it",
            )


def check_shapes(given: Mapping[str, Sequence[int]], of_sample: Mapping[str, Sequence[int]]) -> None:
    """Refuse a stated shape that the samples do not have: MACs would be of another size than scores."""
    for name, shape in of_sample.items():
        stated = given.get(name, shape)
        if tuple(stated[1:]) != tuple(shape[1:]):
            texts = ["x".join(map(str, sides)) for sides in (stated, shape)]
            raise SpecError(
                f"input {name!r} is stated as {texts[0]}, but its samples are {texts[1]}",
                "leave --input-shape out, or bring the images to that size with --resize HxW",
            )


def open_generator(
    checkpoint: Path | None, model: str | None, options: Mapping[str, Any] | None = None
) -> Generator:
    """Open a generator: by plug-in name, as `package.module:factory`, or by the file's suffix.

    Raises:
        SpecError: for an unknown plug-in or option, or a file whose kind is not known.
        LoadError: for a file that cannot be read, or a picture or a text.
    """
    options = dict(options or {})
    if model is None:
        if checkpoint is None:
            raise SpecError("no generator", "give a CHECKPOINT, or --model NAME")
        model = _BY_SUFFIX.get(checkpoint.suffix.lower())
        if model is None:
            refuse_what_holds_no_weights(checkpoint)
            raise SpecError(
                f"{checkpoint.name}: which network these weights belong to is not known",
                "add --model package.module:factory, or give an .onnx or .pt2 file",
            )
    elif ":" in model:
        options["factory"], model = model, "torch"
    # Flags that every generator accepts go to those that have a use for them.
    offered = {key: value for key, value in options.items() if key in _SHARED_OPTIONS}
    wanted = {key: value for key, value in options.items() if key not in _SHARED_OPTIONS}
    generator: Generator = create("generators", model, wanted, checkpoint, offered=offered)
    return generator


@dataclass(frozen=True, eq=False)
class OpenedSweep:
    """A spec with everything that it names opened and checked; nothing has been calibrated or scored."""

    spec: SweepSpec
    generator: Generator
    graph: Graph
    calibration: SampleSet
    evaluation: SampleSet
    loop: Loop
    backend: Backend
    strategy: Strategy
    metrics: tuple[Metric, ...]
    extractor: Extractor | None
    reference: RealImages | None
    start: StartingPoint | None = None

    @cached_property
    def planned(self) -> PlannedMaps | None:
        """The maps that the strategy asks for whatever the scores; `None` where it cannot say.

        Raises:
            SpecError: if the strategy refuses these layers.
        """
        return plan_without_scores(self.graph.layers, self.strategy)

    def contents(self) -> dict[str, str]:
        """Digests of everything a score depends on, by name, for the provenance of the run."""
        found = {
            "generator": self.generator.digest,
            "graph": self.graph.digest,
            "calibration": feeds_digest(self.spec, self.calibration),
            "evaluation": self.evaluation.digest,
        }
        if self.extractor is not None:
            found["extractor"] = self.extractor.identity
        if self.reference is not None:
            found["reference"] = self.reference.digest
        if self.spec.target is not None:
            found["target"] = self.spec.target
        return found


def load_graph(
    generator: Generator,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    spec: SweepSpec | None = None,
) -> Graph:
    """Export the generator and prepare its graph: on samples of `spec`, or else on made-up inputs.

    Raises:
        LoadError, SpecError: for a graph that cannot be swept, or shapes that do not fit it.
        DataError, PluginError: for samples that cannot be opened.
    """
    model, shapes, samples = generator.export(), _as_tuples(input_shapes), []
    if spec is not None:
        shapes = {**stated_shapes(spec), **(shapes or {})}
        samples = sampled(spec, model, shapes, is_asked=True).examples
    graph = prepare_graph(model, input_shapes=shapes, samples=samples)
    return replace(graph, layers=in_blocks(graph.layers, generator))


def generator_of(spec: SweepSpec, *, trust_checkpoint: bool = False) -> Generator:
    """The generator that a spec names. Raises as `open_generator`."""
    options = spec.model_options.to_dict()
    if spec.input_shapes:
        options["input_shapes"] = dict(spec.input_shapes)
    if trust_checkpoint:
        options["trust_checkpoint"] = True
    return open_generator(None if spec.checkpoint is None else Path(spec.checkpoint), spec.model, options)


def graph_of(
    generator: Generator, model: onnx.ModelProto, spec: SweepSpec, samples: Sequence[Feed] = ()
) -> Graph:
    """The graph of a generator's exported model, prepared on samples as the spec says.

    Without samples, sizes that the model leaves open are those that the spec states.

    Raises:
        LoadError: for a graph that cannot be swept.
        SpecError: for a layer that is pinned and not there.
    """
    graph = prepare_graph(model, input_shapes=stated_shapes(spec), samples=samples)
    layers = in_order(in_blocks(graph.layers, generator), generator, spec.layer_order)
    return replace(graph, layers=pin_layers(layers, spec.pinned))


def open_sweep(
    spec: SweepSpec, *, trust_checkpoint: bool = False, start: StartingPoint | None = None
) -> OpenedSweep:
    """Open everything a spec names, and check that it fits together; a search begins at `start`.

    Raises:
        SpecError, LoadError, DataError, PluginError: with what is wrong and what to do.
    """
    use_own_code("metrics", *spec.metrics)
    use_own_code("strategies", *names_of_strategies(spec))
    use_own_code("extractors", *spec.extractor)
    generator = generator_of(spec, trust_checkpoint=trust_checkpoint)
    model = generator.export()
    samples = sampled(spec, model, stated_shapes(spec), is_asked=True)
    if free := free_inputs(samples.inputs):
        of_sample = shapes_of_sample(samples.calibration, samples.inputs)
        check_shapes(dict(spec.input_shapes), {name: of_sample[name] for name in free if name in of_sample})
    graph = with_pictures_of(graph_of(generator, model, spec, samples.examples), samples, spec.threads)
    if spec.output == OutputRule():
        spec = replace(spec, output=generator.output or spec.output)
    spec = replace(spec, output=settled_output(graph.example_outputs, spec.output))
    pictures = picture_outputs(graph.example_outputs, spec.output)
    graph = scored_graph(graph, scored_outputs(graph, pictures, samples.loop))
    reference = (
        None if spec.reference is None else _open_reference(Path(spec.reference), spec, samples.inputs)
    )
    metrics = open_metrics(spec)
    strategy = open_strategy(spec, start)
    check_before_calibrating(spec, metrics)
    check_annotations(metrics, samples.evaluation)
    extractor = open_extractor(spec, metrics)
    if extractor is not None:
        # The run folder keeps what `auto` stood for, so that a resumed run cannot take another extractor.
        opened_names = zip(spec.extractor, extractor.each, strict=True)
        spec = replace(
            spec, extractor=tuple(part.name if name == AUTO else name for name, part in opened_names)
        )
    opened = OpenedSweep(
        spec=spec,
        generator=generator,
        graph=graph,
        calibration=samples.calibration,
        evaluation=samples.evaluation,
        loop=samples.loop,
        backend=open_backend(spec),
        strategy=strategy,
        metrics=metrics,
        extractor=extractor,
        reference=reference,
        start=start,
    )
    # A strategy that refuses these layers does so now.
    _ = opened.planned
    return opened


def _open_reference(folder: Path, spec: SweepSpec, inputs: Sequence[InputSpec]) -> RealImages:
    return open_real_images(folder, inputs, largest_megapixels=spec.largest_picture_megapixels)


def linear_algebra_threads(threads: int) -> threadpool_limits:
    """Limit what numpy and scipy use from here on, or within `with`; 0 changes nothing.

    The last digits of eigenvalues depend on the number of threads. Libraries that are loaded later are
    not limited.
    """
    return threadpool_limits(limits=threads or None, user_api="blas")


def lowering_options(spec: SweepSpec) -> LoweringOptions:
    """The part of a spec that lowering reads."""
    return LoweringOptions(Placement(spec.placement), WeightScales(spec.weight_scales), Grid(spec.grid))


def scoring_context(opened: OpenedSweep, features: np.ndarray[Any, np.dtype[Any]] | None) -> ScoringContext:
    """The images and features that every map of the run is scored against."""
    evaluation = opened.evaluation
    clusters = None
    if evaluation.clusters is not None:
        clusters = np.unique(evaluation.clusters, return_inverse=True)[1]
    return ScoringContext(
        images=len(evaluation),
        extractor=opened.extractor,
        baseline_features=None,
        reference_features=features,
        reference_digest=None if opened.reference is None else opened.reference.digest,
        evaluation_digest=evaluation.digest,
        clusters=clusters,
        samples=evaluation,
    )


def stated_shapes(spec: SweepSpec) -> dict[str, tuple[int, ...]]:
    """The shapes of inputs that a spec states, by name."""
    return {name: tuple(shape) for name, shape in spec.input_shapes}


def _as_tuples(shapes: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]] | None:
    return None if shapes is None else {name: tuple(shape) for name, shape in shapes.items()}
