"""Our Fréchet distance against pytorch-fid's, on the same features: seconds, values, differences.

python benchmarks/frechet.py [--dimension 2048] [--images 500 2000 10000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from qsens.metrics.frechet import Reference, frechet_distance
from qsens.metrics.influence import measure_to_reference

Distance = Callable[[np.ndarray[Any, Any]], float]


def main() -> None:
    """Print one line for each number of images."""
    options = parsed_options()
    generator = np.random.default_rng(options.seed)
    # A power-law spectrum like that of pooled network features.
    spread = np.sqrt(40.0 * np.arange(1, options.dimension + 1) ** -1.3)
    reference_rows = generator.standard_normal((options.reference_images, options.dimension)) * spread
    start = time.perf_counter()
    reference = Reference.from_features(reference_rows, "benchmark")
    seconds = time.perf_counter() - start
    name, other = other_distance(reference_rows)
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
    print(f"numpy {np.__version__}, SciPy {scipy.__version__}, seed {options.seed}")
    print(f"D = {options.dimension}, ", end="")
    print(f"reference of {options.reference_images} images factored once: {seconds:.2f} s")
    print(f"both from raw features to the distance; medians of interleaved runs; other: {name}\n")
    header = ("N", "ours s", "+influence s", "other s", "speed-up", "ours", "difference")
    print("{:>7} {:>8} {:>13} {:>8} {:>9}  {:>15} {:>11}".format(*header))
    for images in options.images:
        rows = generator.standard_normal((images, options.dimension)) * spread * 1.1
        distances = (
            functools.partial(frechet_distance, reference),
            lambda rows: measure_to_reference(reference, rows).distance,
            other,
        )
        seconds_of, values = timed_in_turns(distances, rows, options.repeats)
        print(
            f"{images:>7} {seconds_of[0]:>8.2f} {seconds_of[1]:>13.2f} {seconds_of[2]:>8.2f} "
            f"{seconds_of[2] / seconds_of[0]:>8.1f}x  {values[0]:>15.9f} {values[0] - values[2]:>11.1e}",
            flush=True,
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


def other_distance(reference_rows: np.ndarray[Any, Any]) -> tuple[str, Distance]:
    """pytorch-fid's distance, or the same formula where SciPy no longer has what pytorch-fid calls."""
    mean, covariance = reference_rows.mean(axis=0), np.cov(reference_rows, rowvar=False)
    if tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 18):
        from qsens.metrics.official import import_torchvision

        import_torchvision()
        from pytorch_fid.fid_score import calculate_frechet_distance

        warnings.filterwarnings("ignore", category=DeprecationWarning, module="pytorch_fid")

        def distance(rows: np.ndarray[Any, Any]) -> float:
            return float(
                calculate_frechet_distance(rows.mean(axis=0), np.cov(rows, rowvar=False), mean, covariance)
            )

        return "pytorch-fid 0.3.0", distance

    def plain(rows: np.ndarray[Any, Any]) -> float:
        step, own = rows.mean(axis=0) - mean, np.cov(rows, rowvar=False)
        root = np.trace(scipy.linalg.sqrtm(own @ covariance)).real
        return float(step @ step + np.trace(own) + np.trace(covariance) - 2 * root)

    return f"scipy sqrtm (pytorch-fid 0.3.0 does not run on SciPy {scipy.__version__})", plain


def timed_in_turns(
    distances: tuple[Distance, ...], rows: np.ndarray[Any, Any], repeats: int
) -> tuple[list[float], list[float]]:
    """Median seconds and the value of each distance; one of each in turn, so that all share the weather."""
    seconds: list[list[float]] = [[] for _ in distances]
    values = [0.0] * len(distances)
    for _ in range(repeats):
        for index, distance in enumerate(distances):
            start = time.perf_counter()
            values[index] = distance(rows)
            seconds[index].append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds], values


if __name__ == "__main__":
    main()
