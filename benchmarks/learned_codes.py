"""Are learned codes better than compensated ones? Pictures of INT8 everywhere, on samples held out.

python benchmarks/learned_codes.py [--generators talker style superresolution] [--samples 64]

AdaRound (Nagel et al. 2020) learns for each weight whether it is rounded up or down, so that a layer's
outputs change least. The error that it minimises is quadratic in the codes. Here it is brought down code by
code, one step up or down, from where compensation (GPTQ) ended, until no single code helps any more. The
error of a layer is on the calibration samples that codes are fitted to, that of the picture on those held
out of the repair, both relative to the nearest codes. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from machine import limit_math_threads, print_machine
from search_networks import NETWORKS

from qsens.core.spec import SweepSpec
from qsens.repair import weights
from qsens.repair.compensation import LARGEST_CODE, compensated_codes, output_error, rounded_codes
from qsens.repair.stages import Subject
from qsens.run.calibrated_graph import measured_graph
from qsens.run.folder import RunFolder
from qsens.run.open import open_sweep

SWEEPS = 20
Array = np.ndarray[Any, np.dtype[Any]]


def main() -> None:
    """Print for each generator what compensated and learned codes make of layers and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generators", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--samples", type=int, default=64, help="calibration samples")
    options = parser.parse_args()
    limit_math_threads(1)
    print_machine()
    for name in options.generators:
        with tempfile.TemporaryDirectory(prefix="qsens-codes-") as temporary:
            report(name, options.samples, Path(temporary))


def report(name: str, samples: int, folder: Path) -> None:
    """Two lines: codes compensated, and learned on top of that."""
    given = {**NETWORKS[name](folder), "calibration_samples": samples, "evaluation_samples": 8}
    kept = {key: value for key, value in given.items() if key in SweepSpec.__dataclass_fields__}
    kept |= {"metrics": ["psnr"], "threads": 1, "strategy": "boundary", "budget": None}
    kept = {key: value for key, value in kept.items() if value is not None and key != "strategy_options"}
    opened = open_sweep(SweepSpec.from_mapping(kept))
    with RunFolder.open(folder / "run", opened.spec) as run:
        measured = measured_graph(opened, run, silent)
    subject = Subject(
        *(measured.plan, measured.ranges, measured.options),
        *(opened.calibration, opened.spec.output, 1, silent),
    )
    before = subject.judge(subject.plan, subject.ranges)
    for label, fitted in {"compensated": compensated_codes, "learned": learned_codes}.items():
        layers: list[float] = []
        with mock.patch.object(weights, "_compensated", remembering(fitted, layers)):
            found = weights.compensate_weights(
                *(subject.plan, subject.ranges, subject.options, subject.parts[0]), threads=1, progress=silent
            )
        after = subject.judge(subject.plan.with_repaired(found.layers), subject.ranges)
        gains = [10 * np.log10(before / after), np.mean(layers)]
        print("{:<16} {:<12} picture {:+.2f} dB, layers {:+.2f} dB".format(name, label, *gains), flush=True)


def remembering(fitted: Any, gains: list[float]) -> Any:
    """A stand-in for the choice of codes that adds the decibels of each layer to `gains`."""

    def codes_of(matrix: Array, scales: Array, hessian: Array) -> Array | None:
        codes: Array | None = fitted(matrix, scales, hessian)
        if codes is None:
            return None
        errors = [
            output_error(matrix, one, scales, hessian) for one in (rounded_codes(matrix, scales), codes)
        ]
        gains.append(10 * float(np.log10(max(errors[0], 1e-30) / max(errors[1], 1e-30))))
        return codes if errors[1] < errors[0] else None

    return codes_of


def learned_codes(weight: Array, scales: Array, hessian: Array) -> Array | None:
    """Codes of which no single one can move by a step for a smaller error of the layer."""
    codes = compensated_codes(weight, scales, hessian)
    if codes is None:
        return None
    steps = np.broadcast_to(scales.reshape(-1, 1), (len(weight), 1))
    is_fixed = np.abs(codes) == LARGEST_CODE
    slope = (weight - codes * steps) @ hessian
    for _ in range(SWEEPS):
        moved = 0
        for column in np.flatnonzero(np.diag(hessian) > 0):
            wished = np.clip(np.rint(slope[:, [column]] / (steps * hessian[column, column])), -1, 1)
            now = codes[:, [column]]
            wished[is_fixed[:, [column]] | (np.abs(now + wished) >= LARGEST_CODE)] = 0
            rows = np.flatnonzero(wished)
            codes[rows, column] += wished[rows, 0]
            slope[rows] -= wished[rows] * steps[rows] * hessian[column]
            moved += len(rows)
        if not moved:
            break
    return codes


def silent(done: int, total: int, label: str) -> None:
    """A `Progress` that says nothing."""


if __name__ == "__main__":
    main()
