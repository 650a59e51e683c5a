"""What yardsticks cost a demo: CPU seconds of the default ones beside those of maps, in turns.

python benchmarks/yardstick_cost.py [--generator talker] [--turns 3]

Each turn scores one map on all samples (INT8 everywhere, built and run anew), then all default yardsticks.
The share is the median over turns of what the yardsticks take of the maps that the demo scores, preparation
(calibration, repair, features of real images) left out, which makes it larger. CPU seconds of all threads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import print_machine

from qsens.core.alterations import DEFAULT_YARDSTICKS, parse_alterations
from qsens.core.layer import uniform_map
from qsens.core.plugins import create
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import spec_from_values
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.loop import silent
from qsens.run.open import open_sweep
from qsens.run.score_yardsticks import YardstickScorer
from qsens.run.target import fitted_to_target


def main() -> None:
    """Print a line a turn, then the share."""
    options = parsed_options()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="qsens-cost-") as temporary:
        values = dict(create("demos", options.generator, {}).spec_values(Path(temporary) / "sets"))
        spec = spec_from_values({**values, "repair": "none"}, "benchmark")
        opened = open_sweep(spec)
        with RunFolder.open(Path(temporary) / "run", opened.spec) as folder:
            opened = fitted_to_target(opened, folder, silent)
            workload = calibrated_workload(opened, folder, silent)
            evaluator = Evaluator(workload, evidence=folder.evidence, samples=folder.samples, fp32=None)
            fp32 = evaluator(0, PrecisionMap(Precision.FP32))
            int8 = uniform_map(opened.graph.layers, Precision.INT8)
            alterations = parse_alterations(DEFAULT_YARDSTICKS)
            scorer = YardstickScorer(workload, folder, alterations, spec.seed, silent, print)
            planned = opened.planned
            maps = 0 if planned is None else len(planned.maps)
            shares = []
            for turn in range(options.turns):
                # Another number each time: what was scored before is taken as it is.
                for kept in folder.evidence.glob("graph-*"):
                    kept.unlink()
                map_s = cpu_seconds(lambda number=turn + 1: evaluator(number, int8))
                folder.yardsticks_path.unlink(missing_ok=True)
                yardsticks_s = cpu_seconds(lambda: scorer(fp32))
                shares.append(yardsticks_s / (maps * map_s))
                print(
                    f"turn {turn}: a map {map_s:.2f} s, {len(alterations)} yardsticks {yardsticks_s:.2f} s",
                    flush=True,
                )
            print(f"of {maps} maps: {100 * statistics.median(shares):.1f}% (median of {options.turns} turns)")


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU seconds of all threads of this process."""
    start = time.process_time()
    call()
    return time.process_time() - start


def parsed_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generator", default="talker")
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
