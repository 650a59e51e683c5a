"""Zero points for tensors that can be negative: the picture's error with INT8 everywhere, with and without.

python benchmarks/zero_points.py [--generators talker style]

A CPU's grid has codes 0 to 255. For what cannot be negative they begin at 0; for all other tensors the
middle code stands for 0: a tensor of -1 to 6, as behind a LeakyReLU, leaves most codes below 0 unused.
With zero points those tensors have 256 codes between the least and the largest value that calibration saw,
cut at the threshold as without. Errors are of 24 calibration samples, in decibels below the variance of
FP32's pictures (placement `residual`, no repair, weights with three tenths of their rounding errors, which is
what compensated codes leave), in torch's arithmetic. "tensors" counts
those that can be negative, of those that are quantized. One thread.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import limit_math_threads, print_machine
from repair import demo_spec, silent

from qsens.calibration.splits import SampleView, spread_places
from qsens.core.layer import uniform_map
from qsens.core.precision import Precision
from qsens.engines.lowering.plan import PlacedMap
from qsens.repair import gradient_graph
from qsens.repair.channel_scales import ScaleLayout
from qsens.repair.gradient_graph import GradientGraph
from qsens.repair.picture_error import PictureError
from qsens.run.calibrated_graph import CalibratedGraph, measured_graph
from qsens.run.folder import RunFolder
from qsens.run.open import open_sweep

PICTURES = 24
LINE = "{:<10} {:>10} {:>18} {:>18}"


class AsymmetricQuantizers(gradient_graph._Quantizers):
    """Quantizers whose codes cover the range of each tensor, wherever 0 lies in it."""

    def _on_grid(self, name: str, values: torch.Tensor) -> torch.Tensor:
        grid, entry = self.placed.grid(name), self.placed.range_of(name)
        if grid.is_unsigned:
            return super()._on_grid(name, values)
        low, high = max(min(entry.minimum, 0.0), -entry.amax), min(max(entry.maximum, 0.0), entry.amax)
        scale = (high - low) / 255
        zero = round(-low / scale)
        return (torch.clamp(torch.round(values / scale) + zero, 0, 255) - zero) * scale


def main() -> None:
    """Print a line for each generator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generators", nargs="+", default=["talker", "style"], choices=["talker", "style"])
    names = parser.parse_args().generators
    limit_math_threads(1)
    torch.set_num_threads(1)
    print_machine("torch")
    print(LINE.format("generator", "tensors", "middle code is 0", "zero points"))
    with tempfile.TemporaryDirectory(prefix="qsens-zero-points-") as folder:
        for name in names:
            print_case(name, Path(folder))


def print_case(name: str, folder: Path) -> None:
    """Calibrate a generator, and print its errors."""
    spec = replace(demo_spec(name, folder / "sets"), placement="residual", target="openvino")
    opened = open_sweep(spec)
    with RunFolder.open(folder / name, opened.spec) as run:
        measured = measured_graph(opened, run, silent)
    samples = SampleView(opened.calibration, spread_places(len(opened.calibration), PICTURES), "")
    measure = PictureError.of(
        measured.plan, measured.options, samples, rule=spec.output, threads=1, batch_size=1
    )
    placed = PlacedMap(
        measured.plan,
        uniform_map(measured.graph.layers, Precision.INT8),
        measured.ranges,
        measured.options,
    )
    tensors = measured.plan.quantized_tensors(measured.options.placement)
    signed = [tensor for tensor in tensors if not placed.grid(tensor).is_unsigned]
    symmetric = picture_error(measured, placed, measure)
    gradient_graph._Quantizers, kept = AsymmetricQuantizers, gradient_graph._Quantizers  # type: ignore[misc]
    asymmetric = picture_error(measured, placed, measure)
    gradient_graph._Quantizers = kept  # type: ignore[misc]
    counted = f"{len(signed)} of {len(tensors)}"
    print(LINE.format(name, counted, f"{symmetric:.2f} dB", f"{asymmetric:.2f} dB"), flush=True)


def picture_error(measured: CalibratedGraph, placed: PlacedMap, measure: PictureError) -> float:
    """Error of the pictures of INT8 everywhere, in decibels."""
    graph = GradientGraph(measured.plan, measured.options, ScaleLayout.of(measured.plan, ()))
    amax = {entry.tensor: torch.tensor(math.log2(entry.amax)) for entry in measured.ranges.tensors}
    squares = variances = 0.0
    with torch.no_grad():
        for feed, targets in zip(measure.inputs.singly(), measure.targets, strict=True):
            found = graph.run(feed, placed, amax, torch.zeros(1))
            for name, target in zip(measure.outputs, targets, strict=True):
                squares += float(np.square(found[name].numpy() - target).sum())
                variances += float(np.square(target - target.mean()).sum())
    return 10 * math.log10(squares / variances)


if __name__ == "__main__":
    main()
