"""Coverage of the 95 % intervals of paired differences: how often they hold what they should.

The estimand is the expected difference at the same number of images, which paired maps can be compared by:
Fréchet distances of few images are biased, and a difference keeps a part of that. It is the mean over all
draws; beside it stands the bias, from the known distance (synthetic Gaussian features) or from the value of
the whole run (subsets of large runs of the demo generators, drawn without replacement, by whole clips where
there are any; deviations are scaled up by √(1 - share drawn), as a run has finitely many images).

With `--pairs` the differences are those of two maps that both differ from FP32, whose error
`qsens.run.paired_errors` puts together from both.

python benchmarks/coverage.py [--pairs] [--quick] [--draws 500] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from coverage_draws import CASES, RUNS, Row, run_rows, synthetic_rows
from coverage_pairs import run_pair_rows, synthetic_pair_rows
from machine import limit_math_threads, print_machine

from qsens.core.metric_names import interval_method


def print_rows(title: str, rows: Iterator[tuple[str, Row]]) -> None:
    """Print one case and the CPU seconds it took."""
    start = time.process_time()
    for name, row in rows:
        print(f"| {title} | {name} | " + " | ".join(row.cells()) + " |", flush=True)
        title = ""
    print(f"<!-- {time.process_time() - start:.0f} s of CPU -->", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of paired differences.")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--inputs", type=int, default=2000, help="inputs of the large runs")
    parser.add_argument("--subsets", type=int, nargs="+", default=[100], help="images a draw of these")
    parser.add_argument("--keep", type=Path, help="keep the large runs in this folder, for another time")
    parser.add_argument("--only", choices=("gaussian", *RUNS), help="one part of the table")
    parser.add_argument("--pairs", action="store_true", help="differences of two maps, not from FP32")
    parser.add_argument("--quick", action="store_true", help="40 draws of two Gaussian cases only")
    options = parser.parse_args()
    limit_math_threads(1)
    print_machine("scipy")
    for metric in ("fid", "kid", "psnr"):
        print(f"Intervals of {metric}: {interval_method(metric)}")
    print("\n| case | difference | expected | bias | spread | half-width | error / spread | coverage |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    if options.only in (None, "gaussian"):
        for case in CASES[1:3] if options.quick else CASES:
            of_case = synthetic_pair_rows if options.pairs else synthetic_rows
            print_rows(case.name, of_case(case, 40 if options.quick else options.draws))
    if options.quick:
        return
    with tempfile.TemporaryDirectory(prefix="qsens-coverage-") as temporary:
        folder = options.keep or Path(temporary)
        for name in RUNS if options.only is None else [options.only] if options.only in RUNS else []:
            run = RUNS[name](folder, options.inputs)
            for images in options.subsets:
                clips = "" if run.clusters is None else f", {images // run.images_per_clip} clips"
                of_run = run_pair_rows if options.pairs else run_rows
                print_rows(f"{run.name} N={images}{clips}", of_run(run, images, options.draws))


if __name__ == "__main__":
    main()
