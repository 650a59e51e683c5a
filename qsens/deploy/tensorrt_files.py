"""What a bundle for TensorRT holds besides: the `trtexec` command, and what implicit quantization needs."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from qsens.backends.calibration_cache import calibration_cache_text
from qsens.backends.trtexec import trtexec_lines
from qsens.calibration.ranges import Ranges
from qsens.deploy.float_fallback import LARGEST_MESSAGE
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph

# The last TensorRT 8, which JetPack 6.0 has.
CACHE_VERSION = "8.6.1"
COMMAND = "trtexec.txt"
CACHE = "calibration.cache"
PLAIN_MODEL = "fp32.onnx"


@dataclass(frozen=True)
class TensorRtFiles:
    """What was written: the commands, and each file with what a reader must know of it."""

    command: str
    described: dict[str, str]


def write_tensorrt_files(folder: Path, lowered: LoweredGraph, ranges: Ranges, batch: int) -> TensorRtFiles:
    """Write `trtexec.txt` and `calibration.cache`; for TensorRT 8 the FP32 graph that takes the cache too."""
    described = {
        COMMAND: "the commands that build the engine without Python",
        CACHE: "`ranges.json` as TensorRT 10 and older read it, for implicit quantization; its first line "
        f"names TensorRT {CACHE_VERSION}: write the device's version there (8.5.2 is 8502, 10.3.0 is 100300)",
    }
    plain = None
    model = lowered.graph.model
    if lowered.flavour == Flavour.WEAK and model.ByteSize() < LARGEST_MESSAGE:
        plain = PLAIN_MODEL
        onnx.save(model, folder / plain)
        described[plain] = "the generator in FP32, without quantization, for implicit quantization"
    command = trtexec_lines(lowered, plain_model=plain, batches=(batch, batch, batch))
    (folder / COMMAND).write_text(command, encoding="utf-8")
    (folder / CACHE).write_text(calibration_cache_text(ranges, version=CACHE_VERSION), encoding="utf-8")
    return TensorRtFiles(command, described)
