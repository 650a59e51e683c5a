"""The stack of signal handlers outlives libraries that change it, so that Ctrl-C stays Ctrl-C."""

import ctypes
import sys

import pytest

from qsens.device.openvino_runtime import SignalStack, kept_signal_stack, signal_stack

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's signal stacks")
DISABLED = 2
SIZE = 1 << 16


def facts(stack):
    return stack.ss_sp, stack.ss_flags, stack.ss_size


def set_stack(memory):
    stack = SignalStack(ctypes.addressof(memory), 0, SIZE)
    assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0


def test_a_stack_that_was_changed_is_put_back():
    memory = ctypes.create_string_buffer(SIZE)
    before = facts(signal_stack())
    with kept_signal_stack():
        set_stack(memory)
        assert signal_stack().ss_size == SIZE
    after = facts(signal_stack())
    # A disabled stack has no address or size of its own.
    assert after == before or (after[1] & DISABLED and before[1] & DISABLED)


def fail_with_another_stack(memory):
    with kept_signal_stack():
        set_stack(memory)
        raise ValueError("no plug-in")


def test_it_is_put_back_after_an_error_too():
    memory = ctypes.create_string_buffer(SIZE)
    with pytest.raises(ValueError, match="no plug-in"):
        fail_with_another_stack(memory)
    assert signal_stack().ss_sp != ctypes.addressof(memory)


def test_openvino_leaves_the_stack_alone():
    runtime = pytest.importorskip("qsens.device.openvino_runtime")
    from lowered_models import residual_generator

    before = facts(signal_stack())
    engine = runtime.OpenVinoRuntime(residual_generator().SerializeToString(), batch=1, threads=1)
    engine.close()
    after = facts(signal_stack())
    assert after == before or (after[1] & DISABLED and before[1] & DISABLED)
