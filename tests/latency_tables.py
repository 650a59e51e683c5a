"""Latency tables made up for tests: times by map, with a spread that the notch makes of it."""

import json
import math

from qsens.core.precision import PrecisionMap
from qsens.device.latency import Latency, MapLatency, MeasuredGraph, latency_document

RUNS = 100
DEVICE = {"name": "Test Board"}


def measured(label, precision_map, layers, ms, *, half_width=0.0, batch=1, size=1000, **more):
    """One measurement whose median has that half width; `layers` are the study's."""
    spread = half_width * math.sqrt(RUNS) / 1.57
    canonical = PrecisionMap.over(precision_map.assignment(layer.name for layer in layers))
    return MapLatency(
        label=label,
        precision_map=canonical.to_json(),
        map_digest=canonical.digest,
        flavour="u8",
        batch=batch,
        latency=Latency(RUNS, ms, ms - spread / 2, ms + spread / 2, max(0.0, ms - spread)),
        size_bytes=size,
        **more,
    )


def document_of(entries, layers, *, graph="abc", device=DEVICE, runtime=("openvino", "1.0"), generator="net"):
    return latency_document(
        entries,
        device=device,
        runtime={"name": runtime[0], "version": runtime[1]},
        graph=MeasuredGraph(generator, graph, tuple(layer.name for layer in layers)),
    )


def write_table(path, entries, layers, **more):
    """A latency file with these measurements; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document_of(entries, layers, **more)))
    return path
