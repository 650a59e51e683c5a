"""Feeds that a graph is examined with: real samples where there are any, else made-up ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from qsens.core.errors import LoadError
from qsens.core.interfaces import InputSpec
from qsens.graph.onnx_run import Values, relative_difference, run

# Between a batch and its samples one by one; rounding stays far below it.
LARGEST_BATCH_DIFFERENCE = 1e-4
Feed = Mapping[str, Values]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Examples:
    """Feeds of one sample each, batch axes included; the first one decides shapes and work.

    `are_real` is false where they are made up: then nothing that follows from values is known.
    """

    specs: tuple[InputSpec, ...]
    feeds: tuple[Feed, ...]
    are_real: bool

    @property
    def first(self) -> Feed:
        return self.feeds[0]

    def run(self, session: onnxruntime.InferenceSession, feed: Feed) -> list[Values]:
        """All outputs for one of the feeds. Raises `LoadError`, which says if values were made up."""
        try:
            return run(session, feed)
        except LoadError as error:
            doubtful = [spec for spec in self.specs if not _is_plain(spec)]
            if self.are_real or not doubtful:
                raise
            listed = ", ".join(f"{spec.name!r} ({_made_up_values(spec)})" for spec in doubtful)
            raise LoadError(
                error.message,
                f"values were made up for {listed}: if one is a size or an index, give real samples with "
                "--calibration SET (and --spec FILE with a rule for that input); if sizes are wrong, give "
                "those it was made for with --input-shape NAME=1x3x96x96",
            ) from error


def shapes_of(feed: Feed) -> dict[str, Shape]:
    """Shapes of a feed's arrays."""
    return {name: tuple(value.shape) for name, value in feed.items()}


def real_examples(specs: Sequence[InputSpec], samples: Sequence[Feed]) -> Examples:
    """Examples of samples as a set gives them, without batch axes."""
    feeds = tuple(
        {spec.name: sample[spec.name][None] if spec.is_batched else sample[spec.name] for spec in specs}
        for sample in samples
    )
    return Examples(tuple(specs), feeds, are_real=True)


def made_up_examples(specs: Sequence[InputSpec], shapes: Mapping[str, Shape]) -> Examples:
    """Two seeded feeds of the given shapes that differ in every value."""
    first, second = (random_inputs(specs, shapes, batch=1, seed=seed) for seed in (0, 1))
    for spec in specs:
        if not _is_float(spec):
            second[spec.name] = (1 - first[spec.name].astype(np.int8)).astype(spec.dtype)
    return Examples(tuple(specs), (first, second), are_real=False)


def random_inputs(
    specs: Sequence[InputSpec], shapes: Mapping[str, Shape], *, batch: int, seed: int
) -> dict[str, Values]:
    """Seeded inputs with the given batch: floats uniform in [0, 1), integers 0 or 1, booleans true."""
    generator = np.random.default_rng(seed)
    inputs = {}
    for spec in specs:
        shape = (batch, *shapes[spec.name][1:]) if spec.is_batched else shapes[spec.name]
        if spec.dtype == "bool":
            inputs[spec.name] = np.ones(shape, bool)
        elif spec.dtype.startswith(("int", "uint")):
            inputs[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
        else:
            inputs[spec.name] = generator.random(shape).astype(spec.dtype)
    return inputs


def why_not_batched(session: onnxruntime.InferenceSession, examples: Examples) -> str | None:
    """Words for what keeps a batch of two from being two batches of one, in any output; else `None`."""
    batched = {spec.name for spec in examples.specs if spec.is_batched}
    if not batched:
        return "no input has a batch axis"
    pair = _pair(examples, batched)
    both = {
        name: np.concatenate([feed[name] for feed in pair]) if name in batched else value
        for name, value in pair[0].items()
    }
    try:
        together = run(session, both, samples=2)
        apart = [run(session, feed) for feed in pair]
    except LoadError as error:
        return f"a batch of two does not run ({error.message})"
    names = [output.name for output in session.get_outputs()]
    found = (
        _difference(name, whole, first, second)
        for name, whole, first, second in zip(names, together, *apart, strict=True)
    )
    return next((text for text in found if text is not None), None)


def _difference(name: str, together: Values, first: Values, second: Values) -> str | None:
    if first.ndim == 0 or len(first) + len(second) != len(together):
        return f"output {name!r} has no batch axis"
    if first.shape[1:] != second.shape[1:]:
        return f"the size of output {name!r} follows the values of a sample"
    difference = relative_difference(np.concatenate([first, second]), together)
    if difference < LARGEST_BATCH_DIFFERENCE:
        return None
    return f"the samples of a batch change each other's output {name!r} (by {difference:.1e} of its size)"


def _pair(examples: Examples, batched: set[str]) -> tuple[Feed, Feed]:
    """The first feed, and another that differs from it where inputs have a batch axis, and only there."""
    first = examples.first
    for feed in examples.feeds[1:]:
        is_alike = all(feed[name].shape == first[name].shape for name in batched)
        if is_alike and any(not np.array_equal(feed[name], first[name]) for name in batched):
            return first, {name: feed[name] if name in batched else value for name, value in first.items()}
    generator = np.random.default_rng(0)
    floats = {spec.name for spec in examples.specs if spec.is_batched and _is_float(spec)}
    return first, {
        name: _redrawn(value, generator) if name in floats else value for name, value in first.items()
    }


def _redrawn(values: Values, generator: np.random.Generator) -> Values:
    """Other values between the least and the greatest."""
    redrawn: Values = generator.uniform(values.min(), values.max(), values.shape).astype(values.dtype)
    return redrawn


def _is_plain(spec: InputSpec) -> bool:
    """True where made-up values are as good as any: noise is a picture too, but no size."""
    return spec.is_batched and _is_float(spec) and bool(spec.shape)


def _is_float(spec: InputSpec) -> bool:
    return np.dtype(spec.dtype).kind == "f"


def _made_up_values(spec: InputSpec) -> str:
    values = {"f": "0 to 1", "b": "true"}.get(np.dtype(spec.dtype).kind, "0 and 1")
    return f"{spec.dtype}, {values}"
