"""What batch size and thread count do to outputs and scores.

Nothing to INT8 everywhere; less than the score's own error to a mixed map.

python benchmarks/batch_and_threads.py [--generators style student] [--images 64] [--batch-sizes 1 4 8]
    [--threads 1 2 16]

More threads than cores are allowed and split the work further, as a larger machine would. Every setting
runs the whole evaluation, FP32 included, in a new session, as a sweep at that setting would; the first
line of a map is repeated ("again"). "values" and "pixels" count output values (float32) and uint8 pixel
values that differ from the map's first line. Changes of scores are against that line too; beside them
stands the standard error of the score itself, and the last line also sets them against the paired error
of the difference to FP32. INT8 everywhere must not differ at all, another map not between equal settings:
anything else ends with exit code 1.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from generators import BUILDERS
from machine import print_machine
from numpy.typing import NDArray
from workload import Bench, benchmark_maps, opened

from qsens.calibration.batches import InputCache, run_feeds
from qsens.core.interfaces import InputRule
from qsens.core.metric_names import base_name
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import SweepSpec
from qsens.core.trial import Score
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.run.evaluate import Evaluator
from qsens.run.stages import Workload
from qsens.scoring.extractors import load_extractor
from qsens.scoring.feature_session import user_cache_folder
from qsens.scoring.pictures import picture_output, pictures_from_values

METRICS = ("fid", "fid-fp32", "psnr")


@dataclass(frozen=True)
class Outputs:
    """What one setting gave: raw values, uint8 pictures, scores by metric."""

    values: NDArray[np.float32]
    pictures: NDArray[np.uint8]
    scores: dict[str, Score]


@dataclass(frozen=True)
class Change:
    """Size of a change of a score, as a share of its standard error and of its difference's paired error."""

    of_error: float
    of_paired_error: float


def main() -> int:
    """Print one table for each generator; 1 if something that must be exact is not."""
    options = parsed_options()
    print_machine("onnx")
    print(f"{options.images} images, extractor lite0, placement residual; 'mixed' is INT8 in the first half")
    print("of the layers and FP16 in the rest, 'reverse' FP16 in the first half and INT8 in the rest\n")
    is_exact = True
    for name in options.generators:
        with bench_of(name, options.images) as bench:
            is_exact &= print_table(name, bench, options)
    return 0 if is_exact else 1


@contextmanager
def bench_of(name: str, images: int) -> Iterator[Bench]:
    """The style network on the demo's photographs; others on smooth random fields."""
    generator = BUILDERS[name]()
    spec = SweepSpec(metrics=METRICS, extractor=("lite0",), threads=1)
    if name != "style":
        with opened(generator, images=images, spec=spec) as bench:
            yield bench
        return
    from qsens.cli.demo import CALIBRATION_SAMPLES, write_demo_sets

    rules = [(key, InputRule(source="constant", value=value)) for key, value in generator.constants.items()]
    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as folder:
        inputs, reference = write_demo_sets(Path(folder))
        spec = replace(
            spec, inputs=tuple(rules), reference=str(reference), calibration_samples=CALIBRATION_SAMPLES
        )
        with opened(generator, images=images, spec=spec, inputs=inputs) as bench:
            yield bench


def print_table(name: str, bench: Bench, options: argparse.Namespace) -> bool:
    """Print all settings of one generator; whether everything that must be exact is."""
    maps = benchmark_maps(bench.layers)
    print_header(name, bench)
    settings = [(batch, threads) for batch in options.batch_sizes for threads in options.threads]
    is_exact, changes = True, [Change(0.0, 0.0)]
    for label in ("int8", "mixed", "reverse"):
        first = None
        for batch, threads in [settings[0], *settings]:
            found = outputs_of(bench, maps[label], batch, threads)
            is_again = first is not None and (batch, threads) == settings[0]
            first = first or found
            differing = int(np.count_nonzero(found.values != first.values))
            must_be_exact = label == "int8" or is_again
            is_exact &= not (must_be_exact and differing)
            changes += [change_of(found, first, metric) for metric in METRICS]
            shown = f"{label:<7} {batch:>5} {threads:>7} {differing:>9}{described(found, first)}"
            print(shown + (" again" if is_again else ""), flush=True)
    verdict = "exact where it must be" if is_exact else "NOT EXACT WHERE IT MUST BE"
    print(
        f"{verdict}; largest change of a score: {max(change.of_error for change in changes):.1%} of its ",
        end="",
    )
    print(f"standard error, {max(change.of_paired_error for change in changes):.1%} of the paired error\n")
    return is_exact


def print_header(name: str, bench: Bench) -> None:
    """Name of the generator and the columns."""
    header = ("map", "batch", "threads", "values", "pixels", "of", "largest")
    batches = "batches" if bench.assembled.graph.can_batch else "one sample at a time, whatever the batch"
    print(f"{name} ({batches})")
    print("{:<7} {:>5} {:>7} {:>9} {:>9} {:>10} {:>7}".format(*header), end="")
    for metric in METRICS:
        print(f" | {metric:>9} {'change':>9} {'error':>8}", end="")
    print(flush=True)


def outputs_of(bench: Bench, requested: PrecisionMap, batch: int, threads: int) -> Outputs:
    """Run a map at one setting, in new sessions."""
    extractor = load_extractor("lite0", threads=threads, cache=user_cache_folder())
    work = replace(
        bench.workload,
        backend=OnnxRuntimeBackend(threads=threads),
        batch_size=batch,
        context=replace(bench.workload.context, extractor=extractor),
    )
    values = raw_values(work, requested)
    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
        evaluate = Evaluator(work, evidence=Path(name), samples=Path(name), fp32=None)
        evaluate(0, PrecisionMap(Precision.FP32))
        scores = evaluate(1, requested).scores
    by_metric = {base_name(score.metric): score for score in scores}
    return Outputs(values, pictures_from_values(values, work.output), by_metric)


def raw_values(work: Workload, requested: PrecisionMap) -> NDArray[np.float32]:
    """The picture output over all samples, as the engine gives it."""
    with work.backend.build(lower_graph(work.plan, requested, work.ranges, work.options)) as engine:
        parts = []
        for feeds in InputCache(work.samples, work.plan.graph, work.batch_size).batches():
            outputs = run_feeds(engine, feeds)
            parts.append(outputs[picture_output(outputs, work.output)])
    return np.concatenate(parts)


def described(found: Outputs, first: Outputs) -> str:
    """The columns after the count of differing values."""
    steps = np.abs(found.pictures.astype(np.int16) - first.pictures)
    text = f" {np.count_nonzero(steps):>9} {steps.size:>10} {steps.max():>7}"
    for metric in METRICS:
        score = found.scores[metric]
        change = score.value - first.scores[metric].value
        text += f" | {score.value:>9.4f} {change:>9.1e} {score.standard_error or 0.0:>8.4f}"
    return text


def change_of(found: Outputs, first: Outputs, metric: str) -> Change:
    """Change of a score in units of its errors."""
    score = found.scores[metric]
    change = abs(score.value - first.scores[metric].value)
    errors = (score.standard_error, score.difference_standard_error)
    return Change(*(change / error if error else 0.0 for error in errors))


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", choices=list(BUILDERS), default=["style", "student"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 16])
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
