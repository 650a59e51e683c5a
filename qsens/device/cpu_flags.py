"""Whether a CPU's INT8 kernels saturate: without VNNI, x86 adds two products of codes in 16 bits."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Collection, Mapping

import numpy as np

from qsens.device.onnx_nodes import WEIGHTED, OnnxGraph, OnnxNode

CPUINFO = Path("/proc/cpuinfo")
# The sum of two products that `vpmaddubsw` can hold.
_LARGEST_PAIR = 2**15 - 1
_EXACT_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})
# ONEDNN_MAX_CPU_ISA keeps oneDNN, and with it OpenVINO, from what the CPU could do.
_LIMIT_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_LIMITS_WITHOUT_VNNI = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Flags of the first core in the text of `/proc/cpuinfo`; empty where it lists none, as on ARM."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def int8_saturates(flags: Collection[str], isa_limit: str = "") -> bool:
    """Whether sums of INT8 products overflow 16 bits on a CPU with these flags.

    `isa_limit` is a value of `ONEDNN_MAX_CPU_ISA`. A CPU that is no x86 has no such instruction.
    """
    if "ssse3" not in flags:
        return False
    limit = isa_limit.upper()
    if limit in _LIMITS_WITHOUT_VNNI:
        return True
    if limit.startswith("AVX2_VNNI"):
        return "avx_vnni" not in flags
    return not _EXACT_FLAGS & set(flags)


def this_cpu_saturates(environment: Mapping[str, str] = os.environ, *, onednn: bool = True) -> bool | None:
    """As `int8_saturates` for this machine; `None` for an x86 CPU whose flags are not known.

    Without `onednn` the limit of instructions in the environment does not count.
    """
    if platform.machine().lower() not in {"x86_64", "amd64", "i386", "i686"}:
        return False
    if not CPUINFO.exists():
        return None
    limits = [environment.get(name, "") for name in _LIMIT_VARIABLES] if onednn else []
    return int8_saturates(cpu_flags(CPUINFO.read_text()), next(filter(None, limits), ""))


def overflowing_nodes(graph: OnnxGraph) -> frozenset[str]:
    """Weighted nodes whose codes can overflow the sum of two products in 16 bits.

    Codes of a signed tensor (zero point not 0) reach 255; those of a non-negative one reach 127, as long
    as no value passes the calibrated range. Weights that cannot be read count as 127.
    """
    return frozenset(
        node.name
        for node in graph.nodes
        if node.operator in WEIGHTED and _largest_pair(node, graph) > _LARGEST_PAIR
    )


def _largest_pair(node: OnnxNode, graph: OnnxGraph) -> int:
    data, weight = node.inputs[:2]
    if graph.is_constant(data):
        data, weight = weight, data
    zero_point = _zero_point(data, graph)
    codes = _weight_codes(weight, graph)
    if zero_point is None or codes is None:
        return 0
    return 2 * codes * (255 if zero_point else 127)


def _zero_point(tensor: str, graph: OnnxGraph) -> int | None:
    """Zero point of the codes that `tensor` comes from, `None` where it is not dequantized."""
    node = graph.producers.get(tensor)
    if node is None or node.operator != "DequantizeLinear":
        return None
    if len(node.inputs) < 3 or node.inputs[2] not in graph.constants:
        return 0
    values = graph.constants[node.inputs[2]].values()
    return 0 if values is None else int(values.max())


def _weight_codes(tensor: str, graph: OnnxGraph) -> int | None:
    """Largest magnitude of the integer weights behind `tensor`, `None` where they are no integers."""
    node = graph.producers.get(tensor)
    if node is None or node.operator != "DequantizeLinear" or node.inputs[0] not in graph.constants:
        return None
    values = graph.constants[node.inputs[0]].values()
    return 127 if values is None else int(np.abs(values.astype(np.int16)).max(initial=0))
