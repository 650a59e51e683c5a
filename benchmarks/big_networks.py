"""Seconds that reports and choices of many layers and trials take, and the layers of a long chain.

Runs and chains are made up, without engines, pictures or evidence. `--only NAME` runs one row of the table,
and `--profile NAME` shows the functions that it spends its time in.
"""

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from machine import print_machine
from made_up import made_up_study
from onnx import TensorProto, helper, numpy_helper

from qsens.core.files import keep_record
from qsens.core.layer import layers_to_csv
from qsens.core.spec import SweepSpec, write_spec
from qsens.generators.onnx_file import OnnxFile
from qsens.report.write import make_report
from qsens.run.connections import KeptConnections, connections_path
from qsens.run.folder import read_study
from qsens.run.journal import FORMAT
from qsens.run.open import load_graph
from qsens.run.paths import RunPaths
from qsens.selection.budget import Budget
from qsens.selection.choose import cheapest_within
from qsens.selection.reasons import reasons_of_selection

RUNS = ((400, 100), (400, 300), (400, 900))
CHAINS = (300, 1000, 3000)
SHOWN_FUNCTIONS = 60


@dataclass(frozen=True)
class Row:
    """A row of the table: `prepare` writes its files into a folder and is not timed."""

    prepare: Callable[[Path], None]
    run: Callable[[Path], object]


def main() -> None:
    """Print the table, or one profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    rows = table_rows()
    parser.add_argument("--only", metavar="NAME", choices=rows)
    parser.add_argument("--profile", metavar="NAME", choices=rows)
    wished = parser.parse_args()
    print_machine()
    if wished.profile:
        with tempfile.TemporaryDirectory() as folder:
            show_profile(rows[wished.profile], Path(folder))
        return
    print("| task | wall s | CPU s |")
    print("|---|---:|---:|")
    for name, row in rows.items():
        if wished.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                print(f"| {name} | {seconds(row, Path(folder))} |", flush=True)


def table_rows() -> dict[str, Row]:
    """The rows by name: reports, choices with their reasons, and layers."""
    rows = {}
    for task, run in (("report", make_report), ("select", select)):
        for layers, trials in RUNS:
            rows[f"{task}-{layers}-{trials}"] = Row(
                lambda folder, size=(layers, trials): write_run(folder, *size), run
            )
    for count in CHAINS:
        rows[f"layers-{count}"] = Row(
            lambda folder, count=count: write_chain(folder, count),
            lambda folder: load_graph(OnnxFile("chain", onnx.load(folder / "chain.onnx"))),
        )
    return rows


def seconds(row: Row, folder: Path) -> str:
    """Wall and CPU seconds of one row, as cells of the table."""
    row.prepare(folder)
    wall, processor = time.perf_counter(), time.process_time()
    row.run(folder)
    return f"{time.perf_counter() - wall:.1f} | {time.process_time() - processor:.1f}"


def show_profile(row: Row, folder: Path) -> None:
    """Print the functions of one row by the time spent in them, that of what they call included."""
    row.prepare(folder)
    profile = cProfile.Profile()
    profile.runcall(row.run, folder)
    pstats.Stats(profile).sort_stats("cumulative").print_stats(SHOWN_FUNCTIONS)


def select(folder: Path) -> None:
    """The choice within a budget that about half of the maps keep, and the reason for every layer."""
    study = read_study(folder)
    reasons_of_selection(study, cheapest_within(study, budget=Budget.parse("1.0")))


def write_run(folder: Path, layers: int, trials: int) -> None:
    """A run folder with a made-up journal, without pictures or evidence."""
    paths, study = RunPaths(folder), made_up_study(layers, trials)
    for part in (paths.evidence, paths.samples):
        part.mkdir()
    spec = SweepSpec(checkpoint="chain.onnx")
    write_spec(paths.spec_path, spec)
    paths.layers_path.write_text(layers_to_csv(study.layers))
    keep_record(connections_path(folder), KeptConnections({layer.name: () for layer in study.layers}))
    # The journal's own writer waits for the disk after every trial.
    lines = [{"format": FORMAT, "qsens": "made up", "spec": spec.digest}]
    lines += [trial.to_json() for trial in study.trials]
    paths.journal_path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def write_chain(folder: Path, count: int) -> None:
    """A chain of that many small convolutions with a ReLU each, in blocks of ten."""
    random = np.random.default_rng(0)
    nodes, weights = [], []
    for place in range(count):
        weight = (random.standard_normal((3, 3, 1, 1)) / 2).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{place}"))
        block = f"/block{place // 10}"
        read = "image" if place == 0 else f"t{place}"
        made = "picture" if place == count - 1 else f"t{place + 1}"
        nodes.append(helper.make_node("Conv", [read, f"w{place}"], [f"c{place}"], f"{block}/conv{place}"))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [made], f"{block}/relu{place}"))
    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "chain.onnx")


if __name__ == "__main__":
    main()
