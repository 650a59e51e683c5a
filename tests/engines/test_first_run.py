"""A runtime whose kernels crash: what is said, and which graphs are tried in a process of their own."""

from dataclasses import replace

import numpy as np
import pytest

from qsens.core.errors import BuildError
from qsens.device.bundle_files import Bounds, Bundle
from qsens.engines import first_run
from qsens.engines.first_run import may_crash, refuse_crash
from qsens.testing import example_layers

READS = "import os, pickle, sys; paths, rest = (pickle.load(sys.stdin.buffer) for _ in range(2)); "


def bundle(folder):
    floats = {"value_range": (0.0, 1.0), "bounds": Bounds(0.0, 0.0), "float_pins": ()}
    names = {"runtime": "acme", "flavour": "s8", "picture": "y", "outputs": ("y",), "inputs": (), "asked": ()}
    return Bundle(folder=folder, batch=1, document={}, **floats, **names)


@pytest.mark.parametrize("number", [11, 6])
def test_a_crash_of_the_runtime_is_an_error_that_names_it(number, tmp_path, monkeypatch):
    monkeypatch.setattr(first_run, "_PROGRAM", f"{READS} os.kill(os.getpid(), {number})")
    with pytest.raises(BuildError, match=r"acme crashed \(SIG(SEGV|ABRT)\)") as crashed:
        refuse_crash(bundle(tmp_path), {"x": np.zeros(3, np.float32)})
    assert "--pin" in crashed.value.hint


def test_the_bundle_and_its_inputs_reach_the_process_and_other_errors_are_not_its_own(tmp_path, monkeypatch):
    seen = tmp_path / "seen"
    program = (
        f"{READS} open({str(seen)!r}, 'w').write(str((rest[0].runtime, rest[1]['x'].sum()))); sys.exit(1)"
    )
    monkeypatch.setattr(first_run, "_PROGRAM", program)
    refuse_crash(bundle(tmp_path), {"x": np.ones(3, np.int64)})
    assert "acme" in seen.read_text()
    assert "3" in seen.read_text()


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 4, 8, 8), False), ((1, 4, 2, 8, 8), True), ((1, 4), False)]
)
def test_graphs_with_volumes_are_tried_apart(shape, expected):
    layers = example_layers(3)
    assert may_crash((*layers[:2], replace(layers[2], output_shape=shape))) == expected
