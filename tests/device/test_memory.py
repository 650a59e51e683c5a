"""Memory of an engine: real growth of this process, and made-up answers of a driver."""

import os
from pathlib import Path

import numpy as np
import pytest

from qsens.device.power import added_memory_bytes, gpu_memory_bytes

is_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


@is_linux
def test_growth_is_what_was_taken_and_kept():
    kept = []
    grown = added_memory_bytes(lambda: kept.append(np.ones(2**22)))
    assert 0.9 * 2**25 < grown < 2**25 + 2**23


@is_linux
def test_a_peak_that_was_given_back_counts():
    assert added_memory_bytes(lambda: np.ones(2**22).sum()) > 0.9 * 2**25


def test_a_system_that_does_not_tell_is_null(tmp_path):
    assert added_memory_bytes(lambda: None, root=tmp_path) is None


def test_only_this_process_counts_on_the_gpu():
    listed = f"1, 500\n{os.getpid()}, 300\n{os.getpid()}, 20\n"
    assert gpu_memory_bytes(lambda _: listed) == 320 * 2**20
    assert gpu_memory_bytes(lambda _: "1, 500\n") is None
    assert gpu_memory_bytes(lambda _: None) is None
