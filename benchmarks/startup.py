"""How long the command line takes to answer: `--help`, `plugins`, and the imports behind them.

python benchmarks/startup.py [--repeats 15]

Each line is a new process; the first run of each is not counted. CPU seconds are of the child alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from machine import Seconds, print_machine

LARGEST_HELP_S = 0.3
HEAVY = ("torch", "onnx", "onnxruntime", "pandas", "matplotlib", "scipy", "PIL", "numpy")


@dataclass(frozen=True)
class Start:
    """What is started, and how long it may take, where there is a target."""

    label: str
    command: Sequence[str]
    largest_s: float | None = None


STARTS = (
    Start("python -c pass", ("-c", "pass")),
    Start("import qsens", ("-c", "import qsens")),
    Start("import qsens.api", ("-c", "import qsens.api")),
    Start("qsens --help", ("-m", "qsens", "--help"), LARGEST_HELP_S),
    Start("qsens sweep --help", ("-m", "qsens", "sweep", "--help")),
    Start("qsens plugins", ("-m", "qsens", "plugins")),
)


def main() -> None:
    """Print one line for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    print_machine("click")
    print(f"medians of {options.repeats} new processes, in turns\n")
    times: dict[str, list[Seconds]] = {start.label: [] for start in STARTS}
    for turn in range(options.repeats + 1):
        for start in STARTS:
            seconds = timed_process(start.command)
            if turn:
                times[start.label].append(seconds)
    header = ("command", "CPU s", "wall s", "fastest", "slowest")
    print("{:<20} {:>6} {:>7} {:>8} {:>8}".format(*header))
    for start in STARTS:
        print_line(start, times[start.label])
    print(f"\nheavy libraries that `qsens --help` loads: {', '.join(heavy_modules()) or 'none'}")


def print_line(start: Start, times: Sequence[Seconds]) -> None:
    """Medians and extremes of one command, and the target."""
    walls = [entry.wall for entry in times]
    cpu, wall = statistics.median(entry.cpu for entry in times), statistics.median(walls)
    verdict = ""
    if start.largest_s is not None:
        verdict = f"  target {start.largest_s} s: {'ok' if wall <= start.largest_s else 'MISSED'}"
    print(f"{start.label:<20} {cpu:>6.3f} {wall:>7.3f} {min(walls):>8.3f} {max(walls):>8.3f}{verdict}")


def timed_process(arguments: Sequence[str]) -> Seconds:
    """Run Python with these arguments and wait for it."""
    wall = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(arguments)} ended with exit code {process.returncode}")
    return Seconds(usage.ru_utime + usage.ru_stime, time.perf_counter() - wall)


def heavy_modules() -> list[str]:
    """Libraries that are in memory when the help has been printed."""
    program = (
        "import sys, runpy, atexit; sys.argv = ['qsens', '--help']; "
        f"atexit.register(lambda: print('loaded', *[m for m in {HEAVY!r} if m in sys.modules])); "
        "runpy.run_module('qsens', run_name='__main__')"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return found.stdout.splitlines()[-1].split()[1:]


if __name__ == "__main__":
    main()
