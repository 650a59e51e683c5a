"""Memory and streams of an NVIDIA GPU through the CUDA runtime library, with ctypes and NumPy only."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qsens.device.errors import DeviceError

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

# Numbers of the CUDA runtime's own headers (cudaError_t, cudaDeviceAttr, cudaMemcpyKind).
OUT_OF_MEMORY = 2
_MAJOR, _MINOR = 75, 76
_TO_DEVICE, _TO_HOST = 1, 2
_SONAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "cudart64_12.dll")
_WHEEL_FOLDERS = ("nvidia/cuda_runtime/lib", "nvidia/cu13/lib", "nvidia/cuda_runtime/bin")
_PROPERTIES_BYTES = 8192
_NAME_BYTES = 256


class OutOfMemoryError(DeviceError):
    """The GPU has not enough free memory for what was asked."""


@dataclass(frozen=True)
class Gpu:
    """The GPU that is in use; `compute_capability` like `8.7`."""

    name: str
    compute_capability: str


class Cuda:
    """The CUDA runtime library, checked after every call.

    Raises:
        DeviceError: where the library or a GPU is missing.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library if library is not None else _load_library()
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        if not count.value:
            raise DeviceError("CUDA finds no GPU", "nvidia-smi must list one")

    def gpu(self) -> Gpu:
        """Name and compute capability of the current device."""
        device = ctypes.c_int()
        self._call("cudaGetDevice", ctypes.byref(device))
        numbers = [self._attribute(which, device) for which in (_MAJOR, _MINOR)]
        return Gpu(self._device_name(device), f"{numbers[0]}.{numbers[1]}")

    def allocate(self, size_bytes: int) -> DeviceBuffer:
        """Memory on the GPU. Raises `OutOfMemoryError` where there is not enough."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(size_bytes, 1)))
        return DeviceBuffer(self, int(address.value or 0), size_bytes)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def free_bytes(self) -> tuple[int, int]:
        """Bytes of the GPU's memory: free, and in all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def create_stream(self) -> int:
        """A stream of its own; TensorRT adds waits to work on the default one."""
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        return int(stream.value or 0)

    def destroy_stream(self, stream: int) -> None:
        """Free a stream."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        """Wait for all work on a stream; errors of earlier work show here."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def copy_to_device(self, buffer: DeviceBuffer, values: Array, stream: int) -> None:
        """Start to copy a C-contiguous array into the buffer."""
        self._copy(buffer.address, values.ctypes.data, values.nbytes, _TO_DEVICE, stream)

    def copy_to_host(self, values: Array, buffer: DeviceBuffer, stream: int) -> None:
        """Start to copy the buffer into a C-contiguous array."""
        self._copy(values.ctypes.data, buffer.address, values.nbytes, _TO_HOST, stream)

    def _copy(self, target: int, source: int, count: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(count),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def _attribute(self, which: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), device)
        return value.value

    def _device_name(self, device: ctypes.c_int) -> str:
        """The first field of the properties, whose other fields change with the version of CUDA."""
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        newest = "cudaGetDeviceProperties_v2"
        name = newest if hasattr(self._library, newest) else "cudaGetDeviceProperties"
        self._call(name, properties, device)
        return properties.raw[:_NAME_BYTES].split(b"\0")[0].decode(errors="replace")

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code == 0:
            return
        if code == OUT_OF_MEMORY:
            # The runtime keeps the last error; reading it clears it for the next call.
            self._library.cudaGetLastError()
            raise OutOfMemoryError(
                "out of GPU memory", "use a smaller batch, or stop what else runs on the GPU"
            )
        raise DeviceError(f"{name} failed: {self._reason(code)}", "nvidia-smi and dmesg may say more")

    def _reason(self, code: int) -> str:
        describe = self._library.cudaGetErrorString
        describe.restype = ctypes.c_char_p
        text = describe(ctypes.c_int(code))
        return f"{text.decode(errors='replace')} (CUDA error {code})" if text else f"CUDA error {code}"


class DeviceBuffer:
    """A piece of GPU memory; freed by `close`."""

    def __init__(self, cuda: Cuda, address: int, size_bytes: int) -> None:
        self._cuda = cuda
        self.address = address
        self.size_bytes = size_bytes

    def close(self) -> None:
        """Give the memory back, once."""
        if self.address:
            address, self.address = self.address, 0
            self._cuda.free(address)


def driver_problem() -> str | None:
    """The reason that no GPU can be used, or `None`. Asks the driver alone, without a context or CUDA."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver on this machine"
    code = int(driver.cuInit(0))
    if code:
        return f"the NVIDIA driver finds no usable GPU (CUDA error {code})"
    count = ctypes.c_int()
    code = int(driver.cuDeviceGetCount(ctypes.byref(count)))
    return None if code == 0 and count.value else "the NVIDIA driver lists no GPU"


def _load_library() -> Any:
    """The CUDA runtime of the system, of a CUDA toolkit, or of NVIDIA's wheel."""
    places = [folder / name for folder in _library_folders() for name in _SONAMES]
    names = [str(place) for place in places if place.is_file()]
    found = ctypes.util.find_library("cudart")
    for name in (*names, *_SONAMES, *([found] if found else [])):
        with suppress(OSError):
            return ctypes.CDLL(name)
    raise DeviceError(
        "the CUDA runtime library (libcudart) is not here",
        "install the CUDA toolkit, or the wheel nvidia-cuda-runtime-cu12 (-cu13 for CUDA 13)",
    )


def _library_folders() -> list[Path]:
    wheels = [Path(entry) / folder for entry in sys.path if entry for folder in _WHEEL_FOLDERS]
    return [*wheels, Path("/usr/local/cuda/lib64")]
