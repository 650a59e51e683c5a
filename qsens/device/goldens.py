"""Golden inputs and outputs: what the engine must come close to, and how close it is."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np

from qsens.device.bundle_files import BEYOND, GOLDENS, Bundle, BundleInput
from qsens.device.bundle_loop import ONCE
from qsens.device.errors import DeviceError, reason_of
from qsens.device.npz_sizes import LARGEST_BYTES, read_arrays
from qsens.device.plain_values import PlainValue, check_distinct, parse_json

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]
    Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

PSNR_CAP_DB = 100.0
# An output that is no picture may be this much further from FP32 than exact arithmetic leaves it.
MOST_TIMES_EXACT, ENGINE_ALLOWANCE = 1.25, 0.01
_ROLES = ("input", "fp32", "exact")
# Pictures shrink a few times; what shrinks a thousand times was made to fill the memory.
_MOST_SHRUNK = 16
_HINT = "copy or export the bundle again"


@dataclass(frozen=True)
class Goldens:
    """Samples by name, each array with the samples as its first axis.

    `inputs` of samples, in the dtype of the graph's inputs; `fp32` and `exact` are float32 outputs of the
    FP32 graph and of the map in exact arithmetic, which is what was scored.
    """

    inputs: Mapping[str, Array]
    fp32: Mapping[str, Array]
    exact: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.exact.values())))


@dataclass(frozen=True)
class OutputError:
    """The distance of an output that is no picture from FP32's, and how large it may be."""

    output: str
    relative_error: float
    limit: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; an error that is not finite is `None`."""
        return _finite(asdict(self))


@dataclass(frozen=True)
class GoldenResult:
    """The distance of an engine's outputs from the goldens, and what is wrong with them.

    `others` are all outputs but the picture. `beyond` is the same of the goldens beyond the calibration,
    where there are any; their problems are among `problems`.
    """

    fp32_psnr_db: float
    exact_psnr_db: float
    fp32_bound_db: float
    exact_bound_db: float
    problems: tuple[str, ...]
    others: tuple[OutputError, ...] = ()
    beyond: GoldenResult | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; a PSNR of pictures that are not finite is `None`."""
        others = [entry.to_json() for entry in self.others]
        beyond = None if self.beyond is None else self.beyond.to_json()
        values = {**asdict(self), "problems": list(self.problems), "others": others, "beyond": beyond}
        return _finite(values)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def write_goldens(path: Path, goldens: Goldens) -> None:
    """Write the samples as `.npz`; names are kept apart, because tensor names need not be file names."""
    groups = dict(zip(_ROLES, (goldens.inputs, goldens.fp32, goldens.exact)))
    arrays: dict[str, Any] = {
        f"{role}_{place}": value
        for role, group in groups.items()
        for place, value in enumerate(group.values())
    }
    names = json.dumps({role: list(group) for role, group in groups.items()})
    np.savez_compressed(path, names=np.array(names), **arrays)


def read_goldens(path: Path) -> Goldens:
    """Read what `write_goldens` wrote. Raises `DeviceError` for a missing or damaged file."""
    try:
        arrays = read_arrays(path, largest_bytes=max(LARGEST_BYTES, _MOST_SHRUNK * path.stat().st_size))
        names = _names(arrays)
        groups = [
            {name: arrays[f"{role}_{place}"] for place, name in enumerate(names[role])} for role in _ROLES
        ]
    except KeyError as error:
        raise DeviceError(f"cannot read {path}: it lacks the array {error}", _HINT) from error
    except (OSError, ValueError) as error:
        raise DeviceError(f"cannot read {path}: {reason_of(error)}", _HINT) from error
    return Goldens(*groups)


def beyond_goldens(bundle: Bundle) -> Goldens | None:
    """The goldens beyond the calibration; `None` in bundles that have none. Raises as `bundle_goldens`."""
    beyond = bundle.beyond_calibration
    return None if beyond is None else bundle_goldens(beyond, BEYOND)


def bundle_goldens(bundle: Bundle, name: str = GOLDENS) -> Goldens:
    """The goldens of a bundle, which are what its document says.

    Raises:
        DeviceError: for a missing or damaged file, or arrays of other names, types, shapes or numbers.
    """
    path = bundle.folder / name
    goldens = read_goldens(path)
    try:
        _check_inputs(goldens, bundle)
        _check_outputs(goldens, bundle)
    except ValueError as error:
        raise DeviceError(f"{path}: {error}", _HINT) from error
    return goldens


def _names(arrays: Mapping[str, Array]) -> dict[str, list[str]]:
    """Tensor names by role."""
    table = PlainValue(parse_json(str(arrays["names"])), "names")
    names = {role: [entry.text() for entry in table.at(role).items()] for role in _ROLES}
    for role, group in names.items():
        check_distinct(group, f"names.{role}")
    return names


def _check_inputs(goldens: Goldens, bundle: Bundle) -> None:
    _check_group("inputs", goldens.inputs, [entry.name for entry in bundle.sample_inputs])
    for entry in bundle.sample_inputs:
        array = goldens.inputs[entry.name]
        found, wanted = (str(array.dtype), array.shape), (entry.dtype, (bundle.golden_samples, *entry.shape))
        if found != wanted:
            raise ValueError(f"input {entry.name!r} is {_described(*found)}, expected {_described(*wanted)}")


def _check_outputs(goldens: Goldens, bundle: Bundle) -> None:
    for what, group in (("FP32 outputs", goldens.fp32), ("exact outputs", goldens.exact)):
        _check_group(what, group, bundle.outputs)
        for name, array in group.items():
            wanted = goldens.fp32[name].shape
            if array.dtype != np.float32 or array.shape != wanted or array.ndim == 0:
                raise ValueError(f"output {name!r} is {_described(str(array.dtype), array.shape)}")
            if name == bundle.picture and (len(array) != bundle.golden_samples or not array.size):
                raise ValueError(f"output {name!r} has shape {wanted} for {bundle.golden_samples} samples")
            if not np.isfinite(array).all():
                raise ValueError(f"output {name!r} holds NaN or infinite values")


def _check_group(what: str, group: Mapping[str, Array], names: Sequence[str]) -> None:
    if set(group) != set(names):
        raise ValueError(f"the {what} are {', '.join(group) or 'none'}, expected {', '.join(names)}")


def _described(dtype: str, shape: Sequence[int]) -> str:
    return f"{dtype} {'x'.join(map(str, shape)) or 'without axes'}"


def batch_of(
    inputs: Mapping[str, Array], entries: Sequence[BundleInput], start: int, size: int
) -> dict[str, Array]:
    """The samples from `start` on as one feed of `size`; the last sample fills up what is missing.

    An input without a batch axis has one value for the whole feed, so that only samples with the value of
    the first one are taken.
    """
    last = _end_of_batch(inputs, entries, start, size) - 1
    places = np.minimum(np.arange(start, start + size), last)
    # Engines take arrays only, and `values[start]` would be none where a sample has no axes.
    return {
        entry.name: inputs[entry.name][places] if entry.is_batched else inputs[entry.name][start, ...]
        for entry in entries
    }


def _end_of_batch(inputs: Mapping[str, Array], entries: Sequence[BundleInput], start: int, size: int) -> int:
    """The place after the last sample that can share a feed with the one at `start`."""
    count = len(next(iter(inputs.values())))
    shared = [inputs[entry.name] for entry in entries if not entry.is_batched]
    end = start + 1
    while end < min(start + size, count) and all(
        np.array_equal(values[end], values[start]) for values in shared
    ):
        end += 1
    return end


class _FirstCall(BaseException):
    """Carries the first feed out of a loop; no loop is to catch it."""

    def __init__(self, feed: Mapping[str, Array]) -> None:
        super().__init__()
        self.feed = feed


def call_feed(bundle: Bundle, inputs: Mapping[str, Array], batch: int) -> Mapping[str, Array]:
    """All inputs of one call of the engine: the first that the loop makes of the first samples.

    Raises:
        DeviceError: for a loop that cannot be played.
    """

    def stop(feed: Mapping[str, Array]) -> Mapping[str, Array]:
        raise _FirstCall(feed)

    try:
        bundle.opened_loop(batch).play(stop, [batch_of(inputs, bundle.sample_inputs, 0, batch)])
    except _FirstCall as first:
        return first.feed
    raise DeviceError("the loop makes no call", _HINT)


def run_in_batches(
    run: Run, inputs: Mapping[str, Array], entries: Sequence[BundleInput], size: int, loop: Any = ONCE
) -> dict[str, Array]:
    """Outputs of all samples, run in feeds of exactly `size`, which is all that a static engine takes.

    For a loop over clips the samples are the frames of one, and each is a feed of its own.

    Raises:
        DeviceError: if the engine cannot run them, or gives outputs that do not belong together.
    """
    count = len(next(iter(inputs.values())))
    starts = [0]
    while (end := _end_of_batch(inputs, entries, starts[-1], 1 if loop.plays_clips else size)) < count:
        starts.append(end)
    feeds = [batch_of(inputs, entries, start, size) for start in starts]
    if loop.plays_clips:
        feeds = [batch_of(_frame(inputs, start), entries, 0, size) for start in starts]
    parts = loop.play(run, feeds)
    taken = [end - start for start, end in zip(starts, [*starts[1:], count])]
    try:
        return {
            name: np.concatenate([_of_samples(part[name], own, size) for part, own in zip(parts, taken)])[
                :count
            ]
            for name in parts[0]
        }
    except (IndexError, KeyError, ValueError) as error:
        raise DeviceError(f"the engine gives outputs without samples: {error}", _HINT) from error


def _frame(inputs: Mapping[str, Array], place: int) -> dict[str, Array]:
    return {name: values[place : place + 1] for name, values in inputs.items()}


def _of_samples(values: Array, taken: int, size: int) -> Array:
    """The first samples of a feed; an output without axes is one value where one sample is a feed."""
    if taken < size:
        return values[:taken]
    return np.atleast_1d(values) if size == 1 else values


def picture_psnr(values: Array, golden: Array, value_range: tuple[float, float]) -> float:
    """PSNR in dB, at most 100, of the pooled error over what a viewer sees: values clipped to the range.

    `values` and `golden`: float arrays of one shape. NaN where a value is NaN.
    """
    low, high = value_range
    step = np.clip(values, low, high).astype(np.float64) - np.clip(golden, low, high)
    error = float(np.mean(np.square(step)))
    if error == 0.0:
        return PSNR_CAP_DB
    return min(10.0 * math.log10((high - low) ** 2 / error), PSNR_CAP_DB)


def relative_error(values: Array, reference: Array) -> float:
    """Root mean square of the difference over that of the reference; of the difference alone where it is 0.

    Numbers of any type and of one shape; 0 for arrays without elements.
    """
    if not np.size(reference):
        return 0.0
    wanted = np.asarray(reference, np.float64)
    error = math.sqrt(float(np.mean(np.square(np.asarray(values, np.float64) - wanted))))
    size = math.sqrt(float(np.mean(np.square(wanted))))
    return error / size if size else error


def _error_of(name: str, outputs: Mapping[str, Array], goldens: Goldens) -> OutputError:
    """The error of an output; the engine may have some more than exact arithmetic has."""
    reference = goldens.fp32[name]
    allowed = MOST_TIMES_EXACT * relative_error(goldens.exact[name], reference) + ENGINE_ALLOWANCE
    return OutputError(name, relative_error(np.asarray(outputs[name], np.float32), reference), allowed)


def compare_with_both(run: Run, bundle: Bundle, goldens: Goldens, beyond: Goldens | None) -> GoldenResult:
    """The comparison with the goldens, and with those beyond the calibration, by their own bounds.

    Raises:
        DeviceError: as `compare_with_goldens`.
    """
    found = compare_with_goldens(run, bundle, goldens)
    view = bundle.beyond_calibration
    if beyond is None or view is None:
        return found
    far = compare_with_goldens(run, view, beyond)
    problems = tuple(f"beyond the calibrated range, {text}" for text in far.problems)
    return replace(found, problems=found.problems + problems, beyond=far)


def compare_with_goldens(run: Run, bundle: Bundle, goldens: Goldens) -> GoldenResult:
    """Run the golden inputs and compare what comes out with both golden outputs.

    Raises:
        DeviceError: if the engine cannot run them, or gives other outputs than the model has.
    """
    loop = bundle.opened_loop(bundle.batch)
    outputs = run_in_batches(run, goldens.inputs, bundle.sample_inputs, bundle.batch, loop)
    problems = [_shape_problem(name, outputs, golden) for name, golden in goldens.exact.items()]
    found = [text for text in problems if text is not None]
    fp32_psnr = exact_psnr = math.nan
    others: tuple[OutputError, ...] = ()
    if not found:
        others = tuple(_error_of(name, outputs, goldens) for name in goldens.exact if name != bundle.picture)
        picture = np.asarray(outputs[bundle.picture], np.float32)
        fp32_psnr = picture_psnr(picture, goldens.fp32[bundle.picture], bundle.value_range)
        exact_psnr = picture_psnr(picture, goldens.exact[bundle.picture], bundle.value_range)
        found += _bound_problems(bundle, fp32_psnr, exact_psnr)
        found += [
            f"output {entry.output!r} differs from FP32's by a relative error of {entry.relative_error:.4f}, "
            f"at most {entry.limit:.4f} was expected"
            for entry in others
            if not entry.relative_error <= entry.limit
        ]
    return GoldenResult(
        fp32_psnr_db=fp32_psnr,
        exact_psnr_db=exact_psnr,
        fp32_bound_db=bundle.bounds.fp32_psnr_db,
        exact_bound_db=bundle.bounds.exact_psnr_db,
        problems=tuple(found),
        others=others,
    )


def _shape_problem(name: str, outputs: Mapping[str, Array], golden: Array) -> str | None:
    if name not in outputs:
        return f"the engine has no output {name!r}, it has {', '.join(outputs)}"
    values = np.asarray(outputs[name])
    if values.shape != golden.shape:
        return f"output {name!r} has shape {values.shape}, the golden has {golden.shape}"
    if values.dtype.kind not in "biuf":
        return f"output {name!r} is of the type {values.dtype}, which is no number"
    broken = int(np.count_nonzero(~np.isfinite(values)))
    return f"output {name!r} holds {broken} NaN or infinite values" if broken else None


def _bound_problems(bundle: Bundle, fp32_psnr: float, exact_psnr: float) -> list[str]:
    bounds = bundle.bounds
    checks = (
        ("the FP32 pictures", fp32_psnr, bounds.fp32_psnr_db),
        ("the pictures that were scored", exact_psnr, bounds.exact_psnr_db),
    )
    return [
        f"PSNR against {what} is {value:.2f} dB, at least {bound:.2f} dB was expected"
        for what, value, bound in checks
        if not value >= bound
    ]
