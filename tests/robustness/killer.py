"""Kills commands at seeded moments and steps, runs them again, and compares with a run that nobody disturbed.

`python tests/robustness/killer.py --cases 1000 --seed 0` prints a table and ends with 1 if a number that
should be 0 is not. Most processes are forks of this one, which has loaded what they would load; some are
started from nothing, so that signals come while things load.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import mmap
import multiprocessing
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "end_to_end")]

import tiny_runs  # noqa: E402 - after the path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A process that has not ended after that long hangs; a machine that is busy takes long.
HANG_S = 120.0
GONE_S = 10.0
# From nothing a command is killed while it loads.
LOADING_S = 2.0
SEED_STEP = 1_000_000
COLUMNS = (
    *("cases", "kills", "too late", "tracebacks", "hangs", "wrong codes", "trials lost", "trials repeated"),
    *("other results", "files left", "processes left"),
)
# Python tells of these; between two of them a file or folder is half made.
STEPS = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "subprocess.Popen")
SHARED_MEMORY = Path("/dev/shm")
# Of the tests, and what ONNX Runtime keeps beside temporary files for all processes of a user.
TIMES = {"created": "", "date": "", "duration_s": 0}
MINUTE = re.compile(rb"\d+ \w+ \d{4}, \d\d:\d\d UTC")
NOT_OURS = ("stdout.txt", "stderr.txt", "temporary/.ses")
# What forks need not load again; nothing of it starts threads that a fork would lack.
LOADED = (
    *("qsens.run.workers", "qsens.cli.sweep", "qsens.cli.sweep", "qsens.cli.report", "qsens.cli.select"),
    *("qsens.cli.export", "qsens.report.write", "qsens.deploy.bundle", "qsens.search.guided.strategy"),
    *("qsens.engines.onnxruntime", "qsens.generators.onnx_file", "matplotlib.pyplot"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "pyarrow.parquet"),
)


@dataclass(frozen=True)
class Kind:
    """A command to kill. `base` is a finished run that it works on; `weight` is how often it is taken."""

    name: str
    arguments: tuple[str, ...]
    weight: int
    base: bool = False
    draws: bool = False
    is_fresh: bool = False


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves when nobody disturbs it, and how many seconds and steps with files it takes."""

    files: dict[str, str]
    duration_s: float
    steps: int


@dataclass(frozen=True)
class Blow:
    """A signal that a process sends itself at one of its steps with files."""

    step: int
    number: int


NO_BLOW = Blow(0, 0)


@dataclass(frozen=True)
class Setup:
    """Inputs, the run that other commands read, and what each kind should come to."""

    root: Path
    kinds: tuple[Kind, ...]
    undisturbed: dict[str, Undisturbed] = field(default_factory=dict)


def kinds_of(root: Path) -> tuple[Kind, ...]:
    options = ("--calibration", str(root / "photos"), "--out", "run", *tiny_runs.SMALL)
    sweep = ("sweep", str(root / "generator.onnx"), *options)
    search = ("--strategy", "guided", "--by", "layer", "--budget", "58", "--screen-samples", "2")
    return (
        Kind("sweep", sweep, 30),
        Kind("workers", (*sweep, "--workers", "2"), 10),
        Kind("guided", (*sweep[:6], *tiny_runs.without(tiny_runs.SMALL, search), *search), 20),
        Kind("report", ("report", "run"), 5, base=True, draws=True),
        Kind("select", ("select", "run", "--budget", "40", "--write"), 15, base=True),
        Kind("export", ("export", "run", "--for", "onnxruntime", "--float-fallback"), 10, base=True),
        Kind("loading", sweep, 10, draws=True, is_fresh=True),
    )


class Command:
    """A running command, the leader of a session of its own."""

    def __init__(self, kind: Kind, folder: Path, blow: Blow = NO_BLOW, *, is_fresh: bool = False) -> None:
        self._errors = folder / "stderr.txt"
        self._steps = mmap.mmap(-1, 8)
        (folder / "temporary").mkdir(exist_ok=True)
        if is_fresh:
            self.pid = _start_fresh(kind, folder, self._errors)
        else:
            self.pid = os.fork()
            if self.pid == 0:
                _become(kind, folder, self._errors, partial(_count_step, self._steps, blow))
        self._handle = os.pidfd_open(self.pid)
        self.status: int | None = None

    def is_over(self, *, after_s: float) -> bool:
        """Wait so long at most; true once it has ended."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        if self.status is None and poll.poll(after_s * 1000):
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._handle)
        return self.status is not None

    def wait_until_it_listens(self) -> None:
        """Before its first line runs, Python has handlers of its own or none."""
        wanted = 1 << (signal.SIGTERM - 1) | 1 << (signal.SIGHUP - 1)
        while not self.is_over(after_s=0.001):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
                caught = next((line for line in lines if line.startswith("SigCgt")), "SigCgt: 0")
                if int(caught.split()[1], 16) & wanted == wanted:
                    return

    def send(self, number: int, *, to_all: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if to_all else os.kill)(self.pid, number)

    @property
    def steps(self) -> int:
        return int.from_bytes(self._steps[:], "little")

    def said(self) -> str:
        return self._errors.read_text(errors="replace")


def _count_step(steps: mmap.mmap, blow: Blow, event: str, _: object) -> None:
    if event in STEPS:
        done = int.from_bytes(steps[:], "little") + 1
        steps[:] = done.to_bytes(8, "little")
        if done == blow.step:
            os.kill(os.getpid(), blow.number)


def _become(kind: Kind, folder: Path, errors: Path, hear: Callable[[str, object], None]) -> None:
    """In the fork: be a process that runs the command, to its very end."""
    import atexit
    import threading

    import qsens.__main__
    import qsens.report.write

    try:
        os.setsid()
        os.chdir(folder)
        for number, path in ((0, os.devnull), (1, "stdout.txt"), (2, errors)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        atexit._clear()
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
        if not kind.draws:
            qsens.report.write.write_report = lambda run, **_: run / "report.html"
        sys.argv = ["qsens", *kind.arguments]
        sys.addaudithook(hear)
        qsens.__main__.main()
    except SystemExit as end:
        # What the interpreter does at its end.
        threading._shutdown()
        atexit._run_exitfuncs()
        os._exit(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def _start_fresh(kind: Kind, folder: Path, errors: Path) -> int:
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "qsens", *kind.arguments],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder / "temporary"), "PYTHONPATH": str(TESTS.parent)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
    process.returncode = 0  # it is waited for elsewhere
    return process.pid


def prepare(root: Path) -> Setup:
    """Make the inputs, and run each command twice to see what is the same in both."""
    for name in LOADED:
        importlib.import_module(name)
    tiny_runs.write_generator(root / "generator.onnx")
    tiny_runs.write_images(root / "photos")
    setup = Setup(root, kinds_of(root))
    for kind in setup.kinds:
        setup.undisturbed[kind.name] = _undisturbed(setup, kind, root / kind.name)
        if kind.name == "sweep":
            # A map is chosen, so that there is something to export.
            _undisturbed(setup, Kind("", ("select", "run", "--budget", "40", "--write"), 0), root / "sweep")
            (root / "sweep" / "run").rename(root / "base")
    for kind in setup.kinds:
        first, other = setup.undisturbed[kind.name], _undisturbed(setup, kind, root / f"{kind.name}-again")
        assert set(first.files) == set(other.files), (kind, set(first.files) ^ set(other.files))
        same = {path: text if other.files[path] == text else "any" for path, text in first.files.items()}
        fastest, fewest = min(first.duration_s, other.duration_s), min(first.steps, other.steps)
        setup.undisturbed[kind.name] = Undisturbed(same, fastest, fewest)
    return setup


def _undisturbed(setup: Setup, kind: Kind, folder: Path) -> Undisturbed:
    _make_place(setup, kind, folder)
    start = time.monotonic()
    command = Command(kind, folder)
    assert command.is_over(after_s=HANG_S), f"{kind} hangs"
    assert command.status == 0, command.said()
    return Undisturbed(_files_of(folder), time.monotonic() - start, command.steps)


def _make_place(setup: Setup, kind: Kind, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    if kind.base:
        shutil.copytree(setup.root / "base", folder / "run")


def run_case(setup: Setup, seed: int) -> tuple[str, Counter[str], list[str]]:
    """One command, killed once to three times and then run to its end: counts, and what went wrong."""
    chance = random.Random(seed)
    # The first cases take each kind once.
    kind = next(iter(setup.kinds[seed % SEED_STEP :]), None)
    kind = kind or chance.choices(setup.kinds, [kind.weight for kind in setup.kinds])[0]
    folder = Path(tempfile.mkdtemp(dir=setup.root, prefix=f"case-{seed}-"))
    _make_place(setup, kind, folder)
    case = _Case(setup, kind, folder, chance)
    shared = _shared_files()
    for _ in range(chance.choice((1, 1, 2, 3))):
        case.kill_once()
    case.finish()
    # Other programs of the machine come and go there; what one of them still holds is not ours.
    left = _lasting(lambda: list(_free_files(_shared_files() - shared)))
    case.count("files left", len(left), left)
    if not case.problems:
        shutil.rmtree(folder)
    return kind.name, case.counts, [f"case {seed} ({kind.name}): {text}" for text in case.problems]


class _Case:
    def __init__(self, setup: Setup, kind: Kind, folder: Path, chance: random.Random) -> None:
        self._expected = setup.undisturbed[kind.name]
        self._kind = kind
        self._folder = folder
        self._chance = chance
        self._sessions: list[int] = []
        self.counts: Counter[str] = Counter(cases=1)
        self.problems: list[str] = []

    def count(self, column: str, number: int, what: object) -> None:
        if number:
            self.counts[column] += number
            self.problems.append(f"{column}: {what}")

    def kill_once(self) -> None:
        if self._kind.is_fresh or self._chance.random() < 0.5:
            self._kill_at_a_moment()
        else:
            self._kill_at_a_step()

    def _kill_at_a_step(self) -> None:
        before, number = _journal_lines(self._folder), self._chance.choice(SIGNALS)
        blow = Blow(self._chance.randint(1, self._expected.steps), number)
        command = Command(self._kind, self._folder, blow)
        self._sessions.append(command.pid)
        label = f"{number.name} at step {blow.step}"
        self._judge(command, [number], label)
        self._compare_journal(before, label)

    def _kill_at_a_moment(self) -> None:
        chance, before = self._chance, _journal_lines(self._folder)
        command = Command(self._kind, self._folder, is_fresh=self._kind.is_fresh)
        self._sessions.append(command.pid)
        command.wait_until_it_listens()
        span_s = LOADING_S if self._kind.is_fresh else self._expected.duration_s
        moment_s = chance.uniform(0, 1.05) * span_s
        signals = [chance.choice(SIGNALS)]
        if chance.random() < 0.3:
            signals.append(chance.choice(SIGNALS))
        label = f"{'+'.join(number.name for number in signals)} after {moment_s:.3f} s"
        if command.is_over(after_s=moment_s):
            self.counts["too late"] += 1
            return
        for number in signals:
            command.send(number, to_all=chance.random() < 0.5)
            if command.is_over(after_s=chance.choice((0, 0.01, 0.1, 0.7))):
                break
        self._judge(command, signals, label)
        self._compare_journal(before, label)

    def _judge(self, command: Command, signals: list[signal.Signals], label: str) -> None:
        if not command.is_over(after_s=HANG_S):
            self.count("hangs", 1, label)
            command.send(signal.SIGKILL, to_all=True)
            command.is_over(after_s=HANG_S)
            return
        said = command.said()
        self.count("tracebacks", "Traceback" in said or "ignored" in said, f"{label}: {said}")
        codes = {-9 if number is signal.SIGKILL else 128 + number for number in signals}
        if command.status == 0:
            self.counts["too late"] += 1
            return
        self.counts["kills"] += 1
        self.count("wrong codes", command.status not in codes, f"{label}: {command.status} {said}")

    def _compare_journal(self, before: list[bytes], label: str) -> None:
        after = _journal_lines(self._folder)
        self.count("trials lost", sum(line not in after for line in before), label)

    def finish(self) -> None:
        """Run the command to its end and compare everything with the run that nobody disturbed."""
        command = Command(self._kind, self._folder)
        self._sessions.append(command.pid)
        if not command.is_over(after_s=HANG_S):
            self.count("hangs", 1, "the last run")
            command.send(signal.SIGKILL, to_all=True)
            return
        self.count("wrong codes", command.status != 0, f"the last run: {command.status} {command.said()}")
        numbers = [json.loads(line)["number"] for line in _journal_lines(self._folder)[1:]]
        self.count("trials repeated", len(numbers) - len(set(numbers)), numbers)
        left = _lasting(lambda: list(_processes_of(set(self._sessions))))
        self.count("processes left", len(left), left)
        found, expected = _files_of(self._folder), self._expected.files
        added = sorted(set(found) - set(expected))
        self.count("files left", len(added), added)
        other = sorted(path for path, text in expected.items() if text not in ("any", found.get(path)))
        other += sorted(path for path in expected if path not in found)
        self.count("other results", len(other), other)


def _lasting(find: Callable[[], list[str]]) -> list[str]:
    """Those found that are still there after a while."""
    deadline = time.monotonic() + GONE_S
    while found := find():
        if time.monotonic() > deadline:
            return found
        time.sleep(0.05)
    return []


def _processes_of(sessions: set[int]) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions and fields[0] not in "ZX":
                yield (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100]


def _shared_files() -> set[Path]:
    """Segments and semaphores; folders there are temporary ones of other programs."""
    return {path for path in SHARED_MEMORY.iterdir() if path.is_file()}


def _free_files(paths: set[Path]) -> Iterator[str]:
    """Those that no running process has mapped; by inode: a semaphore is mapped before it gets its name."""
    held = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            held |= {line.split(maxsplit=5)[4] for line in maps.read_text(errors="replace").splitlines()}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if str(path.stat().st_ino) not in held:
                yield str(path)


def _journal_lines(folder: Path) -> list[bytes]:
    """Complete lines, those that wait for an earlier trial too."""
    found = []
    for name in ("journal.jsonl", "waiting.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            found += (folder / "run" / name).read_bytes().split(b"\n")[:-1]
    return found


def _files_of(folder: Path) -> dict[str, str]:
    """Digests by path; folders are there too, so that an empty one that is left is seen."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name not in NOT_OURS:
            found[name] = "folder" if path.is_dir() else hashlib.sha256(_content(path)).hexdigest()
    return found


def _content(path: Path) -> bytes:
    """What the file holds, without the times in it."""
    content = path.read_bytes()
    if path.suffix == ".html":
        return MINUTE.sub(b"", content)
    if path.suffix not in (".json", ".jsonl"):
        return content
    lines = content.splitlines() if path.suffix == ".jsonl" else [content]
    try:
        values = [json.loads(line) for line in lines]
    except ValueError:
        return content  # not what an undisturbed run writes: told by its name
    return json.dumps([{**value, **TIMES} for value in values if isinstance(value, dict)]).encode()


def run_cases(cases: int, seed: int, jobs: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Counts by kind, and a line for everything that went wrong."""
    counts: dict[str, Counter[str]] = {}
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="killer-") as folder:
        setup = prepare(Path(folder))
        counts = {kind.name: Counter() for kind in setup.kinds}
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            seeds = range(seed * SEED_STEP, seed * SEED_STEP + cases)
            for name, found, texts in pool.imap_unordered(partial(run_case, setup), seeds):
                counts[name] += found
                problems += texts
                for text in texts:
                    print(text, flush=True)
    return counts, problems


def table_of(counts: dict[str, Counter[str]]) -> str:
    rows = [("", *COLUMNS), *((name, *(str(found[c]) for c in COLUMNS)) for name, found in counts.items())]
    total: Counter[str] = sum(counts.values(), Counter())
    rows.append(("all", *(str(total[column]) for column in COLUMNS)))
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS) + 1)]
    return "\n".join("  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    # Started with nohup or in the background, this process ignores some, and every command would.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    counts, problems = run_cases(asked.cases, asked.seed, asked.jobs)
    print(f"\nseed {asked.seed}\n{table_of(counts)}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
