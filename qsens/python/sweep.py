"""`qsens.sweep`, `plan`, `layers` and `demo`: a network of any form and data of any form become a run."""

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Unpack

import onnx

from qsens import api
from qsens.calibration.given import GivenData
from qsens.calibration.plays import open_own_loop, sample_inputs
from qsens.core.errors import SpecError
from qsens.core.interfaces import Hear, InputSpec, Progress
from qsens.core.own_code import lending, name_of_own
from qsens.core.plugins import create
from qsens.core.spec import SweepSpec, merge_values, spec_from_values
from qsens.device.leftovers import temporary_folder
from qsens.graph.graph import Graph
from qsens.graph.shapes import graph_inputs
from qsens.python.plain_errors import plain_errors
from qsens.python.progress import shown_progress
from qsens.python.run import PathText, Run
from qsens.python.values import SweepValues
from qsens.run.folder import check_is_free_or_run
from qsens.run.given import GivenStore
from qsens.run.lock import locked
from qsens.run.open import generator_of, load_graph, open_sweep, stated_shapes
from qsens.run.paths import RunPaths
from qsens.run.plan import SweepPlan, plan_sweep
from qsens.run.start import start_of_sweep
from qsens.run.workers import open_pool
from qsens.scoring.feature_session import user_cache_folder

_OWN_CODE = frozenset({"metrics", "strategy", "extractor"})
_LOOP = "loop"
# Inputs of these sources are in no sample that a caller gives.
_MADE_UP = frozenset({"normal", "uniform", "constant"})


def say(line: str) -> None:
    """Write a note or a warning to stderr."""
    sys.stderr.write(f"{line}\n")


@plain_errors
def sweep(  # noqa: PLR0913 - the options of a command, by keyword only
    net: Any = None,
    *,
    out: PathText,
    calibration: Any = None,
    evaluation: Any = None,
    workers: int | None = None,
    cluster: str | None = None,
    trust_checkpoint: bool = False,
    progress: bool | Progress = True,
    hear: Hear = say,
    **values: Unpack[SweepValues],
) -> Run:
    """Score INT8/FP16 maps of a generator, choose the cheapest within the budget, and write a report.

    The same call on the same folder `out` goes on where it stopped; the command line can, too.

    `net` is a `torch.nn.Module`, an `onnx.ModelProto`, the path of a file, or nothing where `model` names the
    generator. A module is never changed: a copy is exported once, in float32 and eval mode, on the CPU.

    `calibration` and `evaluation` are a folder, `"noise"` or `"package.module:factory"`, or samples from
    memory: a DataLoader, anything that can be looped over (tensors, arrays, tuples or dicts of them by input
    name, single or in batches), or a function that returns such a thing. The first `calibration_samples` (64)
    and `evaluation_samples` (256) of them are kept in `out/given`, one `.npz` a sample and at most 4 GiB a
    set; a loader that shuffles all of its data set is read in the order of that. Without `evaluation`,
    samples are held out of the calibration set. Values are what the generator was trained on.

    `workers` are processes here, `cluster` the address of a Dask scheduler; they import the calling script,
    which must start nothing unless `__name__ == "__main__"`. `progress` shows a bar (`True`), nothing
    (`False`), or is called with what is done, the total and a label. `hear` is given notes and warnings.
    `values` are keys of the spec.

    Raises:
        QsensError: with what is wrong and what to do; trials that ended are in the folder.
    """
    folder = Path(out)
    plain, lent = _told(values)
    with lending(lent):
        if lent and (workers or cluster):
            raise SpecError(
                f"{', '.join(lent)}: other processes cannot be given an object",
                "give its class, or leave workers and cluster out",
            )
        check_is_free_or_run(RunPaths(folder))
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            wanted = _Wanted(net, calibration, evaluation, plain, trust_checkpoint=trust_checkpoint)
            spec = wanted.spec(folder, hear)
        with open_pool(workers, cluster) as pool, shown_progress(progress) as shown:
            finished = api.sweep(
                spec, folder, trust_checkpoint=trust_checkpoint, pool=pool, progress=shown, hear=hear
            )
        if finished.start is not None:
            hear(finished.start)
    return Run(folder, finished.spec, finished.study, lent)


@plain_errors
def plan(
    net: Any = None,
    *,
    calibration: Any = None,
    evaluation: Any = None,
    trust_checkpoint: bool = False,
    hear: Hear = say,
    **values: Unpack[SweepValues],
) -> SweepPlan:
    """The maps that a sweep would score, on which images, and the seconds it would take; nothing is kept.

    Takes what `sweep` takes. Opens everything and times one batch.

    Raises:
        QsensError: for everything that would stop the sweep at its first map.
    """
    plain, lent = _told(values)
    with temporary_folder() as folder, lending(lent):
        wanted = _Wanted(net, calibration, evaluation, plain, trust_checkpoint=trust_checkpoint)
        spec = wanted.spec(folder, hear)
        start = start_of_sweep(spec)
        return plan_sweep(open_sweep(spec, trust_checkpoint=trust_checkpoint, start=start))


@plain_errors
def layers(
    net: Any = None, *, calibration: Any = None, trust_checkpoint: bool = False, **values: Unpack[SweepValues]
) -> Graph:
    """The graph of a generator; its `layers` are those whose precision can be chosen, in execution order.

    `other_work` is the work that is in no layer. Sizes and multiply-accumulates are counted on samples of
    `calibration`, as `sweep` takes it, or on made-up inputs.

    Raises:
        LoadError, SpecError: with what is wrong and what to do.
    """
    plain, lent = _told(values)
    with temporary_folder() as folder, lending(lent):
        wanted = _Wanted(net, calibration, None, plain, trust_checkpoint=trust_checkpoint)
        spec = wanted.spec(folder, say)
        generator = generator_of(spec, trust_checkpoint=trust_checkpoint)
        shapes = dict(spec.input_shapes) or None
        return load_graph(generator, shapes, None if spec.calibration is None else spec)


@plain_errors
def demo(
    name: str = "talker",
    *,
    out: PathText | None = None,
    workers: int | None = None,
    progress: bool | Progress = True,
    hear: Hear = say,
    **values: Unpack[SweepValues],
) -> Run:
    """Sweep a small trained generator that is at hand: `talker`, `video`, `diffusion`, or `style`.

    `style` needs the extra `demo`.

    Raises:
        DataError, LoadError: if something that the demo needs is not installed.
    """
    chosen = create("demos", name, {})
    base = dict(chosen.spec_values(user_cache_folder() / "demo"))
    for line in chosen.notes():
        hear(line)
    folder = Path("reports") / f"demo-{name}" if out is None else Path(out)
    merged: Any = merge_values(base, values)
    return sweep(out=folder, workers=workers, progress=progress, hear=hear, **merged)


def _told(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain values of a spec, and the caller's own objects that some of them name."""
    lent: dict[str, Any] = {}

    def named(value: Any) -> str:
        name, objects = name_of_own(value)
        lent.update(objects)
        return name

    def plain(key: str, value: Any) -> Any:
        if key == _LOOP:
            table = value if isinstance(value, Mapping) else {"name": value}
            return {**table, "name": named(table["name"])} if "name" in table else dict(table)
        if isinstance(value, PathLike):
            return fspath(value)
        if isinstance(value, list | tuple):
            return [named(entry) if key in _OWN_CODE else entry for entry in value]
        if key in _OWN_CODE:
            return named(value)
        return dict(value) if isinstance(value, Mapping) else value

    return {key: plain(key, value) for key, value in values.items() if value is not None}, lent


@dataclass(frozen=True)
class _Wanted:
    """A network and data of any form, and plain values of a spec."""

    net: Any
    calibration: Any
    evaluation: Any
    values: Mapping[str, Any]
    trust_checkpoint: bool

    def spec(self, folder: Path, hear: Hear) -> SweepSpec:
        """The spec that names all of it; what comes from memory is kept in `folder` first."""
        values = dict(self.values)
        store = GivenStore(folder, values.get("seed", SweepSpec().seed))
        sets = {"calibration": self.calibration, "evaluation": self.evaluation}
        given = {name: GivenData(data, name) for name, data in sets.items() if not _is_named(data)}
        values |= {
            name: fspath(data) for name, data in sets.items() if name not in given and data is not None
        }
        if self.net is not None:
            values["checkpoint"] = self._checkpoint(store, given)
        spec = spec_from_values(values, "arguments")
        if not given:
            return spec
        inputs = self._inputs(spec)
        for name, data in given.items():
            limit = getattr(spec, f"{name}_samples")
            if name == "calibration" and self.evaluation is None:
                limit += spec.evaluation_samples
            kept, note = store.samples(data, inputs, limit)
            values[name] = str(kept)
            if note is not None:
                hear(f"Note: {note}")
        return spec_from_values(values, "arguments")

    def _checkpoint(self, store: GivenStore, given: dict[str, GivenData]) -> str:
        net = self.net
        if isinstance(net, str | PathLike):
            return fspath(net)
        if isinstance(net, onnx.ModelProto):
            digest = hashlib.sha256(net.SerializeToString(deterministic=True)).hexdigest()
            return str(store.generator(_file_name(net.graph.name), digest, lambda: net))
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(net, torch.nn.Module):
            raise SpecError(
                f"the generator is a {type(net).__name__}",
                "give a torch.nn.Module, an onnx.ModelProto, or the path of a file",
            )
        from qsens.generators.live_module import LiveModule  # torch is an optional extra

        module, item = LiveModule(net), None
        if "calibration" in given:
            item, given["calibration"] = given["calibration"].with_first_item()
        shapes = self.values.get("input_shapes")
        name = _file_name(module.name)
        return str(store.generator(name, module.digest, lambda: module.export(shapes, item)))

    def _inputs(self, spec: SweepSpec) -> list[InputSpec]:
        """The inputs of the graph that samples hold."""
        model = generator_of(spec, trust_checkpoint=self.trust_checkpoint).export()
        inputs = graph_inputs(model, stated_shapes(spec))
        rules = dict(spec.inputs)
        outputs = [value.name for value in model.graph.output]
        held = sample_inputs(inputs, open_own_loop(spec.loop.to_dict(), inputs, outputs), list(rules))
        return [one for one in held if one.name not in rules or rules[one.name].source not in _MADE_UP]


def _is_named(data: Any) -> bool:
    return data is None or isinstance(data, str | PathLike)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "generator"
