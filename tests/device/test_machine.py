"""The description of a machine, from made-up /proc and /sys trees and made-up tools."""

import json

from qsens.device.machine import cpu_name, describe_device, output_of


def nothing(_command):
    return None


def put(root, path, text):
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_a_bare_machine_has_a_name_and_nulls(tmp_path):
    found = describe_device("openvino", root=tmp_path, tool=nothing)
    assert found["name"]
    for key in ("board", "gpu", "governor", "memory_bytes", "tegra_release", "power_mode"):
        assert found[key] is None, key
    json.dumps(found)


def test_a_server_with_a_gpu_is_named_by_what_runs_the_engine(tmp_path):
    put(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name : Fast CPU\nmodel name : Fast CPU\n")
    put(tmp_path, "proc/meminfo", "MemTotal:       1024 kB\nMemFree: 1 kB\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2400000\n")
    put(tmp_path, "etc/os-release", 'NAME="X"\nPRETTY_NAME="System 7"\n')

    def tool(command):
        assert command[0] == "nvidia-smi"
        return "Big GPU, 595.10, 81559, 345, 1980, 2619, 700.00, 9.0\n"

    found = describe_device("tensorrt", root=tmp_path, tool=tool)
    assert found["name"] == "Big GPU"
    assert found["gpu"]["driver"] == "595.10"
    assert found["gpu"]["memory_bytes"] == 81559 * 2**20
    assert found["gpu"]["maximum_clock_mhz"] == 1980
    assert found["gpu"]["compute_capability"] == "9.0"
    assert (found["memory_bytes"], found["governor"], found["cpu_mhz"]) == (2**20, "powersave", 2400.0)
    assert found["system"] == "System 7"
    assert describe_device("openvino", root=tmp_path, tool=tool)["name"] == "Fast CPU"


def test_what_nvidia_smi_does_not_support_is_null(tmp_path):
    found = describe_device(
        "tensorrt", root=tmp_path, tool=lambda _: "G, 1, [N/A], [N/A], 5, 6, [N/A], [N/A]\n"
    )
    assert found["gpu"]["memory_bytes"] is None
    assert found["gpu"]["power_limit_w"] is None
    assert found["gpu"]["compute_capability"] is None


def test_a_jetson_is_named_by_its_board(tmp_path):
    put(tmp_path, "proc/device-tree/model", "NVIDIA Orin NX Developer Kit\0")
    put(tmp_path, "etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n")
    put(tmp_path, "sys/class/devfreq/17000000.ga10b/cur_freq", "306000000\n")
    put(tmp_path, "sys/class/devfreq/17000000.ga10b/max_freq", "918000000\n")
    put(tmp_path, "sys/class/devfreq/15340000.vic/cur_freq", "115200000\n")

    def tool(command):
        return "NV Power Mode: MAXN\n0\n" if command[0] == "nvpmodel" else None

    found = describe_device("tensorrt", root=tmp_path, tool=tool)
    assert found["name"] == found["board"] == "NVIDIA Orin NX Developer Kit"
    assert (found["tegra_release"], found["power_mode"]) == ("R35.4.1", "MAXN")
    assert (found["gpu"]["clock_mhz"], found["gpu"]["maximum_clock_mhz"]) == (306.0, 918.0)


def test_a_missing_tool_and_a_failing_tool_tell_nothing():
    assert output_of(("qsens-has-no-such-tool",)) is None
    assert output_of(("false",)) is None
    assert output_of(("echo", "here")) == "here\n"


def test_an_arm_processor_without_a_model_name_is_no_empty_text(tmp_path):
    put(tmp_path, "proc/cpuinfo", "processor : 0\nBogoMIPS : 62.5\nmodel name :\n")
    assert cpu_name(tmp_path) != ""
