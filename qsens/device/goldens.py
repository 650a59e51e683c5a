"""Golden inputs and outputs: what the engine must come close to, and how close it is."""

from __future__ import annotations

import json
import math
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np

from qsens.device.bundle_files import Bundle, BundleInput
from qsens.device.errors import DeviceError, reason_of

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]
    Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

PSNR_CAP_DB = 100.0
_ROLES = ("input", "fp32", "exact")
# What NumPy and zipfile raise for a file that is missing, torn or has flipped bits.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, struct.error, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Goldens:
    """Samples by name, each array with the samples as its first axis.

    `inputs` in the dtype of the graph's inputs; `fp32` and `exact` are float32 outputs of the FP32 graph and
    of the map in exact arithmetic, which is what was scored.
    """

    inputs: Mapping[str, Array]
    fp32: Mapping[str, Array]
    exact: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.exact.values())))


@dataclass(frozen=True)
class GoldenResult:
    """How close an engine's pictures are to the goldens, and what is wrong with them."""

    fp32_psnr_db: float
    exact_psnr_db: float
    fp32_bound_db: float
    exact_bound_db: float
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; a PSNR of pictures that are not finite is `None`."""
        values = {**asdict(self), "problems": list(self.problems)}
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
        with np.load(str(path), allow_pickle=False) as file:
            names = json.loads(str(file["names"]))
            groups = [
                {name: file[f"{role}_{place}"] for place, name in enumerate(names[role])} for role in _ROLES
            ]
    except _DAMAGE as error:
        raise DeviceError(f"cannot read {path}: {reason_of(error)}", "copy the bundle again") from error
    return Goldens(*groups)


def batch_of(
    inputs: Mapping[str, Array], entries: Sequence[BundleInput], start: int, size: int
) -> dict[str, Array]:
    """The samples from `start` on as one feed of `size`; the last sample fills up what is missing.

    An input without a batch axis is the same for all samples: the first one's is taken.
    """
    count = len(next(iter(inputs.values())))
    places = np.minimum(np.arange(start, start + size), count - 1)
    return {
        entry.name: inputs[entry.name][places] if entry.is_batched else inputs[entry.name][start]
        for entry in entries
    }


def run_in_batches(
    run: Run, inputs: Mapping[str, Array], entries: Sequence[BundleInput], size: int
) -> dict[str, Array]:
    """Outputs of all samples, run in feeds of exactly `size`, which is all that a static engine takes."""
    count = len(next(iter(inputs.values())))
    parts = [run(batch_of(inputs, entries, start, size)) for start in range(0, count, size)]
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


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


def compare_with_goldens(run: Run, bundle: Bundle, goldens: Goldens) -> GoldenResult:
    """Run the golden inputs and compare what comes out with both golden outputs.

    Raises:
        DeviceError: if the engine cannot run them, or gives other outputs than the model has.
    """
    outputs = run_in_batches(run, goldens.inputs, bundle.inputs, bundle.batch)
    problems = [_shape_problem(name, outputs, golden) for name, golden in goldens.exact.items()]
    found = [text for text in problems if text is not None]
    fp32_psnr = exact_psnr = math.nan
    if not found:
        picture = np.asarray(outputs[bundle.picture], np.float32)
        fp32_psnr = picture_psnr(picture, goldens.fp32[bundle.picture], bundle.value_range)
        exact_psnr = picture_psnr(picture, goldens.exact[bundle.picture], bundle.value_range)
        found += _bound_problems(bundle, fp32_psnr, exact_psnr)
    return GoldenResult(
        fp32_psnr_db=fp32_psnr,
        exact_psnr_db=exact_psnr,
        fp32_bound_db=bundle.bounds.fp32_psnr_db,
        exact_bound_db=bundle.bounds.exact_psnr_db,
        problems=tuple(found),
    )


def _shape_problem(name: str, outputs: Mapping[str, Array], golden: Array) -> str | None:
    if name not in outputs:
        return f"the engine has no output {name!r}, it has {', '.join(outputs)}"
    values = np.asarray(outputs[name])
    if values.shape != golden.shape:
        return f"output {name!r} has shape {values.shape}, the golden has {golden.shape}"
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
