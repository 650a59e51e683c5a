"""A bundle checked on a device over SSH: its files are compared here, and run there by our code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qsens.core.errors import SpecError, SshError
from qsens.core.schema import check_schema
from qsens.deploy.bundle_script import read_checksums
from qsens.deploy.device_code import device_code
from qsens.deploy.ssh import Device
from qsens.deploy.verify import CheckedFiles
from qsens.device.bundle_files import CHECKSUMS, Bundle
from qsens.device.plain_values import PlainValue


@dataclass(frozen=True)
class ReportThere:
    """A check on a device, as it told: the values of `--json`, text for people, what makes it fail."""

    report: Mapping[str, Any]
    text: str
    problems: tuple[str, ...]
    latency: Mapping[str, Any] | None

    def latency_json(self) -> Mapping[str, Any] | None:
        """The content of a latency file; `None` where nothing was measured."""
        return self.latency


def verify_there(checked: CheckedFiles, device: Device, *, repeats: int) -> ReportThere:
    """Rebuild, audit, compare and time a bundle on a device, by our copy of the checks, not the bundle's.

    Raises:
        SshError: for what fails there.
    """
    bundle = checked.bundle
    sums = copy_bundle(bundle, device, "bundle")
    files = {"files": checked.files.count, "digest": checked.files.digest, "sums": sums}
    job = {"job": "verify", "bundle": "bundle", **files, "repeats": repeats}
    answers = list(device.run(job))
    try:
        return _report(answers[-1] if answers else PlainValue({}), bundle, wants_latency=repeats > 0)
    except (ValueError, SpecError) as error:
        raise SshError(f"{device.host} answers no report: {error}", "run the same command again") from error


def copy_bundle(bundle: Bundle, device: Device, place: str) -> dict[str, str]:
    """Have the device hold a bundle's files but its code, and ours; the sha256 of the files by name.

    Raises:
        SshError: for a device without the bundle's runtime or NumPy, or one that cannot be copied to.
    """
    need = ["numpy", bundle.runtime]
    missing = [name for name in need if name not in device.found(need)]
    if missing:
        raise SshError(
            f"{missing[0]} is not installed on {device.host}",
            f"install it there for {device.python}, or name a Python that has it with --python",
        )
    device.copy("code", device_code(bundle.runtime, bundle.opened_by))
    sums = read_checksums((bundle.folder / CHECKSUMS).read_bytes())
    data = {name: digest for name, digest in sums.items() if not name.endswith(".py")}
    device.copy(place, {name: bundle.folder / name for name in data})
    return data


def _report(answer: PlainValue, bundle: Bundle, *, wants_latency: bool) -> ReportThere:
    """Raises `ValueError` or `SpecError` for an answer that is none."""
    report, latency = answer.at("report"), answer.at("latency").value
    report.at("ok").flag()
    if wants_latency:
        check_schema(latency, "latency", "its latency")
    return ReportThere(
        report={**report.value, "bundle": str(bundle.folder)},
        text=answer.at("text").text(),
        problems=tuple(entry.text() for entry in answer.at("problems").items()),
        latency=latency,
    )
