import numpy as np
import pytest
from quantized_models import probe

from qsens.device import machine
from qsens.device.machine import int8_saturates, overflowing_nodes, this_cpu_saturates
from qsens.device.onnx_nodes import read_onnx_graph

COMMON = "fpu sse sse2 ssse3 sse4_1 avx f16c avx2"
ZEN3 = f"processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: {COMMON} vaes\nbogomips\t: 1\n"
ICE_LAKE = f"processor\t: 0\nflags\t\t: {COMMON} avx512f avx512bw avx512_vnni\n"
SKYLAKE_X = f"processor\t: 0\nflags\t\t: {COMMON} avx512f avx512bw\n"
ALDER_LAKE = f"processor\t: 0\nflags\t\t: {COMMON} avx_vnni\nflags\t\t: avx512_vnni\n"
CORTEX = "processor\t: 0\nFeatures\t: fp asimd aes crc32\nCPU part\t: 0xd07\n"


@pytest.mark.parametrize(
    ("cpuinfo", "limit", "saturates"),
    [
        (ZEN3, "", True),
        (SKYLAKE_X, "", True),
        (ICE_LAKE, "", False),
        (ALDER_LAKE, "", False),
        (CORTEX, "", False),  # no instruction there that adds products in 16 bits
        (CORTEX, "AVX2", False),
        (ICE_LAKE, "AVX2", True),
        (ICE_LAKE, "avx512_core", True),
        (ICE_LAKE, "AVX512_CORE_VNNI", False),
        (ICE_LAKE, "AVX2_VNNI", True),
        (ALDER_LAKE, "AVX2_VNNI", False),
        (ZEN3, "AVX512_CORE_VNNI", True),
    ],
)
def test_saturation_by_the_flags_of_a_cpu(cpuinfo, limit, saturates):
    assert int8_saturates(machine.cpu_flags(cpuinfo), limit) is saturates


def test_this_machine_by_its_own_description(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "CPUINFO", path)
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert this_cpu_saturates({}) is None
    path.write_text(ICE_LAKE)
    assert this_cpu_saturates({}) is False
    assert this_cpu_saturates({"ONEDNN_MAX_CPU_ISA": "AVX2"}) is True
    assert this_cpu_saturates({"DNNL_MAX_CPU_ISA": "AVX2"}) is True
    assert this_cpu_saturates({"ONEDNN_MAX_CPU_ISA": "AVX2"}, onednn=False) is False
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    path.unlink()
    assert this_cpu_saturates({}) is False


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "Gemm"])
@pytest.mark.parametrize(
    ("is_signed", "weight_limit", "overflows"),
    [(False, 127, False), (True, 127, True), (True, 63, False), (False, 63, False)],
)
def test_codes_that_can_overflow_a_pair(operator, is_signed, weight_limit, overflows):
    made = probe(operator, is_signed=is_signed, weight_limit=weight_limit)
    graph = read_onnx_graph(made.model.SerializeToString())
    assert overflowing_nodes(graph) == (frozenset({"layer"}) if overflows else frozenset())


def test_the_bound_is_that_of_two_products_in_16_bits():
    assert 2 * 255 * 64 <= np.iinfo(np.int16).max < 2 * 255 * 65
