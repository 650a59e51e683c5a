"""A CUDA runtime library in Python: memory is host memory, streams are numbers, and there is a limit."""

import ctypes

OUT_OF_MEMORY = 2
NO_DEVICE = 100


class FakeCudaLibrary:
    """What `qsens.device.cuda_memory.Cuda` calls; `limit_bytes` is all the memory that there is."""

    def __init__(self, *, devices=1, name="Orin", capability=(8, 7), limit_bytes=2**30):
        self.devices = devices
        self.name = name
        self.capability = capability
        self.limit_bytes = limit_bytes
        self.allocated = {}
        self.streams = set()
        self.cleared_errors = 0
        self.cudaGetErrorString = _ErrorString()

    def cudaGetDeviceCount(self, count):
        count._obj.value = self.devices
        return 0 if self.devices else NO_DEVICE

    def cudaGetDevice(self, device):
        device._obj.value = 0
        return 0

    def cudaDeviceGetAttribute(self, value, which, device):
        value._obj.value = self.capability[{75: 0, 76: 1}[which.value]]
        return 0

    def cudaGetDeviceProperties(self, properties, device):
        properties.value = self.name.encode()
        return 0

    def cudaMalloc(self, address, size):
        if sum(map(len, self.allocated.values())) + size.value > self.limit_bytes:
            return OUT_OF_MEMORY
        memory = (ctypes.c_char * size.value)()
        address._obj.value = ctypes.addressof(memory)
        self.allocated[address._obj.value] = memory
        return 0

    def cudaFree(self, address):
        del self.allocated[address.value]
        return 0

    def cudaMemGetInfo(self, free, total):
        total._obj.value = self.limit_bytes
        free._obj.value = self.limit_bytes - sum(map(len, self.allocated.values()))
        return 0

    def cudaStreamCreate(self, stream):
        stream._obj.value = 7 + len(self.streams)
        self.streams.add(stream._obj.value)
        return 0

    def cudaStreamDestroy(self, stream):
        self.streams.remove(stream.value)
        return 0

    def cudaStreamSynchronize(self, stream):
        return 0 if stream.value in self.streams else NO_DEVICE

    def cudaMemcpyAsync(self, target, source, count, kind, stream):
        device = target if kind.value == 1 else source
        assert len(self.allocated[device.value]) >= count.value, "a copy beyond the buffer"
        ctypes.memmove(target.value, source.value, count.value)
        return 0

    def cudaGetLastError(self):
        self.cleared_errors += 1
        return OUT_OF_MEMORY


class _ErrorString:
    restype = None

    def __call__(self, code):
        return {NO_DEVICE: b"no CUDA-capable device is detected"}.get(code.value, b"unknown error")
