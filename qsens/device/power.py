"""Energy and memory of an engine, from the machine's own meters; what they do not tell is not guessed."""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from pathlib import Path
from typing import Any, Callable

from qsens.device.machine import Tool, output_of

_RESET_PEAK = "5"  # proc(5), clear_refs: sets the peak of the resident memory to what is resident now
SYSTEM = Path("/")
# Together the whole module, by board; other sets of rails overlap or leave something out.
# Jetson Linux Developer Guide, "Power and performance": tables of the INA3221 channels.
_WHOLE_MODULE = (
    ("VDD_IN",),  # TX2, Xavier NX, Orin NX, Orin Nano
    ("POM_5V_IN",),  # Nano
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin; its VDDQ_VDD2_1V8AO is part of the last
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
_SAMPLE_EVERY_S = 0.02
Clock = Callable[[], float]


def added_memory_bytes(work: Callable[[], object], *, root: Path = SYSTEM) -> int | None:
    """The rise of the process's resident memory above its start while `work` ran, peaks included.

    Memory that an earlier engine freed is given back to the system first, as far as the C library can.
    `None` where the system does not tell (Linux does).
    """
    _give_back_freed_memory()
    status = root / "proc/self/status"
    can_reset = _reset_peak(root)
    before = _resident(status)
    work()
    after = _resident(status)
    if before is None or after is None:
        return None
    top = after[1] if can_reset else after[0]
    return max(0, top - before[0])


def machine_memory_bytes(*, root: Path = SYSTEM) -> int | None:
    """Memory of this machine, or of the control group that this process may use; `None` if not told."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    try:
        limit = int((root / "sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # "max" says that there is none
        return total
    return min(total, limit)


def gpu_memory_bytes(tool: Tool = output_of) -> int | None:
    """Device memory that this process holds, by `nvidia-smi`; `None` where it does not list the process."""
    listed = tool(("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"))
    total = None
    for line in (listed or "").splitlines():
        match = re.match(rf"\s*{os.getpid()}\s*,\s*(\d+)\s*$", line)
        if match is not None:
            total = (total or 0) + int(match.group(1)) * 2**20
    return total


def _give_back_freed_memory() -> None:
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _reset_peak(root: Path) -> bool:
    try:
        (root / "proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _resident(status: Path) -> tuple[int, int] | None:
    """Resident bytes now and at their peak."""
    try:
        text = status.read_text()
    except OSError:
        return None
    now = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
    peak = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    if now is None or peak is None:
        return None
    return 1024 * int(now.group(1)), 1024 * int(peak.group(1))


class EnergyMeter:
    """Counts the energy of everything that `name` supplies, idle share included, between start and stop."""

    name: str

    def start(self) -> None:
        """Begin to count."""
        raise NotImplementedError

    def stop(self) -> float | None:
        """Millijoules since `start`; `None` where the meter could not be read."""
        raise NotImplementedError


class CounterMeter(EnergyMeter):
    """A meter that counts energy itself. `read` gives millijoules, which start again at `wraps_at`."""

    def __init__(self, name: str, read: Callable[[], float], wraps_at: float | None = None) -> None:
        self.name = name
        self._read = read
        self._wraps_at = wraps_at
        self._begin: float | None = None

    def start(self) -> None:
        self._begin = self._value()

    def stop(self) -> float | None:
        end = self._value()
        if self._begin is None or end is None:
            return None
        if end < self._begin:
            return None if self._wraps_at is None else end + self._wraps_at - self._begin
        return end - self._begin

    def _value(self) -> float | None:
        try:
            return self._read()
        except (OSError, ValueError):
            return None


class PowerMeter(EnergyMeter):
    """A meter of the power of this moment: read again and again while it runs, then averaged over the time.

    `read` gives milliwatts.
    """

    def __init__(self, name: str, read: Callable[[], float], clock: Clock = time.perf_counter) -> None:
        self.name = name
        self._read = read
        self._clock = clock
        self._readings: list[float] = []
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._begin = 0.0

    def start(self) -> None:
        self._readings = []
        self._done.clear()
        self._begin = self._clock()
        self._take()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        elapsed_s = self._clock() - self._begin
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self._take()
        if not self._readings:
            return None
        return elapsed_s * sum(self._readings) / len(self._readings)

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_EVERY_S):
            self._take()

    def _take(self) -> None:
        try:
            self._readings.append(self._read())
        except (OSError, ValueError):
            return


def find_meter(
    *, on_gpu: bool, root: Path = SYSTEM, load: Callable[[str], Any] = ctypes.CDLL
) -> EnergyMeter | None:
    """The meter of what runs the engine: the whole module of a Jetson, else the one GPU, else the processors.

    `None` where there is none, its files need another permission, or several GPUs leave open which one it is.
    """
    module = _jetson_meter(root)
    if module is not None:
        return module
    return _nvml_meter(load) if on_gpu else _rapl_meter(root)


def energy_of_run_mj(
    run: Callable[[], object],
    meter: EnergyMeter,
    *,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> float | None:
    """Millijoules of one call of `run`, called back to back for about that many seconds."""
    run()
    count = 0
    begin = clock()
    meter.start()
    while count == 0 or clock() - begin < seconds:
        run()
        count += 1
    total = meter.stop()
    return None if total is None or total <= 0 else total / count


def _rapl_meter(root: Path) -> EnergyMeter | None:
    """All processor packages, by Linux's powercap; most systems let only the administrator read it."""
    folder = root / "sys/class/powercap"
    counters: list[tuple[Path, float]] = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") > 1 or not (_text(zone / "name") or "").startswith("package"):
            continue  # parts of a package, and what counts a package twice
        top = _number(zone / "max_energy_range_uj")
        if top is None or _number(zone / "energy_uj") is None:
            return None
        counters.append((zone / "energy_uj", top))
    if not counters:
        return None
    meters = [
        CounterMeter(path.parent.name, _file_reader(path, 1e-3), top / 1000.0) for path, top in counters
    ]
    return SumMeter("processor packages", meters)


class SumMeter(EnergyMeter):
    """Several meters that count different things at once."""

    def __init__(self, name: str, meters: list[CounterMeter]) -> None:
        self.name = name
        self._meters = meters

    def start(self) -> None:
        for meter in self._meters:
            meter.start()

    def stop(self) -> float | None:
        total = 0.0
        for meter in self._meters:
            value = meter.stop()
            if value is None:
                return None
            total += value
        return total


def _jetson_meter(root: Path) -> EnergyMeter | None:
    rails = {**_hwmon_rails(root), **_iio_rails(root)}
    for names in _WHOLE_MODULE:
        if all(name in rails for name in names):
            readers = [rails[name] for name in names]

            def read(readers: list[Callable[[], float]] = readers) -> float:
                return sum(reader() for reader in readers)

            try:
                read()
            except (OSError, ValueError):
                return None
            return PowerMeter(" + ".join(names), read)
    return None


def _hwmon_rails(root: Path) -> dict[str, Callable[[], float]]:
    """Milliwatts by rail: JetPack 5 and later, volts and amperes apart."""
    rails = {}
    for label in sorted((root / "sys/bus/i2c/drivers").glob("ina3221*/*/hwmon/hwmon*/in*_label")):
        channel = label.name[len("in") : -len("_label")]
        milliamperes = label.with_name(f"curr{channel}_input")
        millivolts = label.with_name(f"in{channel}_input")
        name = _text(label)
        if name and milliamperes.exists() and millivolts.exists():
            rails[name] = _product_reader(milliamperes, millivolts)
    return rails


def _product_reader(milliamperes: Path, millivolts: Path) -> Callable[[], float]:
    return lambda: float(milliamperes.read_text()) * float(millivolts.read_text()) / 1000.0


def _iio_rails(root: Path) -> dict[str, Callable[[], float]]:
    """Milliwatts by rail: JetPack 4."""
    rails = {}
    for label in sorted((root / "sys/bus/i2c/drivers").glob("ina3221x/*/iio*/rail_name_*")):
        power = label.with_name("in_power{}_input".format(label.name[len("rail_name_") :]))
        name = _text(label)
        if name and power.exists():
            rails[name] = _file_reader(power)
    return rails


def _file_reader(path: Path, factor: float = 1.0) -> Callable[[], float]:
    return lambda: factor * float(path.read_text())


def _nvml_meter(load: Callable[[str], Any]) -> EnergyMeter | None:
    """The one NVIDIA GPU, by the driver's own counter (Volta and later)."""
    try:
        library = load("libnvidia-ml.so.1")
        count, handle = ctypes.c_uint(), ctypes.c_void_p()
        calls: tuple[Callable[[], int], ...] = (
            lambda: library.nvmlInit_v2(),
            lambda: library.nvmlDeviceGetCount_v2(ctypes.byref(count)),
            lambda: library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)),
        )
        if any(call() != 0 for call in calls) or count.value != 1:
            return None

        def read() -> float:
            millijoules = ctypes.c_ulonglong()
            if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) != 0:
                raise OSError("the driver does not tell the GPU's energy")
            return float(millijoules.value)

        read()
    except (OSError, AttributeError):
        return None
    return CounterMeter("GPU", read)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None
