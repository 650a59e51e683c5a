"""Specs of a few steps at a small width."""

from qsens.zoo.training.spec_reading import spec_from_values

COMMON = {
    "steps": 6,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "log_every": 2,
    "validate_every": 4,
    "validation_samples": 4,
    "checkpoint_every": 4,
    "accelerator": "cpu",
}
SMALL = {"width": 0.0625, "residual": False}


def small_spec(kind, corpus, out, **values):
    """Six steps of a kind of training on the corpus."""
    shape = {} if kind == "expert" else SMALL
    given = {"kind": kind, "data": [str(corpus)], "out": str(out), **COMMON, **shape, **values}
    return spec_from_values(given, "the test's spec")
