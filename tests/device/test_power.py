"""Energy meters against made-up sysfs trees, a made-up driver and a made-up clock."""

import ctypes

import pytest

from qsens.device.power import CounterMeter, PowerMeter, energy_of_run_mj, find_meter


def put(root, path, text):
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def no_library(name):
    raise OSError(f"{name}: cannot open shared object file")


@pytest.fixture
def package(tmp_path):
    """One processor package with a part, as Linux's powercap shows them."""
    folder = "sys/class/powercap/intel-rapl:0"
    for zone, name in ((folder, "package-0"), ("sys/class/powercap/intel-rapl:0:0", "core")):
        put(tmp_path, f"{zone}/name", name)
        put(tmp_path, f"{zone}/energy_uj", "5000000")
        put(tmp_path, f"{zone}/max_energy_range_uj", "6000000")
    return tmp_path


def test_a_package_is_counted_without_its_parts(package):
    meter = find_meter(on_gpu=False, root=package)
    meter.start()
    put(package, "sys/class/powercap/intel-rapl:0/energy_uj", "5250000")
    put(package, "sys/class/powercap/intel-rapl:0:0/energy_uj", "5200000")
    assert meter.stop() == pytest.approx(250)


def test_two_packages_are_added_and_a_counter_that_wraps_goes_on(package):
    put(package, "sys/class/powercap/intel-rapl:1/name", "package-1")
    put(package, "sys/class/powercap/intel-rapl:1/energy_uj", "0")
    put(package, "sys/class/powercap/intel-rapl:1/max_energy_range_uj", "6000000")
    meter = find_meter(on_gpu=False, root=package)
    meter.start()
    put(package, "sys/class/powercap/intel-rapl:0/energy_uj", "1000000")
    put(package, "sys/class/powercap/intel-rapl:1/energy_uj", "1000000")
    assert meter.stop() == pytest.approx(2000 + 1000)


def test_a_counter_that_may_not_be_read_is_no_meter(package, monkeypatch):
    from pathlib import Path

    real = Path.read_text

    def refuse(self, *arguments, **named):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert find_meter(on_gpu=False, root=package) is None


def test_a_machine_without_meters_has_none(tmp_path):
    assert find_meter(on_gpu=False, root=tmp_path) is None
    assert find_meter(on_gpu=True, root=tmp_path, load=no_library) is None


def rails(root, folder, values):
    for channel, (name, milliamperes, millivolts) in enumerate(values, 1):
        put(root, f"{folder}/in{channel}_label", name)
        put(root, f"{folder}/curr{channel}_input", str(milliamperes))
        put(root, f"{folder}/in{channel}_input", str(millivolts))


def test_an_orin_nx_has_its_whole_module_on_one_rail(tmp_path):
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    rails(tmp_path, folder, [("VDD_IN", 2000, 5000), ("VDD_CPU_GPU_CV", 500, 5000), ("VDD_SOC", 300, 5000)])
    meter = find_meter(on_gpu=True, root=tmp_path, load=no_library)
    assert meter.name == "VDD_IN"
    assert meter._read() == pytest.approx(10_000)


def test_an_agx_orin_adds_the_rails_that_do_not_overlap(tmp_path):
    first, second = (f"sys/bus/i2c/drivers/ina3221/1-004{k}/hwmon/hwmon{k}" for k in (0, 1))
    rails(
        tmp_path, first, [("VDD_GPU_SOC", 100, 1000), ("VDD_CPU_CV", 200, 1000), ("VIN_SYS_5V0", 300, 1000)]
    )
    rails(tmp_path, second, [("NC", 9, 9), ("VDDQ_VDD2_1V8AO", 1000, 1000), ("NC", 9, 9)])
    meter = find_meter(on_gpu=True, root=tmp_path, load=no_library)
    assert meter._read() == pytest.approx(600)


def test_the_rails_of_an_older_system_are_read_in_milliwatts(tmp_path):
    folder = "sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0"
    put(tmp_path, f"{folder}/rail_name_0", "VDD_IN")
    put(tmp_path, f"{folder}/in_power0_input", "4321")
    assert find_meter(on_gpu=True, root=tmp_path, load=no_library)._read() == 4321


def test_rails_that_are_not_known_to_be_the_whole_are_not_guessed(tmp_path):
    rails(tmp_path, "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3", [("VDD_NEW", 2000, 5000)])
    assert find_meter(on_gpu=True, root=tmp_path, load=no_library) is None


class Driver:
    """The four calls of NVML that are used, with `gpus` GPUs and a counter."""

    def __init__(self, gpus=1, counts=True):
        self.gpus = gpus
        self.counts = counts
        self.millijoules = 10_000

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        ctypes.cast(count, ctypes.POINTER(ctypes.c_uint))[0] = self.gpus
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, _index, _handle):
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle, value):
        ctypes.cast(value, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
        return 0 if self.counts else 3


def test_the_driver_counts_the_one_gpu(tmp_path):
    driver = Driver()
    meter = find_meter(on_gpu=True, root=tmp_path, load=lambda _: driver)
    meter.start()
    driver.millijoules += 777
    assert meter.stop() == pytest.approx(777)


@pytest.mark.parametrize("driver", [Driver(gpus=2), Driver(counts=False), object()])
def test_a_driver_that_does_not_tell_is_no_meter(tmp_path, driver):
    assert find_meter(on_gpu=True, root=tmp_path, load=lambda _: driver) is None


def test_power_is_averaged_over_the_time_it_was_read():
    now = [0.0]
    meter = PowerMeter("rail", lambda: 5000.0, clock=lambda: now[0])
    meter.start()
    now[0] = 2.0
    assert meter.stop() == pytest.approx(10_000)


def test_power_that_cannot_be_read_is_no_energy():
    def gone():
        raise OSError("gone")

    meter = PowerMeter("rail", gone)
    meter.start()
    assert meter.stop() is None


def test_energy_of_a_run_is_shared_among_all_runs_of_the_time():
    now, energy = [0.0], [0.0]

    def run():
        now[0] += 0.25
        energy[0] += 40.0

    meter = CounterMeter("m", lambda: energy[0])
    assert energy_of_run_mj(run, meter, seconds=1.0, clock=lambda: now[0]) == pytest.approx(40)


def test_a_counter_that_stands_still_tells_nothing():
    now = [0.0]

    def run():
        now[0] += 0.25

    assert energy_of_run_mj(run, CounterMeter("m", lambda: 7.0), seconds=1.0, clock=lambda: now[0]) is None
