"""A plan with its origin in front: which runtime, which version and which GPU it was built for."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, fields

from qsens.device.errors import DeviceError

_MARK = b"qsens-plan\n"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class PlanOrigin:
    """Where a plan was built: a plan runs on no other version, and on no other kind of GPU."""

    runtime: str
    version: str
    device: str
    compute_capability: str


def pack_plan(plan: bytes, origin: PlanOrigin) -> bytes:
    """The plan with a short header that says where it comes from."""
    header = json.dumps(asdict(origin)).encode()
    return _MARK + _LENGTH.pack(len(header)) + header + plan


def unpack_plan(packed: bytes) -> tuple[bytes, PlanOrigin | None]:
    """TensorRT's own bytes, and the origin; `None` for a plan of another tool, which has no header.

    Raises:
        DeviceError: if the header is damaged.
    """
    if not packed.startswith(_MARK):
        return packed, None
    start = len(_MARK) + _LENGTH.size
    try:
        (length,) = _LENGTH.unpack(packed[len(_MARK) : start])
        values = json.loads(packed[start : start + length])
        origin = PlanOrigin(**{field.name: str(values[field.name]) for field in fields(PlanOrigin)})
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise DeviceError(f"the plan's header is damaged: {error}", "build the plan again") from error
    return packed[start + length :], origin


def check_origin(origin: PlanOrigin, here: PlanOrigin) -> None:
    """Refuse a plan of another version or another GPU, with both named.

    Raises:
        DeviceError: naming what differs.
    """
    if (origin.runtime, origin.version) != (here.runtime, here.version):
        raise DeviceError(
            f"the plan was built by {origin.runtime} {origin.version}, this is {here.runtime} {here.version}",
            "a plan runs on the version that built it: build it again here from model.onnx",
        )
    if (origin.device, origin.compute_capability) != (here.device, here.compute_capability):
        raise DeviceError(
            f"the plan was built for {_named(origin)}, this GPU is {_named(here)}",
            "a plan runs on the kind of GPU it was built on: build it again here from model.onnx",
        )


def _named(origin: PlanOrigin) -> str:
    return f"{origin.device} (compute capability {origin.compute_capability})"
