"""Memory of a sweep: the real `qsens sweep` in a process of its own, watched from outside.

python benchmarks/memory.py [--case GENERATOR:IMAGES:MAPS ...] [--batch-size 8] [--threads 0] [--timeout 280]

A case runs the default boundary sweep until MAPS maps are in the journal and then stops it with Ctrl-C.
"held" is the resident memory just after a map was written down, "peak" the largest so far, both with
shared libraries, polled every 10 ms; the last line is what the system says of the whole process.
A case that does not get to its number of maps in time says how far it came.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import psutil
from generators import BUILDERS
from machine import print_machine
from workload import CALIBRATION_SAMPLES, REFERENCE_IMAGES, write_pictures, write_samples

MIB = 2**20
LARGEST_PEAK_MIB = 2048
POLL_S = 0.01
# Many maps of the large generator on few images, and the full number of images: the peak of the first
# shows what a map leaves behind, the second what images cost.
CASES = ("student:1000:3", "teacher:48:10", "teacher:1000:1")


@dataclass(frozen=True)
class Case:
    """Which generator, on how many images, for how many maps."""

    generator: str
    images: int
    maps: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read `GENERATOR:IMAGES:MAPS`."""
        parts = text.split(":")
        if len(parts) != 3 or parts[0] not in BUILDERS or not (parts[1] + parts[2]).isdigit():
            raise argparse.ArgumentTypeError(f"{text!r}: write GENERATOR:IMAGES:MAPS, as in {CASES[0]}")
        return cls(parts[0], int(parts[1]), int(parts[2]))


@dataclass(frozen=True)
class Reading:
    """Memory when `maps` maps were in the journal, in MiB."""

    maps: int
    held: float
    peak: float
    seconds: float


def main() -> None:
    """Print a table for each case."""
    options = parsed_options()
    print_machine("onnx", "psutil")
    print(f"batch {options.batch_size}, threads {options.threads} (0: one a core), boundary sweep by layer,")
    print(f"all default metrics with the embedded extractor; target: peak <= {LARGEST_PEAK_MIB} MiB")
    for case in options.case:
        with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
            print_case(case, Path(name), options)


def print_case(case: Case, folder: Path, options: argparse.Namespace) -> None:
    """Run one case and print a line for some of its maps."""
    parameters = write_files(case, folder)
    print(f"\n{case.generator}, {parameters / 1e6:.1f} M parameters, {case.images} images, {case.maps} maps")
    print(f"{'maps':>4} {'seconds':>8} {'held MiB':>9} {'peak MiB':>9}", flush=True)
    process = subprocess.Popen(
        sweep_command(folder, options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    shown = {0, 1, 2, 3, 5, 10, 20, 50, case.maps}
    last = 0
    try:
        for reading in readings(process.pid, folder / "run" / "journal.jsonl", case.maps, options.timeout):
            last = reading.maps
            if reading.maps in shown:
                values = (reading.maps, reading.seconds, reading.held, reading.peak)
                print("{:>4} {:>8.0f} {:>9.0f} {:>9.0f}".format(*values), flush=True)
    finally:
        process.send_signal(signal.SIGINT)
        messages = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB
    verdict = "ok" if peak <= LARGEST_PEAK_MIB else "MISSES THE TARGET"
    print(f"peak of the process {peak:.0f} MiB: {verdict}")
    if last < case.maps:
        lines = messages.strip().splitlines() or ["no message"]
        print(f"stopped after {last} of {case.maps} maps: {lines[-1]}")


def write_files(case: Case, folder: Path) -> int:
    """Model, samples and pictures of a case; returns the number of parameters."""
    generator = BUILDERS[case.generator]()
    onnx.save(generator.model, folder / "model.onnx")
    write_samples(folder / "calibration", generator, CALIBRATION_SAMPLES, 1)
    write_samples(folder / "evaluation", generator, case.images, 2)
    write_pictures(folder / "reference", REFERENCE_IMAGES, 3)
    tensors = generator.model.graph.initializer
    return sum(len(tensor.raw_data) // 4 for tensor in tensors)


def sweep_command(folder: Path, options: argparse.Namespace) -> list[str]:
    """The command a user would type."""
    flags = {
        "calibration": folder / "calibration",
        "evaluation": folder / "evaluation",
        "evaluation-samples": 10**6,
        "reference": folder / "reference",
        "extractor": "lite0",
        "batch-size": options.batch_size,
        "threads": options.threads,
        "out": folder / "run",
    }
    words = [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]
    return [sys.executable, "-m", "qsens", "sweep", str(folder / "model.onnx"), *words]


def readings(pid: int, journal: Path, maps: int, timeout_s: float) -> Iterator[Reading]:
    """A reading when calibration begins to give way to the first map, and after every map."""
    watched = psutil.Process(pid)
    start = time.perf_counter()
    peak, done = 0.0, -1
    while done < maps and time.perf_counter() - start < timeout_s:
        try:
            held = watched.memory_info().rss / MIB
        except psutil.NoSuchProcess:
            return
        if watched.status() == psutil.STATUS_ZOMBIE:
            return
        peak = max(peak, held)
        lines = trials_in(journal)
        if lines > done and (lines > 0 or journal.with_name("ranges.npz").exists()):
            done = lines
            yield Reading(done, held, peak, time.perf_counter() - start)
        time.sleep(POLL_S)


def trials_in(journal: Path) -> int:
    """Trials written down so far; the first line of a journal is its header."""
    try:
        return max(journal.read_bytes().count(b"\n") - 1, 0)
    except FileNotFoundError:
        return 0


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", type=Case.parse, default=[Case.parse(text) for text in CASES])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=280.0, help="seconds for each case")
    return parser.parse_args()


if __name__ == "__main__":
    main()
