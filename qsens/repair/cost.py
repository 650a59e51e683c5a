"""The time that a repair would take, from how long a picture and a sample of the calibration take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qsens.engines.lowering.plan import LoweringOptions, LoweringPlan
from qsens.repair.channel_scales import LEARNING_STEPS
from qsens.repair.layer_inputs import WeightMatrix
from qsens.repair.range_search import MOST_TRIES
from qsens.repair.stages import FEWEST_SAMPLES, FITTED_PICTURES, HELD_OUT_PICTURES, LEARNED_AT_ONCE
from qsens.repair.weights import MOST_COLUMNS, ROWS

# The most that searches took: a tensor's neighbours once or twice, a few of them further.
TRIES_PER_TENSOR = 5
# A gradient of a picture takes as long as so many pictures.
RUNS_PER_GRADIENT = 4
# Multiply-accumulates of products and factors in NumPy on one core.
MACS_PER_S = 2e10


@dataclass(frozen=True)
class Pace:
    """Seconds on this machine: lowering and opening a map, one picture in INT8, one calibration sample."""

    build_s: float
    picture_s: float
    sample_s: float


def repair_seconds(
    plan: LoweringPlan, options: LoweringOptions, stages: tuple[str, ...], samples: int, pace: Pace
) -> float:
    """About how long those stages take at most with so many calibration samples; 0 for too few."""
    if samples < FEWEST_SAMPLES:
        return 0.0
    work: Mapping[str, Callable[[LoweringPlan, LoweringOptions, Pace], float]] = {
        "scales": _scales_s,
        "ranges": _ranges_s,
        "weights": _weights_s,
    }
    judging = 2 * (pace.build_s + HELD_OUT_PICTURES * pace.picture_s)
    return sum(judging + samples * pace.sample_s + work[stage](plan, options, pace) for stage in stages)


def _scales_s(plan: LoweringPlan, options: LoweringOptions, pace: Pace) -> float:
    return LEARNING_STEPS * LEARNED_AT_ONCE * RUNS_PER_GRADIENT * pace.picture_s


def _ranges_s(plan: LoweringPlan, options: LoweringOptions, pace: Pace) -> float:
    tries = min(MOST_TRIES, TRIES_PER_TENSOR * len(plan.quantized_tensors(options.placement)))
    return tries * (pace.build_s + FITTED_PICTURES * pace.picture_s)


def _weights_s(plan: LoweringPlan, options: LoweringOptions, pace: Pace) -> float:
    """Second moments of the inputs, their inverse factors, and the columns one after the other."""
    macs = 0
    for operation in plan.operations.values():
        weight = plan.topology.constant(operation.weight)
        matrix = WeightMatrix(plan.topology.nodes[operation.node], weight.shape)
        width = min(matrix.columns, MOST_COLUMNS)
        outputs = weight.size // matrix.columns // matrix.groups
        of_run = width**2 * (ROWS + 2 * width + 2 * outputs)
        macs += matrix.groups * of_run * -(-matrix.columns // width)
    return macs / MACS_PER_S
