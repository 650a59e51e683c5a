"""The smallest sweep that measures something: PSNR of a few small photographs; sweeps without a report."""

from pathlib import Path

SMALL_SWEEP = {
    "metrics": ["psnr"],
    "calibration_samples": 2,
    "evaluation_samples": 4,
    "batch_size": 4,
    "threads": 1,
    "range_method": "minmax",
}


def score_run(checkpoint=None, *, out, trust_checkpoint=False, workers=None, **values):
    """The study of a sweep with these values of a spec: no map is chosen, no report written."""
    # Tests of other things do without ONNX.
    from qsens.api import score_maps
    from qsens.core.spec import spec_from_values
    from qsens.run.folder import spec_for_folder
    from qsens.run.open import open_sweep
    from qsens.run.workers import open_pool, runner_on, with_fixed_threads

    named = {} if checkpoint is None else {"checkpoint": str(checkpoint)}
    wanted = spec_from_values({"strategy": "boundary", **named, **values}, "arguments")
    spec = spec_for_folder(wanted, Path(out))
    with open_pool(workers, None) as pool:
        spec = spec if pool is None else with_fixed_threads(spec)
        job = open_sweep(spec, trust_checkpoint=trust_checkpoint)
        runner = None if pool is None else runner_on(pool, trust_checkpoint=trust_checkpoint)
        return score_maps(job, Path(out), runner=runner)
