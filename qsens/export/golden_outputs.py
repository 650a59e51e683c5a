"""Golden samples: evaluation inputs with the outputs of FP32 and of the exported map in exact arithmetic."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qsens.core.errors import DataError, ScoreError
from qsens.core.precision import PrecisionMap
from qsens.device.bundle_files import Bounds, BundleInput
from qsens.device.goldens import run_in_batches
from qsens.engines.onnxruntime import OnnxRuntimeBackend
from qsens.export.targets import Target
from qsens.run.reopen import ReopenedRun
from qsens.run.stages import spread_places

# An engine may be this much further from FP32 than exact arithmetic: its roundings fall elsewhere.
ENGINE_ALLOWANCE_DB = 0.5
# Two right engines whose roundings are independent differ from each other by the sum of both errors, 3 dB
# more than each from FP32; the rest is room for the allowance above.
BETWEEN_ENGINES_DB = 4.0
Array = np.ndarray[Any, np.dtype[Any]]


def golden_indices(run: ReopenedRun, count: int) -> tuple[int, ...]:
    """Places in the evaluation set, spread over all of it."""
    return spread_places(len(run.evaluation), count)


def golden_inputs(run: ReopenedRun, indices: tuple[int, ...]) -> dict[str, Array]:
    """Arrays by input name, samples first.

    Raises:
        DataError: if a sample cannot be read, or samples differ in size: an engine takes one size.
    """
    samples = [run.evaluation.sample(index) for index in indices]
    names = [entry.name for entry in run.graph.inputs]
    try:
        return {name: np.stack([sample[name] for sample in samples]) for name in names}
    except ValueError as error:
        raise DataError(
            f"the evaluation samples differ in size: {error}", "use --goldens 1, or inputs of one size"
        ) from error


def bounds_for(exact_psnr_db: float, target: Target) -> Bounds:
    """What an engine of the target must reach, given how close exact arithmetic comes to FP32."""
    return Bounds(
        fp32_psnr_db=min(exact_psnr_db - ENGINE_ALLOWANCE_DB, target.psnr_cap_db),
        exact_psnr_db=min(exact_psnr_db - BETWEEN_ENGINES_DB, target.psnr_cap_db),
    )


def exact_outputs(
    run: ReopenedRun, precision_map: PrecisionMap, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Float32 outputs of a map as it is scored, by name, samples first.

    Raises:
        ScoreError: for values that are not finite, naming the layers where FP16 overflowed.
    """
    entries = [
        BundleInput(entry.name, entry.dtype, inputs[entry.name].shape[1:], entry.is_batched)
        for entry in run.graph.inputs
    ]
    size = run.spec.batch_size if run.graph.can_batch else 1
    with OnnxRuntimeBackend(threads=run.spec.threads).build(run.lower(precision_map)) as engine:
        outputs = run_in_batches(engine.run, inputs, entries, min(size, len(next(iter(inputs.values())))))
        overflows = engine.fp16_overflows()
    if all(np.isfinite(values).all() for values in outputs.values()):
        return {name: np.asarray(values, np.float32) for name, values in outputs.items()}
    named = f": FP16 overflowed in {', '.join(sorted(overflows))}" if overflows else ""
    raise ScoreError(
        f"the golden pictures hold NaN or infinite values{named}",
        "sweep again and keep what overflows in FP32, for example with "
        f"--pin {next(iter(sorted(overflows)), 'LAYER')}=fp32",
    )
