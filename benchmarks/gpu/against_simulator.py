"""Scores of TensorRT's engines beside the simulator's, for every boundary of the demo's talker, both ways.

python benchmarks/gpu/against_simulator.py [--images 400] [--step 1] [--backend tensorrt]

The simulator is what `qsens sweep` scores with by default (the `exact` graph in ONNX Runtime). Both score
the same maps on the same pictures with the same ranges; each is compared with its own FP32. Writes one line
a map and metric to results/ and prints the largest differences, in standard errors of the simulator's score.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from workbench import RESULTS, backend_or_stop

from qsens.core.errors import BuildError, ScoreError
from qsens.core.layer import Layer, map_of
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import spec_from_values
from qsens.core.trial import Trial
from qsens.run.evaluate import Evaluator, calibrated_workload
from qsens.run.folder import RunFolder
from qsens.run.open import open_sweep
from qsens.run.stages import Workload
from qsens.zoo.talker.demo import TalkerDemo

COLUMNS = ("map", "metric", "simulator", "engine", "difference", "standard_error", "mismatches", "error")


def main() -> None:
    """Score every boundary twice."""
    options = parsed_options()
    with tempfile.TemporaryDirectory(prefix="qsens-gpu-") as name:
        folder = Path(name)
        values = {**TalkerDemo().spec_values(folder), "evaluation_samples": options.images}
        values.pop("target")  # whose INT8 codes are those of CPUs
        opened = open_sweep(spec_from_values(values, "demo"))
        with RunFolder.open(folder / "simulator", opened.spec) as run:
            workload = calibrated_workload(opened, run, lambda *_: None)
        maps = boundaries(opened.graph.layers, options.step)
        print(f"{len(maps)} maps over {len(opened.evaluation)} samples, ranges measured", flush=True)
        backend = backend_or_stop(options.backend)
        simulated = scored(workload, maps, folder / "simulator")
        built = scored(replace(workload, backend=backend), maps, folder / "engine")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"against-simulator-{options.backend}-{backend.version}.csv"
    rows = [row for label in maps for row in compared(label, simulated[label], built[label])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print_largest(rows)
    print(f"written to {path}")


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--step", type=int, default=1, help="every how many layers a boundary lies")
    parser.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), default="tensorrt")
    return parser.parse_args()


def boundaries(layers: Sequence[Layer], step: int) -> dict[str, PrecisionMap]:
    """FP32, then INT8 in the first k layers (`forward`), then in the last (`backward`)."""
    maps = {"fp32": PrecisionMap(Precision.FP32)}
    ends = sorted({*range(0, len(layers) + 1, step), len(layers)})
    for label, before, after in (
        ("forward", Precision.INT8, Precision.FP16),
        ("backward", Precision.FP16, Precision.INT8),
    ):
        for count in ends:
            wished = {layer.name: before if layer.index < count else after for layer in layers}
            maps[f"{label} {count}"] = map_of(layers, wished)
    return maps


def scored(workload: Workload, maps: Mapping[str, PrecisionMap], folder: Path) -> dict[str, Trial | str]:
    """Trials by label, or why there is none."""
    for part in ("evidence", "samples"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    evaluate = Evaluator(workload, evidence=folder / "evidence", samples=folder / "samples", fp32=None)
    found: dict[str, Trial | str] = {}
    for number, (label, wanted) in enumerate(maps.items()):
        try:
            found[label] = evaluate(number, wanted)
        except (BuildError, ScoreError) as error:
            found[label] = error.message
        print(f"{workload.backend.name} {label}", flush=True)
    return found


def compared(label: str, simulated: Trial | str, built: Trial | str) -> list[dict[str, object]]:
    """One row a metric; one row with the reason where either failed."""
    if isinstance(simulated, str) or isinstance(built, str):
        reason = next(entry for entry in (simulated, built) if isinstance(entry, str))
        return [{"map": label, "error": reason}]
    rows = []
    for ours in simulated.scores:
        theirs = built.score(ours.metric)
        assert theirs is not None, "both score with the same metrics"
        rows.append(
            {
                "map": label,
                "metric": ours.metric,
                "simulator": ours.value,
                "engine": theirs.value,
                "difference": theirs.value - ours.value,
                "standard_error": ours.standard_error,
                "mismatches": " ".join(built.mismatches),
            }
        )
    return rows


def print_largest(rows: Sequence[Mapping[str, object]]) -> None:
    """The map where each metric differs most."""
    metrics = dict.fromkeys(str(row["metric"]) for row in rows if "metric" in row)
    for metric in metrics:
        found = [row for row in rows if row.get("metric") == metric]
        worst = max(found, key=lambda row: abs(float(str(row["difference"]))))
        print(
            f"{metric}: at most {worst['difference']:+.4g} ({worst['map']}), error {worst['standard_error']}"
        )


if __name__ == "__main__":
    main()
