"""Maps a minute of a real `qsens sweep` without workers and with several, and whether their scores agree.

python benchmarks/workers.py [--workers 1 2] [--images 32] [--repeats 2]

The style network of the demo on its photographs, FID (lite0), PSNR and SSIM, strategy one-at-a-time by
block. Each row is the command line itself, report left out, in a folder of its own; the rows take turns,
and the fastest turn counts. "whole" is the command from start to end; "maps a minute" counts from the
first trial in the journal (FP32) to the last, so that opening the network is left out for the driver, but
not for workers that open it while others score. "differs" counts trials that are not bit for bit those of
the first row with workers: float layers may differ in a run whose engines use all cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from machine import print_machine

from qsens.cli.demo import StyleDemo
from qsens.core.spec import spec_from_values, write_spec
from qsens.core.trial import Trial
from qsens.run.folder import read_study
from qsens.run.paths import RunPaths

# The command line without its last step: drawing the report costs the same whatever the workers.
COMMAND = """
import sys
from pathlib import Path
from qsens.report import write as document
document.write_report = lambda folder, **_: Path(folder)
from qsens.cli.main import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Turn:
    """One run: seconds of the whole command, seconds from the first trial to the last, the trials."""

    whole_s: float
    maps_s: float
    trials: tuple[Trial, ...]

    @property
    def maps_a_minute(self) -> float:
        """Trials after FP32, per minute."""
        return 60 * (len(self.trials) - 1) / self.maps_s


def main() -> None:
    """Print the table."""
    options = parsed_options()
    print_machine("scipy")
    rows = {"all cores": (), "1 thread": ("--threads", "1")}
    rows |= {f"{count} workers": ("--workers", str(count)) for count in options.workers}
    with tempfile.TemporaryDirectory(prefix="qsens-benchmark-") as name:
        folder = Path(name)
        write_inputs(folder, options.images)
        turns = {
            (label, turn): swept(folder, f"{label} {turn}", arguments)
            for turn in range(options.repeats)
            for label, arguments in rows.items()
        }
    expected = without_durations(turns[f"{options.workers[0]} workers", 0])
    print(f"{'engines':<12} {'maps':>5} {'whole, s':>9} {'maps a minute':>14} {'differs':>8}")
    for label in rows:
        own = [turns[label, turn] for turn in range(options.repeats)]
        found = [without_durations(turn) for turn in own]
        differing = max(sum(a != b for a, b in zip(one, expected, strict=True)) for one in found)
        best = max(turn.maps_a_minute for turn in own)
        print(
            f"{label:<12} {len(own[0].trials):>5} {min(turn.whole_s for turn in own):>9.1f} "
            f"{best:>14.1f} {differing:>8}"
        )


def write_inputs(folder: Path, images: int) -> None:
    """The spec of the runs and the script that runs them."""
    values = {
        **StyleDemo().spec_values(folder / "data"),
        "evaluation_samples": images,
        "strategy": "one-at-a-time",
        "strategy_options": {"by": "block"},
        "metrics": ["fid", "fid-fp32", "psnr", "ssim"],
        "extractor": "lite0",
    }
    write_spec(folder / "spec.toml", spec_from_values(values, "benchmark"))
    (folder / "command.py").write_text(COMMAND, encoding="utf-8")


def swept(folder: Path, name: str, arguments: tuple[str, ...]) -> Turn:
    """Run one command line and watch its journal."""
    run = folder / name.replace(" ", "-")
    command = [sys.executable, folder / "command.py", "sweep", "--spec", folder / "spec.toml", "--out", run]
    start, first, lines = time.perf_counter(), 0.0, 0
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = start
    while process.poll() is None:
        time.sleep(0.02)
        before, lines = lines, journal_lines(run)
        now = time.perf_counter()
        if before < 2 <= lines:
            first = now
        last = now if lines > before else last
    if process.returncode not in (0, 3):
        raise SystemExit(f"{name}: qsens sweep ended with {process.returncode}")
    return Turn(time.perf_counter() - start, last - first, read_study(run).trials)


def journal_lines(run: Path) -> int:
    """Whole lines of a journal, the header included."""
    path = RunPaths(run).journal_path
    return path.read_bytes().count(b"\n") if path.exists() else 0


def without_durations(turn: Turn) -> list[Trial]:
    """The trials with what may differ between equal runs taken out."""
    return [replace(trial, duration_s=0.0) for trial in turn.trials]


def parsed_options() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
