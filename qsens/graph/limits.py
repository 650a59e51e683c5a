"""Bounds on the time and the memory that one run of an unknown graph may take."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from threading import Thread
from typing import Any

import onnxruntime

from qsens.device.power import machine_memory_bytes

# A generator that takes longer for one sample cannot be swept: every map scores hundreds of them.
LONGEST_SAMPLE_S = 120.0
LARGEST_RUN_BYTES = 32 * 2**30
_SHRINK = "memory.enable_memory_arena_shrinkage"


@cache
def run_bytes() -> int:
    """Bytes that the inner tensors of one run may take together: half of the memory, at most 32 GiB."""
    memory_bytes = machine_memory_bytes()
    return LARGEST_RUN_BYTES if memory_bytes is None else min(LARGEST_RUN_BYTES, memory_bytes // 2)


def bound_memory(options: onnxruntime.SessionOptions) -> None:
    """Have a session take its tensors from an arena of at most `run_bytes()`; its weights do not count."""
    _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


@cache
def _register_arena() -> None:
    """ONNX Runtime has one such arena in a process, and none for a single session."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    settings = {
        "max_mem": run_bytes(),
        "arena_extend_strategy": 1,  # as much as is asked for, not the next power of two
        "initial_chunk_size_bytes": -1,
        "max_dead_bytes_per_chunk": -1,
    }
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(settings))


def run_within(session: onnxruntime.InferenceSession, feeds: dict[str, Any], *, limit_s: float) -> list[Any]:
    """All outputs of a session that `bound_memory` bounded.

    The run goes on in a thread, so that this one hears Ctrl-C: ONNX Runtime looks between two nodes, in
    loops too, whether it should end.

    Raises:
        TimeoutError: if the run takes longer than `limit_s`.
        Exception: whatever ONNX Runtime raises.
    """
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    options.add_run_config_entry(_SHRINK, "cpu:0")  # the arena would keep what it took
    outputs: Future[list[Any]] = Future()
    work = Thread(
        target=_settle, args=(outputs, lambda: list(session.run(None, feeds, options))), daemon=True
    )
    work.start()
    try:
        return outputs.result(limit_s)
    except BaseException:
        options.terminate = True
        raise


def _settle(outputs: "Future[list[Any]]", call: Callable[[], list[Any]]) -> None:
    try:
        outputs.set_result(call())
    except BaseException as error:  # passed on to the thread that waits
        outputs.set_exception(error)
