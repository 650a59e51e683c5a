"""The smallest sweep that measures something: PSNR of a few small photographs."""

SMALL_SWEEP = {
    "metrics": ["psnr"],
    "calibration_samples": 2,
    "evaluation_samples": 4,
    "batch_size": 4,
    "threads": 1,
    "range_method": "minmax",
}
