"""`Repair`: what INT8 layers are lowered with instead of calibrated ranges and rounded weights."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from qsens.calibration.ranges import Ranges
from qsens.core.files import write_atomically
from qsens.core.trial import RepairSummary
from qsens.device.npz_sizes import read_arrays
from qsens.engines.lowering.plan import LoweringPlan, RepairedLayer
from qsens.repair.channel_scales import Array, scaled_plan

_DAMAGE = (OSError, ValueError, TypeError, KeyError)
_PARTS = {"codes": np.int8, "scales": np.float32, "bias": np.float32}


@dataclass(frozen=True)
class StageResult:
    """One stage of a repair: the picture's error with INT8 everywhere, on samples that it was not fitted to.

    Errors are mean squares relative to the picture's variance. `skipped` are layers that the stage left
    alone, or the stage itself, with the reason.
    """

    stage: str
    is_taken: bool
    error_before: float | None = None
    error_after: float | None = None
    changed: int = 0
    tries: int = 0
    duration_s: float = 0.0
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def gain_db(self) -> float | None:
        """By how much the stage brings the error down, in decibels; `None` where it was not measured."""
        if not self.error_before or not self.error_after:
            return None
        return 10 * math.log10(self.error_before / self.error_after)

    @property
    def left_out(self) -> str | None:
        """The reason that the stage was not tried; `None` where it was."""
        return self.skipped[0][1] if self.error_after is None else None

    def text(self) -> str:
        """A sentence for people."""
        if self.gain_db is None:
            return f"{self.stage}: left out, {self.left_out}"
        counted = f"{self.changed} {self.stage} changed" + (f" in {self.tries} tries" if self.tries else "")
        held_out = f"{self.gain_db:+.1f} dB with INT8 everywhere, on calibration samples held out"
        if not self.is_taken:
            return f"{self.stage}: not taken, {held_out} ({self.error_before:.3g} to {self.error_after:.3g})"
        return f"{counted}: {held_out}; {self.duration_s:.0f} s"


def summary_of(stages: Sequence[StageResult]) -> RepairSummary | None:
    """The outcome of the stages of a repair; `None` without stages."""
    judged = [stage for stage in stages if stage.gain_db is not None]
    gains = {
        is_taken: ", ".join(
            f"{stage.stage} {stage.gain_db:+.1f} dB" for stage in judged if stage.is_taken is is_taken
        )
        for is_taken in (True, False)
    }
    where = "the picture with INT8 everywhere, on calibration samples held out"
    if gains[True]:
        rest = f"; not taken: {gains[False]}" if gains[False] else ""
        return RepairSummary(f"Repair: {gains[True]} ({where}){rest}.", is_taken=True)
    if judged:
        return RepairSummary(f"Repair: nothing was taken, {gains[False]} ({where}).", is_taken=False)
    if not stages:
        return None
    return RepairSummary(f"Repair: {stage_texts(stages)[0]}.", is_taken=False)


def stage_texts(stages: Sequence[StageResult]) -> list[str]:
    """A sentence for each stage; those that were left out for one reason share it."""
    texts: list[str] = []
    for reason, members in groupby(stages, key=lambda stage: stage.left_out):
        if reason is None:
            texts += [stage.text() for stage in members]
        else:
            texts.append(f"{', '.join(stage.stage for stage in members)}: left out, {reason}")
    return texts


@dataclass(frozen=True)
class Repair:
    """Thresholds by tensor and parameters by layer that take the place of the calibrated ones.

    `exponents`, int8 by layer, are the channel scales of the graph itself (`scaled_plan`). `methods` name
    the statistic that gave a threshold, by tensor, as far as that is known. `digest` covers the calibration
    and the recipe: equal digests mean equal repairs. An empty one changes nothing.
    """

    digest: str
    amax: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[str, RepairedLayer] = field(default_factory=dict, repr=False)
    stages: tuple[StageResult, ...] = ()
    exponents: Mapping[str, Array] = field(default_factory=dict, repr=False)
    methods: Mapping[str, str] = field(default_factory=dict)

    def applied(self, plan: LoweringPlan, ranges: Ranges) -> tuple[LoweringPlan, Ranges]:
        """The plan and the ranges that maps are lowered with."""
        scaled = scaled_plan(plan, self.exponents)
        return (scaled.with_repaired(self.layers) if self.layers else scaled), self.repaired_ranges(ranges)

    def repaired_ranges(self, ranges: Ranges) -> Ranges:
        """The ranges with the thresholds of this repair."""
        if not self.amax:
            return ranges
        entries = (replace(entry, amax=self.amax.get(entry.tensor, entry.amax)) for entry in ranges.tensors)
        return replace(ranges, tensors=tuple(entries), digest=self.digest)


def repair_digest(ranges: Ranges, recipe: Mapping[str, object]) -> str:
    """The right digest of a repair of these ranges by this recipe."""
    return hashlib.sha256(json.dumps([ranges.digest, dict(recipe)], sort_keys=True).encode()).hexdigest()


def save_repair(path: Path, repair: Repair) -> None:
    """Write a repair as `.npz`, complete or not at all. Raises `RunFolderError`."""
    arrays: dict[str, Any] = {
        "digest": np.array(repair.digest),
        "stages": np.array(json.dumps([asdict(stage) for stage in repair.stages])),
        "tensor": np.array(list(repair.amax), dtype=np.str_),
        "amax": np.array(list(repair.amax.values()), dtype=np.float32),
        "method": np.array([repair.methods.get(name, "") for name in repair.amax], dtype=np.str_),
        "layer": np.array(list(repair.layers), dtype=np.str_),
        "scaled": np.array(list(repair.exponents), dtype=np.str_),
    }
    for index, layer in enumerate(repair.layers.values()):
        arrays |= {f"{part}{index}": getattr(layer, part) for part in _PARTS}
    arrays |= {f"exponents{index}": values for index, values in enumerate(repair.exponents.values())}
    write_atomically(path, lambda stream: np.savez_compressed(stream, **arrays))


def kept_stages(path: Path) -> tuple[StageResult, ...]:
    """The stages of the repair in that file; none where there is no whole file."""
    try:
        return _stages_in(read_arrays(path, ("stages",)))
    except _DAMAGE:
        return ()


def load_repair(path: Path, digests: Sequence[str]) -> Repair | None:
    """The kept repair if it has one of the digests, `None` for a missing, damaged or other file."""
    try:
        repair = _repair_of(read_arrays(path))
    except _DAMAGE:
        return None
    return repair if repair.digest in digests else None


def _repair_of(arrays: Mapping[str, Any]) -> Repair:
    amax = dict(zip(arrays["tensor"].tolist(), arrays["amax"].tolist(), strict=True))
    if not all(np.isfinite(value) and value > 0 for value in amax.values()):
        raise ValueError("a threshold is not above zero")
    layers = {
        name: RepairedLayer(*(_like(arrays[f"{part}{index}"], kind) for part, kind in _PARTS.items()))
        for index, name in enumerate(arrays["layer"].tolist())
    }
    scaled = arrays["scaled"].tolist() if "scaled" in arrays else ()  # came with stage `scales`
    exponents = {name: _like(arrays[f"exponents{index}"], np.int8) for index, name in enumerate(scaled)}
    # Files of earlier versions do not name methods.
    named = arrays["method"].tolist() if "method" in arrays else [""] * len(amax)
    methods = {name: method for name, method in zip(amax, named, strict=True) if method}
    return Repair(str(arrays["digest"]), amax, layers, _stages_in(arrays), exponents, methods)


def _stages_in(arrays: Mapping[str, Any]) -> tuple[StageResult, ...]:
    return tuple(
        StageResult(**{**stage, "skipped": tuple(map(tuple, stage["skipped"]))})
        for stage in json.loads(str(arrays["stages"]))
    )


def _like(array: Any, kind: type) -> Any:
    if array.dtype != kind or not np.isfinite(array).all():
        raise ValueError(f"an array of {array.dtype} where {kind.__name__} is expected")
    return array
