"""Our Fréchet distance against pytorch-fid's, on the same features: seconds, values, differences.

python benchmarks/frechet.py [--dimension 2048] [--images 500 2000 10000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import scipy

from qsens.scoring.frechet import (
    FeatureStatistics,
    Reference,
    distance_of_statistics,
    frechet_distance,
)
from qsens.scoring.influence import measure_to_reference

Rows = np.ndarray[Any, Any]
Distance = Callable[[Rows, Rows], float]


def main() -> None:
    """Print one line for each number of images."""
    options = parsed_options()
    generator = np.random.default_rng(options.seed)
    # A power-law spectrum like that of pooled network features.
    spread = np.sqrt(40.0 * np.arange(1, options.dimension + 1) ** -1.3)
    reference_rows = generator.standard_normal((options.reference_images, options.dimension)) * spread
    start = time.perf_counter()
    moments = FeatureStatistics.from_features(reference_rows, "benchmark")
    reference = Reference.from_statistics(moments)
    seconds = time.perf_counter() - start
    name, other = other_distance(moments.mean, moments.covariance)
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
    print(f"numpy {np.__version__}, SciPy {scipy.__version__}, seed {options.seed}")
    print(f"D = {options.dimension}, ", end="")
    print(f"reference of {options.reference_images} images factored once: {seconds:.2f} s")
    print(f"medians of {options.repeats} interleaved runs; other: {name}, given the moments")
    print("ours is given the features where N <= D and the streamed moments above; 'moments s' is what both")
    print("need beforehand there\n")
    header = ("N", "ours s", "other s", "speed-up", "+influence s", "moments s", "ours", "difference")
    print("{:>6} {:>7} {:>8} {:>9} {:>12} {:>10}  {:>14} {:>11}".format(*header))
    for images in options.images:
        rows = generator.standard_normal((images, options.dimension)) * spread * 1.1
        seconds_of, values = timed_in_turns(distances_of(rows, reference, other), options.repeats)
        ours, theirs, with_influence, moments_alone = seconds_of
        print(
            f"{images:>6} {ours:>7.2f} {theirs:>8.2f} {theirs / ours:>8.1f}x {with_influence:>12.2f} "
            f"{moments_alone:>10.2f}  {values[0]:>14.8f} {values[0] - values[1]:>11.1e}",
            flush=True,
        )


def distances_of(rows: Rows, reference: Reference, other: Distance) -> tuple[Callable[[], float], ...]:
    """Ours, the other, ours with influence, and the moments, of the same features."""
    statistics = FeatureStatistics.from_features(rows, reference.identity)
    ours = (
        (lambda: distance_of_statistics(reference, statistics))
        if len(rows) > rows.shape[1]
        else (lambda: frechet_distance(reference, rows))
    )
    return (
        ours,
        lambda: other(statistics.mean, statistics.covariance),
        lambda: measure_to_reference(reference, rows).distance,
        lambda: FeatureStatistics.from_features(rows, reference.identity).mean[0],
    )


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 2000, 10000])
    parser.add_argument("--reference-images", type=int, default=10000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def other_distance(mean: Rows, covariance: Rows) -> tuple[str, Distance]:
    """pytorch-fid's distance, or the same formula where SciPy no longer has what pytorch-fid calls."""
    if tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 18):
        from qsens.scoring.cpu_torchvision import import_torchvision

        import_torchvision()
        from pytorch_fid.fid_score import calculate_frechet_distance

        warnings.filterwarnings("ignore", category=DeprecationWarning, module="pytorch_fid")
        return "pytorch-fid 0.3.0", lambda *own: float(calculate_frechet_distance(*own, mean, covariance))

    def plain(own_mean: Rows, own_covariance: Rows) -> float:
        step = own_mean - mean
        root = np.trace(scipy.linalg.sqrtm(own_covariance @ covariance)).real
        return float(step @ step + np.trace(own_covariance) + np.trace(covariance) - 2 * root)

    return f"scipy sqrtm (pytorch-fid 0.3.0 does not run on SciPy {scipy.__version__})", plain


def timed_in_turns(
    distances: tuple[Callable[[], float], ...], repeats: int
) -> tuple[list[float], list[float]]:
    """Median seconds and the value of each; one of each in turn, so that all share the weather."""
    seconds: list[list[float]] = [[] for _ in distances]
    values = [0.0] * len(distances)
    for _ in range(repeats):
        for index, distance in enumerate(distances):
            start = time.perf_counter()
            values[index] = distance()
            seconds[index].append(time.perf_counter() - start)
    return [median(times) for times in seconds], values


if __name__ == "__main__":
    main()
