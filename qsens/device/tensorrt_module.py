"""The TensorRT module of this machine: found, probed, heard through its logger; plans with their origin.

Versions are told apart by the names that a module has, never by its version string: TensorRT 8.5 to 11.x and
TensorRT-RTX differ in what they have, and the names say it exactly.
"""

from __future__ import annotations

import importlib
import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any

from qsens.device.errors import DeviceError

_MARK = b"qsens-plan\n"
_LENGTH = struct.Struct("<I")
TENSORRT = ("tensorrt",)
# The wheel of the bindings alone has the second name, its meta-package the first.
TENSORRT_RTX = ("tensorrt_rtx", "tensorrt_rtx_bindings")
INSTALL_HINT = (
    "on a Jetson it comes with JetPack (use the system's Python, or a virtual environment with "
    "--system-site-packages); elsewhere: pip install tensorrt"
)
INSTALL_RTX_HINT = "pip install 'qsens[rtx]'"
_NEEDED = ("build_serialized_network", "create_builder_config", "create_optimization_profile")
_WORST_FIRST = ("INTERNAL_ERROR", "ERROR", "WARNING")
_KEPT_MESSAGES = 200


@dataclass(frozen=True)
class PlanOrigin:
    """The machine and version that built a plan: it runs on no other version, and on no other kind of GPU."""

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


@dataclass(frozen=True)
class Features:
    """Abilities of a TensorRT module. `has_weak_typing`: precisions of layers can be set (up to 10.x)."""

    has_strong_typing: bool
    has_weak_typing: bool
    has_optimisation_levels: bool
    has_layer_metadata: bool


def import_tensorrt(names: tuple[str, ...] = TENSORRT) -> Any:
    """The first of the modules that can be imported.

    Raises:
        DeviceError: where there is none, where its own libraries are missing, or where it is too old.
    """
    hint = INSTALL_HINT if names == TENSORRT else INSTALL_RTX_HINT
    title = "TensorRT" if names == TENSORRT else "TensorRT-RTX"
    failures = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                failures.append(f"{name} is installed but needs the module {error.name}")
        # A library that TensorRT links to and that is missing shows in several classes.
        except (ImportError, OSError, RuntimeError, AttributeError, FileNotFoundError) as error:
            failures.append(f"{name} is installed but cannot be imported: {error}")
        else:
            return _checked(module, title)
    if failures:
        raise DeviceError("; ".join(failures), "install the library that is named, or TensorRT again")
    raise DeviceError(f"{title} is not installed", hint)


def features_of(trt: Any) -> Features:
    """The abilities of a module, told by its names."""
    flags = trt.BuilderFlag
    weak = ("INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS")
    return Features(
        has_strong_typing=hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
        has_weak_typing=all(hasattr(flags, name) for name in weak) and hasattr(trt.ILayer, "precision"),
        has_optimisation_levels=hasattr(trt.IBuilderConfig, "builder_optimization_level"),
        has_layer_metadata=hasattr(trt.ILayer, "metadata"),
    )


def collecting_logger(trt: Any, *, verbose: bool = False) -> Any:
    """A logger for TensorRT that keeps warnings and errors, and verbose messages too where asked for.

    Its `lines(*severities)` gives texts in the order in which they came.
    """

    # The base class lives in a module that is only known here.
    class CollectingLogger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[tuple[str, str]] = []
            self.verbose: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity.name in _WORST_FIRST:
                if len(self.messages) < _KEPT_MESSAGES:
                    self.messages.append((severity.name, msg))
            elif verbose and "LayerType: " in msg:
                self.verbose.append(msg)

        def lines(self, *severities: str) -> list[str]:
            return [text for severity, text in self.messages if severity in severities]

        def errors(self) -> str:
            """TensorRT's own error messages as one text; repeated ones once."""
            found = dict.fromkeys(self.lines("INTERNAL_ERROR", "ERROR"))
            return "; ".join(text.strip() for text in found) or "TensorRT gave no reason"

    return CollectingLogger()


def _checked(module: Any, title: str) -> Any:
    version = getattr(module, "__version__", "of unknown version")
    builder = getattr(module, "Builder", None)
    context = getattr(module, "IExecutionContext", None)
    if not all(hasattr(builder, name) for name in _NEEDED) or not hasattr(context, "execute_async_v3"):
        raise DeviceError(
            f"{title} {version} is too old: it has no named-tensor execution",
            "TensorRT 8.5 is the oldest that works; on a Jetson that is JetPack 5.1",
        )
    return module
