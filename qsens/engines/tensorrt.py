"""Backend `tensorrt`: engines of TensorRT 8.5 to 11.x on this machine's GPU, compiled and audited."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qsens.core.errors import BuildError, PluginError, ScoreError, SpecError
from qsens.core.interfaces import Backend
from qsens.core.targets import Target
from qsens.device.audit import audit_layers
from qsens.device.cuda_memory import Cuda, OutOfMemoryError, driver_problem
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import WORKSPACE_MIB, BuiltPlan, PlanOptions, compile_plan
from qsens.device.tensorrt_module import features_of, import_tensorrt, pack_plan
from qsens.device.tensorrt_runtime import TensorRtRuntime, origin_here
from qsens.engines.lowering.lowered_graph import Flavour, LoweredGraph, applied_from_audit, asked_layers
from qsens.engines.tensorrt_files import write_tensorrt_files

# Protobuf cannot read more, and the parsers of all versions take serialised graphs.
LARGEST_MODEL = 2**31 - 2**20
FLAVOURS = ("auto", "strong", "weak")
_NEEDS = "TensorRT with its Python module (on a Jetson: JetPack, system Python) and NumPy"
_USAGE = """\
```sh
{command}
```

`verify.py` builds through TensorRT's Python interface with the same settings; an engine file belongs to one
device and one TensorRT version and is never part of a bundle."""
Array = np.ndarray[Any, np.dtype[Any]]


def _target(name: str, title: str, flavour: str) -> Target:
    return Target(
        name=name,
        runtime="tensorrt",
        title=title,
        flavour=flavour,
        psnr_cap_db=50.0,
        needs=_NEEDS,
        usage=_USAGE,
        takes_large_graphs=False,
        fixes_constants=True,
        extra_files=write_tensorrt_files,
    )


def compile_lowered(
    trt: Any, lowered: LoweredGraph, options: PlanOptions, *, keeps_log: bool = False
) -> BuiltPlan:
    """Build the plan with the TensorRT module `trt`.

    Raises:
        BuildError: in TensorRT's own words, or for a graph that is too large to be handed over.
    """
    model = lowered.detached.serialized()
    if len(model) > LARGEST_MODEL:
        raise BuildError(
            f"the graph has {len(model) / 2**30:.1f} GiB, more than TensorRT's parser takes at once",
            "sweep a smaller generator, or the part of it that matters",
        )
    names = [node.name for node in lowered.detached.skeleton.graph.node]
    try:
        return compile_plan(trt, model, options, node_names=names, keeps_log=keeps_log)
    except DeviceError as error:
        raise BuildError(error.message, error.hint) from error


def check_flavour(backend: str, flavour: str, lowered: LoweredGraph) -> None:
    """Raises `BuildError` for a graph of another flavour than the backend builds."""
    if lowered.flavour != flavour:
        raise BuildError(
            f"backend {backend} cannot build flavour '{lowered.flavour}'", f"lower the map as '{flavour}'"
        )


def three_batches(max_batch: int) -> tuple[int, int, int]:
    """Smallest, usual and largest batch of an engine."""
    return (1, max(1, max_batch // 2), max_batch)


class TensorRtEngine:
    """A plan on the GPU. `audit` is the engine inspector's word for every layer.

    `plan` is the plan with its origin in front, as `TensorRtRuntime` takes it. `notices` are sentences about
    what was done differently than asked (a smaller batch).
    """

    def __init__(self, runtime: TensorRtRuntime, plan: bytes, lowered: LoweredGraph) -> None:
        self.device_engine = runtime
        self.plan = plan
        self.size_bytes = runtime.size_bytes
        self.audit = audit_layers(asked_layers(lowered), runtime.executed_layers())
        self.applied = applied_from_audit(self.audit, lowered)
        self._lost_weights = dict(lowered.fp16_lost_weights)

    @property
    def notices(self) -> list[str]:
        return self.device_engine.notices

    def run(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return self.device_engine.run(batch)
        except DeviceError as error:
            raise ScoreError(error.message, error.hint) from error

    def fp16_overflows(self) -> Mapping[str, int]:
        """Weights that FP16 cannot hold; an engine does not count the values of its activations."""
        return self._lost_weights

    def close(self) -> None:
        self.device_engine.close()

    def __enter__(self) -> "TensorRtEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TensorRtBackend(Backend):
    """Builds engines with the TensorRT of this machine.

    `flavour` `auto` takes `strong` where this TensorRT has strongly typed networks, else `weak`.
    `max_batch` is the largest batch of a graph whose batch is free; where the engine does not fit into the
    GPU's memory it is halved. `optimisation_level` is 0 to 5. `timing_cache` names a file that all builds
    share; by default there is one in the user's cache folder for each version and GPU. `tf32` lets FP32
    layers round their operands to TF32, which TensorRT's own default does. `must_obey` (`weak` only): a
    layer that cannot keep its precision fails the build.

    Raises:
        PluginError: if TensorRT is absent, too old, or finds no GPU.
        SpecError: for a flavour that is unknown, or that this TensorRT cannot build.
    """

    name = "tensorrt"
    targets = (
        _target("tensorrt", "TensorRT 10 or 11", Flavour.STRONG),
        _target("tensorrt-legacy", "TensorRT 8.5 to 10", Flavour.WEAK),
    )

    def __init__(  # noqa: PLR0913 - each is an option of the spec, by keyword only
        self,
        *,
        flavour: str = "auto",
        max_batch: int = 16,
        workspace_mib: int = WORKSPACE_MIB,
        optimisation_level: int | None = None,
        timing_cache: str | None = None,
        tf32: bool = False,
        must_obey: bool = True,
    ) -> None:
        try:
            self._trt = import_tensorrt()
            self._cuda = Cuda()
            self._origin = origin_here(self._trt, self._cuda)
        except DeviceError as error:
            raise PluginError(error.message, error.hint) from error
        self.version = self._origin.version
        self.flavour = _chosen_flavour(self._trt, flavour)
        cache = Path(timing_cache) if timing_cache else self._default_timing_cache()
        self.options = PlanOptions(
            self.flavour,
            workspace_mib=workspace_mib,
            optimisation_level=optimisation_level,
            timing_cache=cache,
            batches=three_batches(max_batch),
            allows_tf32=tf32,
            must_obey=must_obey,
        )

    def build(self, lowered: LoweredGraph) -> TensorRtEngine:
        check_flavour(self.name, self.flavour, lowered)
        options = replace(
            self.options,
            input_shapes=dict(lowered.graph.example_shapes),
            float_pins=lowered.float_pins,
        )
        while True:
            built = compile_lowered(self._trt, lowered, options)
            try:
                return self._loaded(pack_plan(built.plan, self._origin), lowered)
            except OutOfMemoryError as error:
                options = _with_half_batch(options, error)
            except DeviceError as error:
                raise BuildError(error.message, error.hint) from error

    def _loaded(self, plan: bytes, lowered: LoweredGraph) -> TensorRtEngine:
        runtime = TensorRtRuntime(plan, trt=self._trt, cuda=self._cuda)
        try:
            return TensorRtEngine(runtime, plan, lowered)
        except DeviceError:
            runtime.close()
            raise

    def _default_timing_cache(self) -> Path:
        """One file a version and GPU: TensorRT refuses a cache of another."""
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qsens"
        device = "".join(letter if letter.isalnum() else "-" for letter in self._origin.device)
        return folder / f"tensorrt-{self._origin.version}-{device}.timing"


def problem() -> str | None:
    """The reason that this machine cannot build and run TensorRT engines; `None` where it can.

    Asks the driver before it loads TensorRT, and makes no CUDA context.
    """
    no_gpu = driver_problem()
    try:
        import_tensorrt()
    except DeviceError as error:
        found = f"{error.message} ({error.hint})"
        return f"{found}; {no_gpu}" if no_gpu else found
    return no_gpu


def _chosen_flavour(trt: Any, flavour: str) -> str:
    features = features_of(trt)
    fits = {"strong": features.has_strong_typing, "weak": features.has_weak_typing}
    if flavour not in FLAVOURS:
        raise SpecError(f"no flavour of TensorRT named {flavour!r}", f"use {', '.join(FLAVOURS)}")
    if flavour == "auto":
        return "strong" if fits["strong"] else "weak"
    if not fits[flavour]:
        raise SpecError(
            f"TensorRT {trt.__version__} cannot build flavour {flavour!r}", "use backend.flavour=auto"
        )
    return flavour


def _with_half_batch(options: PlanOptions, error: OutOfMemoryError) -> PlanOptions:
    """The options for half the batch, said aloud. Raises `BuildError` where one sample does not fit."""
    largest = options.batches[2]
    if largest == 1:
        raise BuildError(error.message, "the GPU has too little memory for a single sample") from error
    warnings.warn(
        f"out of GPU memory with batches up to {largest}: building for up to {largest // 2}",
        RuntimeWarning,
        stacklevel=3,
    )
    return replace(options, batches=three_batches(largest // 2))
