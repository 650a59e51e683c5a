"""Latency of FP32, FP16, MIX and INT8 engines at batch 1 and 16, for the Wav2Lip teacher and student.

python benchmarks/gpu/latency.py [--generators teacher student] [--batches 1 16] [--repeats 100]
    [--backend tensorrt]

Writes a latency file for each generator (`qsens bench --latency-json`'s form) to results/,
and prints the medians.
Weights are seeded noise: speed does not depend on them. MIX is INT8 in the first half of the layers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from workbench import RESULTS, Prepared, backend_or_stop, flavour_without_gpu, labelled_maps, prepare

from qsens.core.precision import PrecisionMap
from qsens.deploy.bench import alone, bench
from qsens.device.audit import audit_layers
from qsens.device.bench import BenchSettings, BuiltEngine, Subject
from qsens.device.latency import MeasuredGraph, latency_document, write_latency
from qsens.device.machine import describe_device
from qsens.engines.lowering.lowered_graph import asked_layers

CALIBRATION_SAMPLES = 8


def main() -> None:
    """Measure every generator that was asked for."""
    options = parsed_options()
    prepared = {name: prepare(name, CALIBRATION_SAMPLES) for name in options.generators}
    ranges = {name: one.ranges("minmax") for name, one in prepared.items()}
    for name, one in prepared.items():
        for label, wanted in labelled_maps(one).items():
            lowered = one.lower(wanted, ranges[name], flavour_without_gpu(options.backend))
            print(
                f"{name} {label}: lowered, {len(lowered.detached.serialized()) / 2**20:.1f} MiB", flush=True
            )
    backend = backend_or_stop(options.backend)
    settings = BenchSettings(tuple(options.batches), options.repeats, 20, profiles_layers=True)
    for name, one in prepared.items():
        subjects = [
            Subject(label, wanted.to_json(), wanted.digest, builder(backend, one, wanted, ranges[name]))
            for label, wanted in labelled_maps(one).items()
        ]
        measure(name, one, subjects, settings)


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", default=["teacher", "student"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--backend", choices=("tensorrt", "tensorrt-rtx"), default="tensorrt")
    return parser.parse_args()


def builder(backend, one: Prepared, wanted: PrecisionMap, ranges) -> Callable[[], BuiltEngine]:
    """What builds the engine of a map when its turn comes."""

    def build() -> BuiltEngine:
        lowered = one.lower(wanted, ranges, backend.flavour)
        engine = backend.build(lowered)
        device = engine.device_engine
        return BuiltEngine(
            run=device.run,
            close=engine.close,
            audit=lambda: audit_layers(asked_layers(lowered), device.executed_layers()),
            step_times_ms=device.step_times_ms,
            flavour=backend.flavour,
            runtime=device.runtime,
            version=device.version,
            size_bytes=device.size_bytes,
        )

    return build


def measure(name: str, one: Prepared, subjects: list[Subject], settings: BenchSettings) -> None:
    """Measure the maps of one generator in turn, alone on this machine."""
    with alone(print):
        result = bench(subjects, one.feeds, settings, on_gpu=True, progress=lambda *_: None)
    graph = one.plan.graph
    device = describe_device(result.runtime["name"])
    document = latency_document(
        result.measured,
        device=device,
        runtime=result.runtime,
        graph=MeasuredGraph(name, graph.digest, tuple(layer.name for layer in graph.layers)),
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"latency-{name}-{result.runtime['name']}-{result.runtime['version']}.json"
    write_latency(path, document)
    print(f"\n{name}, {device}")
    for entry in result.measured:
        times = entry.latency
        print(
            f"{entry.label:<5} batch {entry.batch:>2}: {times.median_ms:8.3f} ms "
            f"({times.p25_ms:.3f} to {times.p75_ms:.3f}), {entry.size_bytes / 2**20:.1f} MiB, "
            f"{len(entry.mismatches)} mismatches"
        )
    for label, reason in result.skipped.items():
        print(f"{label}: skipped: {reason}")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
