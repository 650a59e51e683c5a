"""Work around the steps of a training: learning rate, metrics.csv, validation, checkpoints, stopping."""

import csv
import math
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
from torch import nn

from qsens.core.errors import DataError
from qsens.core.interfaces import Progress
from qsens.zoo.clips.layout import MOUTH_BOX
from qsens.zoo.training.batches import TrainingClips, evaluation_batch
from qsens.zoo.training.module import TrainingModule
from qsens.zoo.training.spec import TrainingSpec

CHUNK = 50
CHECKPOINT_NAME = "checkpoint.ckpt"
METRICS_NAME = "metrics.csv"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class GeneratorValidation:
    """PSNR in dB over evenly spread frames, each with the frame half a clip away as reference.

    `psnr_db` is over whole pictures; `mouth_psnr_db` over the mouth box; `wrong_audio_psnr_db` over the
    mouth box when the sound is another clip's; `copy_psnr_db` over the mouth box of the reference itself.
    A generator that ignores the sound shows equal second and third figures.
    """

    def __init__(self, clips: TrainingClips, window: str, frames: int) -> None:
        self._clips = clips
        self._window = window
        self._frames = frames

    def metrics(self, generator: nn.Module, device: torch.device) -> dict[str, float]:
        """The four figures; `generator` is in evaluation mode."""
        batch, wrong = evaluation_batch(self._clips, self._window, self._frames, device)
        made, made_wrong = (redraw(generator, mel, batch.face) for mel in (batch.mel, wrong))
        return {
            "psnr_db": psnr_db(made, batch.target),
            "mouth_psnr_db": mouth_psnr_db(made, batch.target),
            "wrong_audio_psnr_db": mouth_psnr_db(made_wrong, batch.target),
            "copy_psnr_db": mouth_psnr_db(batch.face[:, 3:], batch.target),
        }


def redraw(generator: nn.Module, mel: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
    """Outputs for all samples, a few at a time."""
    pairs = zip(mel.split(CHUNK), face.split(CHUNK), strict=True)
    return torch.cat([generator(one_mel, one_face).float() for one_mel, one_face in pairs])


def psnr_db(made: torch.Tensor, target: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in 0..1, one mean square over all of them."""
    return float(-10 * torch.log10((made - target).square().mean()))


def mouth_psnr_db(made: torch.Tensor, target: torch.Tensor) -> float:
    """`psnr_db` inside the mouth box."""
    box = (..., *MOUTH_BOX)
    return psnr_db(made[box], target[box])


def learning_rate_at(step: int, spec: TrainingSpec) -> float:
    """Learning rate of a 0-based step: linear warm-up, then constant or half a cosine to the final rate."""
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    if spec.schedule == "constant":
        return spec.learning_rate
    share = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, share))
    return spec.final_learning_rate + (spec.learning_rate - spec.final_learning_rate) * fall


class LearningRate(pl.Callback):
    """Sets the rate of every optimizer from the step number alone, so there is nothing to restore."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_index: int) -> None:
        rate = learning_rate_at(module.done_steps, module.spec)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("rate_factor", 1.0)


class Stopping(pl.Callback):
    """Stops after the current step on Ctrl-C, SIGTERM or SIGHUP, and when the minutes are used up.

    A second Ctrl-C stops at once.
    """

    def __init__(self, spec: TrainingSpec) -> None:
        self._seconds = math.inf if spec.max_minutes is None else spec.max_minutes * 60
        self._before: dict[int, Any] = {}
        self._signal: int | None = None
        self.is_interrupted = False

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        # Handlers can be set in the main thread only; elsewhere Python's own stay.
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in STOP_SIGNALS}
            self._before = {number: it for number, it in found.items() if it is not signal.SIG_IGN}
            self._listen()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        # Lightning has taken SIGTERM meanwhile, and would end with an exception of its own.
        self._listen()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        is_late = module.seconds_spent >= self._seconds
        if trainer.world_size > 1:
            # All processes must stop after the same step.
            decide = trainer.strategy.reduce_boolean_decision
            self.is_interrupted = decide(self.is_interrupted, all=False)
            is_late = decide(is_late, all=False)
        if self.is_interrupted or is_late:
            trainer.should_stop = True

    def restore_handlers(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_interrupt(self) -> NoReturn:
        """Tell whoever had the signal of it, now that all is saved. Raises `KeyboardInterrupt`."""
        handler = self._before.get(self._signal) if self._signal is not None else None
        if callable(handler):
            handler(self._signal, None)
        raise KeyboardInterrupt

    def _listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, _frame: object) -> None:
        self._signal = number
        if self.is_interrupted:
            self.raise_interrupt()
        self.is_interrupted = True


class Clock(pl.Callback):
    """Adds the time of the steps to the module's count, pauses between runs left out."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        now = time.monotonic()
        module.seconds_spent += now - self._last
        self._last = now


class MetricsLog(pl.Callback):
    """Appends lines of losses and validation figures to metrics.csv and tells `progress`."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._path = folder / METRICS_NAME
        self._progress = progress
        self._mark = (0, 0.0)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._mark = (module.samples_seen, module.seconds_spent)
        if trainer.is_global_zero:
            _drop_later_rows(self._path, module.done_steps)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        spec = module.spec
        is_last = module.done_steps == spec.steps
        is_due = module.done_steps % spec.log_every == 0 or is_last
        is_validated = module.done_steps % spec.validate_every == 0 or is_last
        if not (is_due or is_validated):
            return
        row = self._training_row(module)
        refuse_nan(module.done_steps, row["loss"])
        if is_validated:
            figures = validated(module)
            module.after_validation(figures)
            row |= figures
        if trainer.is_global_zero:
            _append(self._path, row)
            self._progress(module.done_steps, spec.steps, _summary(row))

    def _training_row(self, module: TrainingModule) -> dict[str, float]:
        samples, seconds = self._mark
        self._mark = (module.samples_seen, module.seconds_spent)
        speed = (module.samples_seen - samples) / max(module.seconds_spent - seconds, 1e-9)
        return {
            "step": module.done_steps,
            "samples": module.samples_seen,
            "seconds": round(module.seconds_spent, 1),
            "samples_a_second": round(speed, 1),
            "learning_rate": learning_rate_at(module.done_steps - 1, module.spec),
            **{name: float(loss) for name, loss in module.latest.items()},
        }


class Checkpoints(pl.Callback):
    """Saves everything that a resumed run needs, now and then and when the run ends or stops."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CHECKPOINT_NAME

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        is_last = module.done_steps == module.spec.steps
        if trainer.should_stop or is_last or module.done_steps % module.spec.checkpoint_every == 0:
            partial = self._path.with_name(f".{CHECKPOINT_NAME}.partial")
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                partial.replace(self._path)


def validated(module: TrainingModule) -> dict[str, float]:
    """Validation figures of the module as it is now; its training mode is put back."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    with torch.inference_mode(), torch.autocast(module.device.type, enabled=False):
        figures = module.validation_metrics()
    for part, is_training in modes.items():
        part.training = is_training
    return figures


def refuse_nan(step: int, loss: float) -> None:
    """Stop a run whose loss is no number.

    Raises:
        DataError: with the step at which it was seen.
    """
    if math.isnan(loss):
        raise DataError(f"the loss is NaN at step {step}", "begin again with a smaller learning_rate")


def _append(path: Path, row: Mapping[str, float]) -> None:
    known = _header(path)
    columns = [*known, *(name for name in row if name not in known)]
    if columns != known:
        _rewrite(path, columns, _rows(path))
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns).writerow({name: _short(value) for name, value in row.items()})


def _drop_later_rows(path: Path, step: int) -> None:
    """Forget lines after the checkpoint that the run goes on from."""
    kept = [row for row in _rows(path) if int(row["step"]) <= step]
    if path.exists():
        _rewrite(path, _header(path), kept)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _header(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _rewrite(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _summary(row: Mapping[str, float]) -> str:
    words = [f"loss {row['loss']:.4f}", f"{row['samples_a_second']:.0f} samples/s"]
    words += [f"{name} {row[name]:.2f}" for name in row if name.endswith("_db")]
    return ", ".join(words)
