"""Tiny generators, image folders and command lines for tests that run qsens from end to end."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper
from PIL import Image
from tiny_models import normal, onnx_model

from qsens.cli.main import main
from qsens.core.trial import Study, Trial
from qsens.run.folder import read_study
from qsens.run.paths import RunPaths

SIDE = 16
LOUD_LAYERS = ("stem", "grow", "shrink", "head")
SMALL = (
    *("--metric", "psnr", "--calibration-samples", "2", "--evaluation-samples", "4"),
    *("--batch-size", "4", "--threads", "1", "--ranges", "minmax", "--strategy", "boundary"),
)


def qsens(*arguments: object) -> Result:
    """Run a command line in this process; what it raises beyond its own errors fails the test."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def sweep(checkpoint: Path, calibration: object, out: Path, *arguments: object) -> Result:
    """`qsens sweep` on few samples, PSNR only; later arguments win."""
    small = without(SMALL, arguments)
    return qsens("sweep", checkpoint, "--calibration", calibration, "--out", out, *small, *arguments)


def write_no_report(patch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds; `test_run_commands.py` draws a real report."""
    patch.setattr("qsens.report.write.write_report", lambda folder, **_: folder / "report.html")


def end_with_the_choice(patch: pytest.MonkeyPatch) -> None:
    """No report; nor is each target asked what it would leave, which takes as long as the sweep.

    `test_sweep_for_targets.py` asks them.
    """
    write_no_report(patch)
    patch.setattr("qsens.api.survivals", lambda *_: ())


def without(options: Sequence[str], arguments: Sequence[object]) -> list[str]:
    """The pairs of flag and value but those whose flag `arguments` give another value."""
    given = set(map(str, arguments)) - {"--metric"}
    return [
        text
        for place in range(0, len(options), 2)
        for text in options[place : place + 2]
        if options[place] not in given
    ]


def chain(layers: int = 4, *, per_block: int = 2, width: int = 4, batch: int | str = "n") -> onnx.ModelProto:
    """`layers` convolutions of 3x3 in blocks, with ReLU between them and a sigmoid at the end."""
    nodes, weights, source, channels = [], {}, "image", 3
    for index in range(layers):
        is_last = index == layers - 1
        name = f"/block{index // per_block}/conv{index % per_block}/Conv"
        outputs = 3 if is_last else width
        weights[f"w{index}"] = normal(outputs, channels, 3, 3, seed=index)
        weights[f"b{index}"] = normal(outputs, seed=100 + index, scale=0.1)
        nodes.append(
            helper.make_node("Conv", [source, f"w{index}", f"b{index}"], [f"c{index}"], name, pads=[1] * 4)
        )
        source, channels = "picture" if is_last else f"r{index}", outputs
        kind = "Sigmoid" if is_last else "Relu"
        nodes.append(helper.make_node(kind, [f"c{index}"], [source], f"/activation{index}"))
    sides = {"image": [batch, 3, SIDE, SIDE]}
    return onnx_model(nodes, inputs=sides, outputs={"picture": [batch, 3, SIDE, SIDE]}, weights=weights)


def loud() -> onnx.ModelProto:
    """Four layers; `grow` makes values beyond 65504, `shrink` takes their differences back to normal size."""
    sums = np.ones((3, 3))
    differences = np.array([[1, -1, 0.25], [0.25, 1, -1], [-1, 0.25, 1]])
    mixing = dict(zip(LOUD_LAYERS, (sums, 4e4 * sums, 1e-5 * differences, sums), strict=True))
    model = chain(4, per_block=1, width=3)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node, (name, matrix) in zip(convolutions, mixing.items(), strict=True):
        node.name = f"/{name}/Conv"
        values = np.zeros((3, 3, 3, 3), np.float32)
        values[:, :, 1, 1] = matrix
        tensors[node.input[1]].CopyFrom(numpy_helper.from_array(values, node.input[1]))
    return model


def write_generator(path: Path, model: onnx.ModelProto | None = None) -> Path:
    """Save a generator; `chain()` where none is given."""
    onnx.save(chain() if model is None else model, path)
    return path


def write_images(folder: Path, count: int = 6, *, side: int = SIDE, seed: int = 0) -> Path:
    """A folder of PNGs of seeded, smooth-ish noise."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)
        image.save(folder / f"photo-{index:03d}.png")
    return folder


def write_arrays(folder: Path, samples: Sequence[dict[str, np.ndarray]]) -> Path:
    """A folder of `.npz` files, one a sample."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, arrays in enumerate(samples):
        np.savez(folder / f"sample-{index:03d}.npz", **arrays)
    return folder


def study_of(run: Path) -> Study:
    return read_study(run)


def without_durations(run: Path) -> list[Trial]:
    """The trials of a run with what may differ between two equal runs taken out."""
    return [replace(trial, duration_s=0.0) for trial in read_study(run).trials]


def keep_trials(run: Path, count: int, *, torn: bool = False) -> None:
    """Cut the journal after that many trials, or in the middle of the next one."""
    path = RunPaths(run).journal_path
    lines = path.read_bytes().splitlines(keepends=True)
    rest = lines[count + 1][:40] if torn and len(lines) > count + 1 else b""
    path.write_bytes(b"".join(lines[: count + 1]) + rest)


def journal_lines(run: Path) -> list[dict[str, object]]:
    """Every line of the journal; fails where one is no JSON or the last one is torn."""
    text = RunPaths(run).journal_path.read_text(encoding="utf-8")
    assert text.endswith("\n"), "the last line is torn"
    return [json.loads(line) for line in text.splitlines()]
