"""A bench on a device over SSH: maps of a run or a bundle's map go there as bundles, and times come back."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from qsens.core.errors import BuildError, SpecError, SshError, VerificationError
from qsens.core.interfaces import Hear, Progress
from qsens.core.precision import PrecisionMap
from qsens.core.schema import check_schema
from qsens.core.targets import Target, declared_targets, target_named
from qsens.core.trial import Trial
from qsens.deploy.bench_subjects import MIXED, canonical_map
from qsens.deploy.bundle import GOLDEN_SAMPLES, ExportOptions, export_bundle
from qsens.deploy.chosen_map import map_of_trial
from qsens.deploy.ssh import Device
from qsens.deploy.there import copy_bundle
from qsens.deploy.verify import checked_files
from qsens.device.bundle_files import FLAVOURS, Bundle
from qsens.device.leftovers import temporary_folder
from qsens.device.plain_values import PlainValue
from qsens.run.reopen import ReopenedRun


@dataclass(frozen=True, eq=False)
class BundledMap:
    """A map as a bundle, under the label and in the canonical form that its times are known by."""

    label: str
    precision_map: PrecisionMap
    bundle: Bundle


@dataclass(eq=False)
class MeasuredThere:
    """The latency documents that came; some are missing where it was stopped, or where `lost` says why."""

    documents: list[Mapping[str, Any]] = field(default_factory=list)
    is_stopped: bool = False
    lost: SshError | None = None

    @property
    def document(self) -> dict[str, Any]:
        """One latency file's content, of all that came."""
        entries = [entry for document in self.documents for entry in document["measurements"]]
        return {**self.documents[-1], "measurements": entries}


def target_there(device: Device, backend: str | None, target: str | None) -> Target:
    """The target of the run, else one that the device has the runtime of: TensorRT, OpenVINO, any other.

    Raises:
        SshError: where it has none.
    """
    if backend is None and target is not None:
        return target_named(target).target
    known = [one.target for one in declared_targets().values() if backend in (None, one.backend)]
    if not known:
        raise SpecError(f"no bundles are exported for {backend!r}", "name another --backend")
    installed = device.found(sorted({one.runtime for one in known}))
    fitting = [one for one in known if one.runtime in installed]
    if not fitting:
        wanted = ", ".join(sorted({one.runtime for one in known}))
        raise SshError(
            f"{device.python} on {device.host} has none of {wanted}",
            "install one there, or name a Python that has it with --python",
        )
    return min(fitting, key=lambda one: (FLAVOURS.index(one.flavour), one.runtime != "openvino"))


@contextmanager
def bundled_maps(
    run: ReopenedRun, trials: Mapping[str, Trial], target: Target, batch: int, progress: Progress, hear: Hear
) -> Iterator[list[BundledMap]]:
    """The maps of trials, by label, as bundles while the block lasts; those that cannot be are said."""
    found = []
    with temporary_folder() as folder:
        for number, (label, trial) in enumerate(trials.items()):
            progress(number, len(trials), f"exporting for batch {batch}: {label}")
            options = ExportOptions(target, folder / str(number), batch, max(GOLDEN_SAMPLES, batch))
            try:
                export_bundle(run, map_of_trial(run, trial.number), options)
            except (BuildError, VerificationError) as error:
                hear(f"Warning: not measured: {label}: {error.message}")
                continue
            bundle = checked_files(options.out).bundle
            found.append(BundledMap(label, canonical_map(run.study, trial), bundle))
        if not found:
            raise BuildError(f"no map can be exported for {target.name}", "qsens export says why")
        yield found


def bundled_map(bundle: Bundle) -> BundledMap:
    """The one map of a bundle whose files were checked."""
    deployed = PrecisionMap.from_json(bundle.document["map"]["deployed"])
    return BundledMap(
        MIXED, PrecisionMap.over(deployed.assignment(row.layer for row in bundle.asked)), bundle
    )


@dataclass(frozen=True, eq=False)
class BenchThere:
    """A bench on a connected device; what it measured is in `measured`, whatever happens."""

    device: Device
    repeats: int
    layers: bool
    measured: MeasuredThere = field(default_factory=MeasuredThere)

    def measure(self, maps: Sequence[BundledMap], progress: Progress, hear: Hear) -> bool:
        """Have maps of one batch size measured in turn; false where no more can be.

        Raises:
            SshError: for what fails before anything was measured.
        """
        try:
            rows = [self._copied(number, one, len(maps), progress) for number, one in enumerate(maps)]
            job = {"job": "bench", "bundles": rows, "repeats": self.repeats, "layers": self.layers}
            for answer in self.device.run(job):
                self._take(answer, progress, hear)
        except KeyboardInterrupt:
            self.measured.is_stopped = True
        except SshError as error:
            if not self.measured.documents:
                raise
            self.measured.lost = error
        return not self.measured.is_stopped and self.measured.lost is None

    def _copied(self, number: int, one: BundledMap, total: int, progress: Progress) -> dict[str, Any]:
        place = f"bundle-{number}"
        progress(number, total, f"copying to {self.device.host}: {one.label}")
        copy_bundle(one.bundle, self.device, place)
        shape = one.precision_map
        return {"folder": place, "label": one.label, "map": shape.to_json(), "digest": shape.digest}

    def _take(self, answer: PlainValue, progress: Progress, hear: Hear) -> None:
        try:
            if "progress" in answer.value:
                done, total, label = answer.at("progress").items(at_least=3)
                progress(
                    done.whole(0, 2**31), total.whole(0, 2**31), f"on {self.device.host}: {label.text()}"
                )
            elif "latency" in answer.value:
                check_schema(answer.value["latency"], "latency", "its latency")
                self.measured.documents.append(answer.value["latency"])
            elif "waits" in answer.value:
                hear(f"Warning: {self.device.host}: {answer.at('waits').text()}")
            else:
                for label, reason in answer.at("skipped").value.items():
                    hear(f"Warning: not measured: {label}: {reason}")
        except (AttributeError, ValueError, SpecError) as error:
            raise SshError(f"{self.device.host} answers no times: {error}", "measure again") from error
