"""Golden data of a real TensorRT: calibration caches and inspector JSON for two small generators.

python benchmarks/gpu/golden.py [--generators student srresnet-small] [--shares 0 0.5 1]

Inspector: one JSON text for each boundary (the share of layers in INT8, from the front). Caches: TensorRT's
own entropy and min-max calibrators over the same samples as ours (TensorRT 10 and older), with a table of
our thresholds beside theirs. Everything goes to results/golden-<version>/, small enough to commit.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from workbench import RESULTS, Prepared, backend_or_stop, boundary, flavour_without_gpu, prepare

from qsens.calibration.batches import InputCache
from qsens.calibration.ranges import Ranges
from qsens.device.cuda_memory import Cuda
from qsens.device.tensorrt_module import collecting_logger, import_tensorrt
from qsens.engines.tensorrt_files import read_calibration_cache

CALIBRATION_SAMPLES = 64
# TensorRT's class and our method.
CALIBRATORS = {"entropy": "IInt8EntropyCalibrator2", "minmax": "IInt8MinMaxCalibrator"}


def main() -> None:
    """Write everything for each generator."""
    options = parsed_options()
    prepared = {name: prepare(name, CALIBRATION_SAMPLES) for name in options.generators}
    ranges = {name: {method: one.ranges(method) for method in CALIBRATORS} for name, one in prepared.items()}
    for name, one in prepared.items():
        for share in options.shares:
            one.lower(boundary(one, share), ranges[name]["entropy"], flavour_without_gpu("tensorrt"))
        print(
            f"{name}: calibrated with {', '.join(CALIBRATORS)}, {len(options.shares)} maps lowered",
            flush=True,
        )
    backend = backend_or_stop("tensorrt")
    trt = import_tensorrt()
    folder = RESULTS / f"golden-{trt.__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in prepared.items():
        for share in options.shares:
            lowered = one.lower(boundary(one, share), ranges[name]["entropy"], backend.flavour)
            with backend.build(lowered) as engine:
                path = folder / f"inspector-{name}-{backend.flavour}-{share:g}.json"
                path.write_text(engine.device_engine.engine_information(), encoding="utf-8")
            print(path, flush=True)
        for method, calibrator in CALIBRATORS.items():
            if hasattr(trt, calibrator):
                write_cache(trt, getattr(trt, calibrator), one, ranges[name][method], folder)
            else:
                print(f"TensorRT {trt.__version__} has no {calibrator}: no {method} cache", flush=True)


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", nargs="+", default=["student", "srresnet-small"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.5, 1.0])
    return parser.parse_args()


def write_cache(trt: Any, base: Any, one: Prepared, ours: Ranges, folder: Path) -> None:
    """Let TensorRT calibrate the FP32 graph, keep its cache, and compare."""
    calibrator = _calibrator(base, one)
    _build_with(trt, one, calibrator)
    path = folder / f"{one.name}-{ours.method}.cache"
    path.write_bytes(calibrator.written)
    theirs = read_calibration_cache(calibrator.written.decode())
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("tensor", "tensorrt_amax", "qsens_amax", "ratio"))
        for entry in ours.tensors:
            if entry.tensor in theirs.scales:
                amax = float(theirs.scales[entry.tensor]) * 127
                writer.writerow((entry.tensor, amax, entry.amax, entry.amax / amax if amax else ""))
    print(path, flush=True)


def _calibrator(base: Any, one: Prepared) -> Any:
    """A calibrator of TensorRT that reads our samples one at a time."""
    cuda = Cuda()

    class Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.written = b""
            self._feeds = InputCache(one.samples, one.plan.graph, 1).singly()
            self._buffers: dict[str, Any] = {}
            self._stream = cuda.create_stream()

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str], *_: Any) -> list[int] | None:
            feed = next(self._feeds, None)
            if feed is None:
                return None
            for name in names:
                values = np.ascontiguousarray(feed[name])
                buffer = self._buffers.setdefault(name, cuda.allocate(values.nbytes))
                cuda.copy_to_device(buffer, values, self._stream)
                cuda.synchronize(self._stream)
            return [self._buffers[name].address for name in names]

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, cache: Any) -> None:
            self.written = bytes(cache)

    return Calibrator()


def _build_with(trt: Any, one: Prepared, calibrator: Any) -> None:
    logger = collecting_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(one.plan.graph.model.SerializeToString()):
        raise SystemExit(f"{one.name}: TensorRT cannot parse the FP32 graph: {logger.errors()}")
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator
    profile = builder.create_optimization_profile()
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        shape = (1, *tuple(tensor.shape)[1:])
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    config.set_calibration_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        raise SystemExit(f"{one.name}: TensorRT could not calibrate: {logger.errors()}")


if __name__ == "__main__":
    main()
