from dataclasses import replace

import pytest

from qsens.device.errors import DeviceError
from qsens.device.tensorrt_module import PlanOrigin, check_origin, pack_plan, unpack_plan

ORIN = PlanOrigin("tensorrt", "10.3.0", "Orin", "8.7")


def test_a_packed_plan_gives_back_its_bytes_and_its_origin():
    assert unpack_plan(pack_plan(b"plan\0bytes", ORIN)) == (b"plan\0bytes", ORIN)


def test_a_plan_of_another_tool_has_no_origin():
    assert unpack_plan(b"ftrt-plan") == (b"ftrt-plan", None)


@pytest.mark.parametrize("keep", [12, 20, 40])
def test_a_damaged_header_is_refused(keep):
    with pytest.raises(DeviceError, match="header is damaged"):
        unpack_plan(pack_plan(b"plan", ORIN)[:keep])


def test_a_plan_of_here_passes():
    check_origin(ORIN, ORIN)


def test_another_version_is_refused_with_both_named():
    with pytest.raises(DeviceError, match=r"by tensorrt 8\.5\.2, this is tensorrt 10\.3\.0"):
        check_origin(replace(ORIN, version="8.5.2"), ORIN)


@pytest.mark.parametrize(
    "other", [replace(ORIN, device="Thor", compute_capability="11.0"), replace(ORIN, device="Orin Nano")]
)
def test_another_gpu_is_refused_with_both_named(other):
    with pytest.raises(DeviceError) as caught:
        check_origin(other, ORIN)
    assert f"{other.device} (compute capability {other.compute_capability})" in caught.value.message
    assert "this GPU is Orin (compute capability 8.7)" in caught.value.message
