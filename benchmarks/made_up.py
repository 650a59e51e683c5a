"""Made-up layers, trials and pictures of large runs, for benchmarks that no engine is needed for."""

import numpy as np

from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial

METRICS = (("fid[lite0]", True), ("fid-fp32[lite0]", True), ("psnr", False))


def made_up_layers(count: int) -> tuple[Layer, ...]:
    """Layers that differ in their names alone, ten to a block."""
    return tuple(
        Layer(f"conv{place}", f"/conv{place}", "Conv", f"block{place // 10}", place, 1000, 10**6, 10**6, (1,))
        for place in range(count)
    )


def made_up_study(layers: int, trials: int) -> Study:
    """FP32, FP16 and INT8 everywhere, all cuts as far as they fit, then random maps."""
    members = made_up_layers(layers)
    generator = np.random.default_rng(0)
    flags = [np.arange(layers) < cut for cut in range(1, layers)]
    flags += [~choice for choice in flags]
    flags += [generator.random(layers) < 0.5 for _ in range(trials)]
    maps = [PrecisionMap(precision) for precision in Precision]
    for chosen in flags:
        pairs = zip(members, chosen, strict=True)
        maps.append(
            PrecisionMap.over(
                {one.name: Precision.INT8 if is_int8 else Precision.FP16 for one, is_int8 in pairs}
            )
        )
    return Study("benchmark", members, tuple(made_up_trial(*entry) for entry in enumerate(maps[:trials])))


def made_up_trial(number: int, precision_map: PrecisionMap) -> Trial:
    """Scores that say nothing; FP32's against itself are exact."""
    values = np.random.default_rng(number).random(len(METRICS)) * 30 + 1
    scores = tuple(
        Score(name, float(value), 512, "made up", lower, 0.5, 0.2, 0.1)
        for (name, lower), value in zip(METRICS, values, strict=True)
    )
    return Trial(number, precision_map, precision_map, Outcome.SCORED, scores, duration_s=1.0)


def made_up_pictures(study: Study, side: int) -> dict[int, np.ndarray]:
    """Six pictures a trial, uint8 (6, 3, side, side), with noise of 2 levels beside FP32's."""
    generator = np.random.default_rng(1)
    clean = generator.integers(30, 220, (6, 3, side, side))
    noise = {trial.number: generator.normal(0, 2, clean.shape) * bool(trial.number) for trial in study.trials}
    return {number: np.rint(clean + values).astype(np.uint8) for number, values in noise.items()}
