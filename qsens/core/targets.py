"""Deployment targets: each backend declares those that bundles of its engines are exported for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from qsens.core.errors import PluginError, SpecError, name_hint
from qsens.core.plugins import load_plugin, machine_problem, names

# Of several that can be built here, those that CPUs gain most by come first.
_SUGGESTED = ("openvino", "onnxruntime")


@dataclass(frozen=True)
class ExtraFiles:
    """Files that bundles for a target have beside those that all have, each with what a reader must know.

    `command` goes into the README, at `{command}` of the target's `usage`.
    """

    described: Mapping[str, str]
    command: str | None = None


class WritesExtraFiles(Protocol):
    """Writes such files into the folder of a bundle.

    `lowered` is its `qsens.engines.lowering.lowered_graph.LoweredGraph`, `ranges` are the
    `qsens.calibration.ranges.Ranges` of the run.
    """

    def __call__(self, folder: Path, lowered: Any, ranges: Any, batch: int) -> ExtraFiles: ...


@dataclass(frozen=True)
class Target:
    """A deployment target.

    `runtime` is the name of its Python module, and `qsens.device.RUNTIME_runtime` opens its engines, with
    `FLAVOURS` and `open_runtime(bundle)`; a plug-in's module of that kind, which imports NumPy, the runtime
    and `qsens.device` alone, is named by `opened_by`, and bundles carry a copy. `flavour` is the form of
    graph that it takes, `extra_files` writes what its bundles have beside the usual files.
    `psnr_cap_db`: an engine whose pictures are this close to the goldens is right, however close the exact
    arithmetic comes. On CPUs float layers are FP32 and the cap is strict; a GPU may add up FP16 layers in
    FP16, which costs up to some 10 dB of their 60 to 70 dB and stays below one grey level (48 dB).
    `fuses_clips`: clips before quantizers do not keep layers out of INT8 kernels. `takes_large_graphs`:
    weights beyond what one message holds may lie in a file beside the graph. `placement` is the one that
    its INT8 kernels need, empty where any will do; `without_int8` are kinds of layers that it has no INT8
    kernel for in any placement. `fixes_constants`: an input that a rule keeps at one value becomes a
    constant of the graph, as the compiler cannot build what depends on an unknown one. `needs` and `usage`
    are for the README of its bundles: what to install, and how to run the graph (`{feeds}`, `{picture}`,
    `{shapes}` and `{command}` are filled in).
    """

    name: str
    runtime: str
    title: str
    flavour: str
    psnr_cap_db: float
    needs: str
    usage: str
    fuses_clips: bool = True
    takes_large_graphs: bool = True
    placement: str = ""
    without_int8: tuple[str, ...] = ()
    fixes_constants: bool = False
    opened_by: str = ""
    extra_files: WritesExtraFiles | None = None

    @property
    def grid(self) -> str:
        """The INT8 codes of what cannot be negative: `unsigned`, 0 to 255, on CPUs, else `signed`, to 127."""
        return "unsigned" if self.flavour == "u8" else "signed"


@dataclass(frozen=True)
class DeclaredTarget:
    """A target and the backend that declares it, which builds its engines where `problem` is `None`."""

    target: Target
    backend: str

    @property
    def problem(self) -> str | None:
        """The reason that this machine cannot build its engines."""
        return machine_problem("backends", self.backend)


def declared_targets() -> Mapping[str, DeclaredTarget]:
    """The targets of all backends by name; a backend that cannot be imported has none."""
    found: dict[str, DeclaredTarget] = {}
    for backend in names("backends"):
        try:
            targets = getattr(load_plugin("backends", backend), "targets", ())
        except PluginError:
            continue  # `qsens plugins` says why
        found |= {target.name: DeclaredTarget(target, backend) for target in targets}
    return MappingProxyType(found)


def suggested_target() -> str:
    """The target of commands that are suggested: one whose engines can be built here, or the word TARGET."""
    usable = [name for name, declared in declared_targets().items() if declared.problem is None]
    return next((name for name in _SUGGESTED if name in usable), usable[0] if usable else "TARGET")


def target_named(name: str) -> DeclaredTarget:
    """The target of that name. Raises `SpecError` where no backend declares it."""
    known = declared_targets()
    if name not in known:
        listed = f"there are {', '.join(sorted(known))}"
        raise SpecError(f"no target named {name!r}", f"{name_hint(name, known, '')} {listed}".lstrip())
    return known[name]
