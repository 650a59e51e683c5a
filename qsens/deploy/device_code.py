"""The code that runs on a device: a copy of `qsens.device`, for bundles and for devices over SSH."""

import importlib
from pathlib import Path

import qsens.device
from qsens.device.open_engine import runtime_file

_INIT = b'"""The part of qsens that runs on a device: see qsens/device/."""\n'


def device_code(runtime: str, opened_by: str) -> dict[str, bytes]:
    """Sources by name of file; the module `opened_by` of a plug-in joins them under its runtime's name."""
    found = {"qsens/__init__.py": _INIT}
    for path in sorted(Path(qsens.device.__file__).parent.glob("*.py")):
        found[f"qsens/device/{path.name}"] = path.read_bytes()
    if opened_by:
        source = importlib.import_module(opened_by).__file__
        assert source is not None, "the module that opens engines is a file"
        found[f"qsens/device/{runtime_file(runtime)}"] = Path(source).read_bytes()
    return found
