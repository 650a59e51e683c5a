import ctypes

import numpy as np
import pytest
from fake_cuda import FakeCudaLibrary

from qsens.device import cuda_memory
from qsens.device.cuda_memory import Cuda, Gpu, OutOfMemoryError, driver_problem
from qsens.device.errors import DeviceError


def test_values_go_to_the_device_and_come_back():
    library = FakeCudaLibrary()
    cuda = Cuda(library)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    stream, buffer = cuda.create_stream(), cuda.allocate(values.nbytes)
    cuda.copy_to_device(buffer, values, stream)
    back = np.zeros_like(values)
    cuda.copy_to_host(back, buffer, stream)
    cuda.synchronize(stream)
    np.testing.assert_array_equal(back, values)
    assert cuda.free_bytes() == (2**30 - values.nbytes, 2**30)
    buffer.close()
    buffer.close()
    cuda.destroy_stream(stream)
    assert not library.allocated
    assert not library.streams


def test_the_gpu_has_a_name_and_a_capability():
    assert Cuda(FakeCudaLibrary(name="NVIDIA H100", capability=(9, 0))).gpu() == Gpu("NVIDIA H100", "9.0")


def test_too_little_memory_is_its_own_error_and_is_cleared():
    library = FakeCudaLibrary(limit_bytes=10)
    with pytest.raises(OutOfMemoryError, match="out of GPU memory"):
        Cuda(library).allocate(11)
    assert library.cleared_errors == 1


def test_other_errors_tell_cudas_own_words():
    with pytest.raises(
        DeviceError, match=r"cudaGetDeviceCount failed: no CUDA-capable device is detected \(CUDA error 100\)"
    ):
        Cuda(FakeCudaLibrary(devices=0))


def test_a_missing_library_says_what_to_install(monkeypatch):
    def refuse(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(DeviceError, match="libcudart") as caught:
        Cuda()
    assert "nvidia-cuda-runtime" in caught.value.hint
    assert driver_problem() == "no NVIDIA driver on this machine"


class Driver:
    def __init__(self, code, count):
        self.code, self.count = code, count

    def cuInit(self, flags):
        return self.code

    def cuDeviceGetCount(self, count):
        count._obj.value = self.count
        return 0


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (Driver(0, 1), None),
        (Driver(0, 0), "the NVIDIA driver lists no GPU"),
        (Driver(100, 0), "the NVIDIA driver finds no usable GPU (CUDA error 100)"),
    ],
)
def test_the_driver_is_asked_whether_there_is_a_gpu(monkeypatch, driver, said):
    monkeypatch.setattr(cuda_memory.ctypes, "CDLL", lambda name: driver)
    assert driver_problem() == said
