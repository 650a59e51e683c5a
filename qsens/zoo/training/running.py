"""Runs a training in a folder: begins or resumes it, keeps it safe, writes its weights and its result."""

import logging
import platform
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import tomli_w
import torch
from filelock import FileLock, Timeout
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from safetensors.torch import save

from qsens import __version__
from qsens.core.errors import RunFolderError
from qsens.core.files import write_atomically
from qsens.core.interfaces import Progress
from qsens.generators.checkpoint import weights_only_loading
from qsens.zoo.training.callbacks import (
    CHECKPOINT_NAME,
    Checkpoints,
    Clock,
    LearningRate,
    MetricsLog,
    Stopping,
    validated,
)
from qsens.zoo.training.module import TrainingModule
from qsens.zoo.training.spec import WEIGHT_FILES, GeneratorSpec, TrainingSpec
from qsens.zoo.training.spec_reading import plain_values, refuse_difference

RESULT_NAME = "training.toml"
BEGUN_NAME = "spec.toml"


def write_networks(module: TrainingModule, folder: Path) -> None:
    """Write each network as `<name>.safetensors`, the generator rounded to FP16 where the spec says so.

    The module then holds the weights as written, so that what is measured is what is shipped.

    Raises:
        RunFolderError: if a file cannot be written.
    """
    spec = module.spec
    wants_half = isinstance(spec, GeneratorSpec) and spec.fp16
    for name, network in module.kept_networks().items():
        is_half = wants_half and name == "generator"
        weights = {key: stored(value, is_half=is_half) for key, value in network.state_dict().items()}
        write_atomically(folder / f"{name}.safetensors", save(weights, {"format": "pt"}))
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
        )


def stored(value: torch.Tensor, *, is_half: bool) -> torch.Tensor:
    """A tensor as the file holds it: on the CPU, in plain layout, floats halved where wanted."""
    plain = value.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
    return plain.half() if is_half and plain.is_floating_point() else plain


@dataclass(frozen=True)
class TrainingResult:
    """The results of a finished run.

    `is_complete` is false where the minutes ran out first. Without `metrics` this is a process that shared
    the steps of another one, which has the result.
    """

    folder: Path
    steps: int
    samples: int
    duration_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_complete: bool = False


def run_training(module: TrainingModule, progress: Progress) -> TrainingResult:
    """Train to the end of the spec, from the last checkpoint of its folder where there is one.

    Raises:
        RunFolderError: if the folder is in use or holds a run of another spec.
        KeyboardInterrupt: after saving, if the run was interrupted.
    """
    spec = module.spec
    assert spec.out is not None
    stopping = Stopping(spec)
    if rank_zero_only.rank:
        # Lightning started this process to share the steps; the first process owns the folder.
        _fit(module, spec.out, stopping, progress)
        return TrainingResult(spec.out, module.done_steps, module.samples_seen, module.seconds_spent)
    spec.out.mkdir(parents=True, exist_ok=True)
    with _locked(spec.out):
        _begin(module, spec.out)
        try:
            device = _fit(module, spec.out, stopping, progress)
        finally:
            stopping.restore_handlers()
        if stopping.is_interrupted:
            stopping.raise_interrupt()
        # Lightning moves the module to the CPU when it has finished.
        return _finish(module.to(device), spec.out)


def _begin(module: TrainingModule, folder: Path) -> None:
    """Write down what the folder is for, or compare with what it was begun for."""
    spec, path = module.spec, folder / BEGUN_NAME
    values = {**plain_values(spec), **module.identity()}
    if path.exists():
        refuse_difference(tomllib.loads(path.read_text(encoding="utf-8")), values, folder)
        return
    if (folder / CHECKPOINT_NAME).exists():
        raise RunFolderError(f"{folder} holds a checkpoint without {BEGUN_NAME}", "give another --out")
    header = f"# Written by qsens {__version__}; the same command again resumes.\n"
    write_atomically(path, (header + tomli_w.dumps(values)).encode())


def _fit(module: TrainingModule, folder: Path, stopping: Stopping, progress: Progress) -> torch.device:
    spec = module.spec
    if spec.threads:
        torch.set_num_threads(spec.threads)
    checkpoint = folder / CHECKPOINT_NAME
    callbacks = [LearningRate(), Clock(), MetricsLog(folder, progress), stopping, Checkpoints(folder)]
    with _quiet():
        trainer = pl.Trainer(
            max_epochs=1,
            precision=spec.precision,
            accelerator=spec.accelerator,
            devices=spec.devices,
            strategy="ddp_find_unused_parameters_true" if spec.devices > 1 else "auto",
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        # A folder may come from somebody else, and Lightning would unpickle whatever its checkpoint holds.
        with weights_only_loading():
            trainer.fit(module, ckpt_path=_readable(checkpoint) if checkpoint.exists() else None)
        return trainer.strategy.root_device


def _readable(checkpoint: Path) -> Path:
    """The checkpoint, if it is whole and holds no code; raises `RunFolderError`."""
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # A damaged pickle can raise anything.
        raise RunFolderError(
            f"{checkpoint} is damaged, or holds more than the state of a training",
            "delete it to train from the start, or give another --out",
        ) from error
    return checkpoint


def _finish(module: TrainingModule, folder: Path) -> TrainingResult:
    """Write the networks, measure them as written, and say how they came about."""
    write_networks(module, folder)
    figures = validated(module)
    result = TrainingResult(
        folder,
        module.done_steps,
        module.samples_seen,
        module.seconds_spent,
        figures,
        module.done_steps == module.spec.steps,
    )
    write_atomically(folder / RESULT_NAME, tomli_w.dumps(_record(module, result)).encode())
    return result


def _record(module: TrainingModule, result: TrainingResult) -> dict[str, Any]:
    return {
        "training": {
            "seed": module.spec.seed,
            "steps": result.steps,
            "samples_seen": result.samples,
            "duration_s": round(result.duration_s, 1),
            "is_complete": result.is_complete,
            "device": _device_name(module.device),
            **module.facts(),
        },
        "versions": {
            "qsens": __version__,
            "torch": str(torch.__version__),
            "lightning": pl.__version__,
            "python": platform.python_version(),
        },
        "digests": module.identity(),
        "corpus": {
            "clips": module.clips.clips,
            "frames": module.clips.frames,
            "skipped": module.clips.skipped(),
        },
        "metrics": dict(result.metrics),
        "spec": _without_machine_paths(module.spec),
    }


def _without_machine_paths(spec: TrainingSpec) -> dict[str, Any]:
    """Values of the spec with the names of folders only: the record is shipped with the weights."""
    values = plain_values(spec)
    values.pop("out", None)
    for key in ("data", "validation", *WEIGHT_FILES):
        if key in values:
            value = values[key]
            values[key] = [Path(one).name for one in value] if isinstance(value, list) else Path(value).name
    return values


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"cpu, {torch.get_num_threads()} threads"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunFolderError(
            f"{folder} is in use by another training", "wait for it, or give another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and advice that does not apply from the terminal."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
