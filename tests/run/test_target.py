"""Hints on targets, and layers that a run folder says are held in float."""

from dataclasses import replace

import pytest

from qsens.core.layer import layers_from_csv, layers_to_csv
from qsens.core.precision import Precision
from qsens.core.targets import target_named
from qsens.run.target import placement_hint
from qsens.testing import example_layers

CONV, TRANSPOSED = (replace(example_layers(1)[0], kind=kind) for kind in ("Conv", "ConvTranspose"))


@pytest.mark.parametrize(
    ("target", "placement", "layers", "helps"),
    [
        ("onnxruntime", "residual", [CONV], True),
        ("onnxruntime", "residual", [CONV, TRANSPOSED], True),
        ("onnxruntime", "residual", [TRANSPOSED], False),
        ("onnxruntime", "dense", [CONV], True),
        ("onnxruntime", "kernels", [CONV], False),
        ("openvino", "residual", [CONV], False),
        ("tensorrt", "residual", [CONV], False),
    ],
)
def test_another_placement_is_only_hinted_at_where_it_helps(target, placement, layers, helps):
    hint = placement_hint(target_named(target).target, placement, layers)
    assert ("--placement kernels" in hint) is helps


def test_the_reason_for_float_is_kept_with_the_layers_and_older_tables_have_none():
    plain = example_layers(2)
    assert "float_reason" not in layers_to_csv(plain)
    allowed = frozenset({Precision.FP32, Precision.FP16})
    held = (plain[0], replace(plain[1], allowed=allowed, float_reason="acme has no INT8 kernel, here"))
    for layers in (plain, held):
        assert layers_from_csv(layers_to_csv(layers), "layers.csv") == tuple(layers)
