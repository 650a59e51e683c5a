"""What starting from yesterday's map saves: the demo's talker, and the same network trained a little further.

python benchmarks/start_from.py [--images 96] [--changes 0.002 0.02] [--keep FOLDER]

Tomorrow's checkpoint is made up: each weight of the talker times 1 + `--changes` times a seeded normal
number. Every one of them is searched (`guided`, budget `jpeg:95` on `fid-fp32`, target and repair those of
the demo) from nothing, and from the run of the talker as it is. Columns: full scores with FP32, FP16 and INT8
everywhere among them, screens, what all that is in full scores, seconds, and INT8 of the chosen map. One
thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from machine import limit_math_threads, print_machine
from onnx import numpy_helper
from search_networks import NETWORKS

from qsens.api import FinishedRun, sweep
from qsens.core.spec import spec_from_values
from qsens.core.trial import Outcome
from qsens.run.open import open_sweep

LEFT_OUT = ("reference", "strategy_options", "strategy", "budget", "model", "checkpoint")
SEED = 0


def main() -> None:
    """Print a row for each search."""
    options = parsed_options()
    limit_math_threads(1)
    print_machine()
    with tempfile.TemporaryDirectory(prefix="qsens-start-") as temporary:
        keep = options.keep or Path(temporary)
        values, model = talker_values(keep / "files", options.images)
        print(f"{'':<30}{'full':>6}{'screens':>9}{'together':>10}{'seconds':>9}{'INT8':>8}", flush=True)
        yesterday = searched("talker", values, model, keep)
        for change in options.changes:
            other = changed(model, change)
            for name, start in ((f"changed by {change:g}", None), ("  from the talker's", yesterday)):
                folder = "new" if start is None else "started"
                searched(name, values, other, keep / f"{folder}-{change:g}", start)


def talker_values(folder: Path, images: int) -> tuple[dict[str, Any], onnx.ModelProto]:
    """The values of a sweep of the talker but its checkpoint, and its graph."""
    found = NETWORKS["talker"](folder)
    opened = open_sweep(spec_from_values({**found, "extractor": "lite0"}, "benchmark"))
    kept = {key: value for key, value in found.items() if key not in LEFT_OUT}
    kept |= {"metrics": ["fid-fp32", "psnr"], "extractor": "lite0", "threads": 1, "strategy": "guided"}
    kept |= {"calibration_samples": 32, "evaluation_samples": images, "budget": "jpeg:95"}
    rule = opened.spec.output
    kept["output"] = {"value_range": list(rule.value_range), "colour_order": rule.colour_order}
    return kept, opened.generator.export()


def changed(model: onnx.ModelProto, change: float) -> onnx.ModelProto:
    """The same network with each weight moved by a share of itself."""
    random, other = np.random.default_rng(SEED), onnx.ModelProto()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            moved = values * (1.0 + change * random.standard_normal(values.shape))
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), tensor.name))
    return other


def searched(
    name: str, values: dict[str, Any], model: onnx.ModelProto, folder: Path, start: Path | None = None
) -> Path:
    """Search one network and print its row; returns the run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, run = folder / "model.onnx", folder / "run"
    onnx.save(model, checkpoint)
    more = {} if start is None else {"start_from": str(start)}
    spec = spec_from_values({**values, **more, "checkpoint": str(checkpoint)}, "benchmark")
    begun = time.perf_counter()
    finished = sweep(spec, run)
    print_row(name, finished, time.perf_counter() - begun)
    return run


def print_row(name: str, finished: FinishedRun, seconds: float) -> None:
    """A line of the table, and what still holds of the start."""
    trials = finished.study.trials
    screens = sum(trial.outcome is Outcome.SCREENED for trial in trials)
    full, spec = len(trials) - screens, finished.spec
    together = full + screens * spec.screen_samples / spec.evaluation_samples
    chosen = finished.selection
    share = "none" if chosen is None else f"{100 * chosen.int8_macs_share:.1f}%"
    print(f"{name:<30}{full:>6}{screens:>9}{together:>10.1f}{seconds:>9.0f}{share:>8}", flush=True)
    if finished.start is not None:
        print(f"    {finished.start}", flush=True)


def parsed_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--changes", nargs="+", type=float, default=[0.002, 0.02])
    parser.add_argument("--keep", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
