"""A seeded fuzzer: damaged graphs, checkpoints, sets, run folders and bundles, each given to a command.

    python tests/robustness/fuzzer.py --cases 3000 --seed 0

prints, for each kind of input, how many were tried and how the commands ended: every one with an exit code of
its own and a message, none with a traceback, a crash, a hang, too much memory or foreign code that ran. Exit
code 1 where one did; its number and seed make it again.
"""

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "end_to_end")]

import mutations as mutate  # noqa: E402  # the folders of the tests have to be on the path first
from mutations import Mutation  # noqa: E402

HANG_S = 120
MOST_MEMORY_BYTES = 3 * 2**30
FINE_EXITS = (0, 1, 2, 3, 4)
WRONG = ("traceback", "crash", "hang", "memory", "code ran", "exit code", "no message")
PRELOADED = (
    "qsens.cli.main",
    "tiny_torch",
    "onnxscript",
    "onnxruntime",
    "pandas",
    "matplotlib.pyplot",
    "PIL.Image",
)
QUICK = ("--metric", "psnr", "--calibration-samples", "2", "--evaluation-samples", "2", "--threads", "1")


@dataclass(frozen=True)
class Subject:
    """One kind of input: the file or folder that is damaged, how, and the commands that read it.

    `damaged` are the names of files below the project folder; `folder` is where things are planted. Sums of
    a folder that `has_checksums` are made again after most damage, or nothing behind them would be tried.
    """

    name: str
    commands: Sequence[Sequence[str]]
    damaged: Callable[[Path], list[Path]]
    by_structure: Callable[[Path], Mutation] | None = None
    folder: str | None = None
    has_checksums: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one case ended; `problem` is one of `WRONG` or empty."""

    subject: str
    number: int
    exit_code: int
    problem: str
    said: str
    seconds: float


def _files_below(name: str) -> Callable[[Path], list[Path]]:
    return lambda project: sorted(path for path in (project / name).rglob("*") if path.is_file())


def _file(name: str) -> Callable[[Path], list[Path]]:
    return lambda project: [project / name]


def _by_suffix(path: Path) -> Mutation:
    kinds = {
        ".json": mutate.damage_json,
        ".jsonl": mutate.damage_json_lines,
        ".toml": mutate.damage_text,
        ".csv": mutate.damage_text,
        ".npz": mutate.damage_npz,
        ".onnx": mutate.damage_graph,
        ".py": mutate.damage_text,
        ".md": mutate.damage_text,
    }
    return kinds.get(path.suffix, mutate.damage_text if path.name == "SHA256SUMS" else mutate.damage_bytes)


_TORCH = ("--model", "tiny_torch:small", "--input-shape", "image=1x3x8x8")


def _swept(samples: str) -> list[str]:
    return ["sweep", "generator.onnx", "--calibration", samples, "--out", "new", "--strategy", "ends", *QUICK]


_ARCHIVE = lambda _: mutate.damage_archive  # noqa: E731  # one line of a table
_RESUME = ("sweep", "generator.onnx", "--calibration", "photos", "--out", "run", *QUICK)
SUBJECTS = (
    Subject("graph", [["layers", "generator.onnx"]], _file("generator.onnx"), lambda _: mutate.damage_graph),
    Subject(
        "graph, swept",
        [_swept("photos")],
        _file("generator.onnx"),
        lambda _: mutate.damage_graph,
    ),
    Subject("torch.save", [["layers", "weights.pth", *_TORCH]], _file("weights.pth"), _ARCHIVE),
    Subject("torch.save, old", [["layers", "old.pth", *_TORCH]], _file("old.pth")),
    Subject("TorchScript", [["layers", "scripted.pt", *_TORCH]], _file("scripted.pt"), _ARCHIVE),
    Subject("safetensors", [["layers", "weights.safetensors", *_TORCH]], _file("weights.safetensors")),
    Subject("exported program", [["layers", "program.pt2"]], _file("program.pt2"), _ARCHIVE),
    Subject(
        "pictures",
        [
            ["calibration", "check", "photos"],
            _swept("photos"),
        ],
        _files_below("photos"),
        _by_suffix,
        "photos",
    ),
    Subject(
        "arrays",
        [_swept("arrays")],
        _files_below("arrays"),
        _by_suffix,
        "arrays",
    ),
    Subject(
        "run folder",
        [
            ["select", "run", "--budget", "30", "--write"],
            ["report", "run"],
            [*_RESUME],
            ["compare", "run", "other", "--out", "compared"],
            ["export", "run", "--for", "onnxruntime", "--trial", "2", "--float-fallback"],
            ["select", "run", "--budget", "30", "--latency", "latency.json"],
        ],
        _files_below("run"),
        _by_suffix,
        "run",
    ),
    Subject("spec", [["plan", "--spec", "run/spec.toml"]], _file("run/spec.toml"), _by_suffix),
    Subject(
        "latency",
        [["select", "run", "--latency", "latency.json"], ["devices", "latency.json"]],
        _file("latency.json"),
        _by_suffix,
    ),
    Subject(
        "bundle",
        [["verify", "bundle", "--no-latency"]],
        _files_below("bundle"),
        _by_suffix,
        "bundle",
        has_checksums=True,
    ),
    Subject(
        "bundle, by its script",
        [["python", "bundle/verify.py", "--no-latency"]],
        # A damaged script cannot tell so, and its own limit for a loop without end is ten minutes.
        lambda project: [path for path in _files_below("bundle")(project) if path.name != "verify.py"],
        lambda path: mutate.damage_bytes if path.suffix == ".onnx" else _by_suffix(path),
        "bundle",
        has_checksums=True,
    ),
)  # fmt: skip


def make_project(project: Path) -> None:
    """Good inputs of every kind: graph, pictures, arrays, checkpoints, two runs, a bundle, a latency file."""
    import numpy as np
    import tiny_torch
    import torch
    from safetensors.torch import save_file
    from tiny_runs import qsens, write_arrays, write_generator, write_images

    project.mkdir()
    os.chdir(project)
    write_generator(project / "generator.onnx")
    write_images(project / "photos")
    assert qsens("calibration", "add", "photos", "--licence", "CC0-1.0", "--origin", "drawn").exit_code == 0
    rng = np.random.default_rng(0)
    write_arrays(project / "arrays", [{"image": rng.random((3, 16, 16), np.float32)} for _ in range(6)])
    weights, module = tiny_torch.small().state_dict(), tiny_torch.small().eval()
    torch.save(weights, "weights.pth")
    torch.save(weights, "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, "weights.safetensors")
    torch.jit.trace(module, torch.zeros(1, 3, 8, 8)).save("scripted.pt")
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, "program.pt2")
    for out in ("run", "other"):
        swept = qsens(*_RESUME[:4], "--out", out, *QUICK, "--by", "layer")
        assert swept.exit_code == 0, swept.output
    for command in (
        ("export", "run", "--for", "onnxruntime", "--trial", "2", "--float-fallback", "--out", "bundle"),
        ("verify", "bundle", "--repeats", "2", "--latency-json", "latency.json"),
    ):
        done = qsens(*command)
        assert done.exit_code == 0, done.output


def run_case(project: Path, scratch: Path, number: int, seed: int, subjects: Sequence[Subject]) -> Outcome:
    """Damage a copy of the project as `seed` and `number` say, and run one command on it."""
    rng = random.Random(f"{seed}/{number}")
    subject = subjects[number % len(subjects)]
    case = Path(tempfile.mkdtemp(prefix=f"case-{number}-", dir=scratch))
    copy = case / "project"
    shutil.copytree(project, copy)
    _damage(subject, copy, rng)
    command = rng.choice(list(subject.commands))
    started = time.monotonic()
    status, peak_bytes = _run(command, copy, case / "said")
    said = (case / "said").read_text("utf-8", "replace")
    problem = _problem(
        status, peak_bytes, said, ran=(copy / mutate.RAN).exists() or (case / mutate.RAN).exists()
    )
    if not problem:
        shutil.rmtree(case)
    code = os.waitstatus_to_exitcode(status)
    return Outcome(
        subject.name, number, code, problem, said[-3000:] if problem else "", time.monotonic() - started
    )


def _damage(subject: Subject, project: Path, rng: random.Random) -> None:
    if subject.folder is not None and rng.random() < 0.3:
        change = rng.choice((mutate.plant, mutate.plant, mutate.link_inner_folder, mutate.rename_file))
        change(project / subject.folder, rng)
        return
    path = rng.choice(subject.damaged(project))
    choice = rng.random()
    if choice < 0.1:
        mutate.replace_file(path, rng)
    elif subject.by_structure is not None and choice < 0.6 and path.stat().st_size:
        subject.by_structure(path)(path, rng)
    else:
        mutate.damage_bytes(path, rng)
    # A bundle's script runs the bundle's code: whoever writes that needs no damage.
    if subject.has_checksums and subject.folder is not None and path.suffix != ".py" and rng.random() < 0.8:
        mutate.sum_again(project / subject.folder)


def _run(command: Sequence[str], folder: Path, said: Path) -> tuple[int, int]:
    """Run a command line in a fork of this process; returns its wait status and its peak memory in bytes."""
    child = os.fork()
    if child == 0:
        _become(command, folder, said)
    deadline = time.monotonic() + HANG_S
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status, used.ru_maxrss * 1024
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            return status, used.ru_maxrss * 1024
        time.sleep(0.01)


def _become(command: Sequence[str], folder: Path, said: Path) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    output = os.open(said, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # A test runner may have put streams of its own in their place.
    sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    if command[0] == "python":
        os.execv(sys.executable, [sys.executable, *command[1:]])
    code = 99
    try:
        from qsens.cli.main import main
        from qsens.device import check
        from qsens.graph import limits

        # Minutes for one sample are what a user may wait for, a hundred loops without end are not.
        limits.LONGEST_SAMPLE_S = check.LONGEST_RUN_S = 5.0
        main([*command])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # whatever it is, the table counts it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _problem(status: int, peak_bytes: int, said: str, *, ran: bool) -> str:
    code = os.waitstatus_to_exitcode(status)
    found = {
        "code ran": ran,
        "hang": code == -signal.SIGKILL,
        "crash": code < 0,
        "traceback": "Traceback (most recent call last)" in said,
        "exit code": code not in FINE_EXITS,
        "memory": peak_bytes > MOST_MEMORY_BYTES,
        "no message": code in (1, 2) and "Error: " not in said,
    }
    return next((name for name, is_so in found.items() if is_so), "")


def fuzz(
    folder: Path, numbers: Sequence[int], seed: int, *, jobs: int = 1, subjects: Sequence[Subject] = SUBJECTS
) -> list[Outcome]:
    """Run the cases of these numbers, `jobs` at a time; those with a problem leave their files."""
    project = folder / "project"
    # In a process of its own: a process with threads is not to be forked.
    _in_fork(lambda: make_project(project))
    # Loaded once, before the forks; loading starts no threads.
    for module in PRELOADED:
        importlib.import_module(module)

    results = [folder / f"outcomes-{job}.jsonl" for job in range(jobs)]

    def work(job: int) -> None:
        with results[job].open("w") as file:
            for number in numbers[job::jobs]:
                file.write(json.dumps(asdict(run_case(project, folder, number, seed, subjects))) + "\n")
                file.flush()

    children = [_fork(lambda job=job: work(job)) for job in range(jobs)]
    failed = [os.waitpid(child, 0)[1] for child in children]
    assert not any(failed), "the fuzzer itself failed"
    lines = [line for path in results for line in path.read_text().splitlines()]
    return sorted((Outcome(**json.loads(line)) for line in lines), key=lambda outcome: outcome.number)


def _in_fork(task: Callable[[], None]) -> None:
    status = os.waitpid(_fork(task), 0)[1]
    assert status == 0, "the inputs could not be made"


def _fork(task: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        task()
        code = 0
    except BaseException:  # the parent asserts
        traceback.print_exc()
    finally:
        os._exit(code)


def table(outcomes: Sequence[Outcome]) -> str:
    """Inputs tried by kind, how they ended, and the problems."""
    lines = [f"{'kind':24}{'tried':>7}{'fine':>7}{'refused':>9}  " + "".join(f"{name:>12}" for name in WRONG)]
    names = [*dict.fromkeys(outcome.subject for outcome in outcomes), "all"]
    for name in names:
        own = [outcome for outcome in outcomes if name in (outcome.subject, "all")]
        wrong = Counter(outcome.problem for outcome in own)
        refused = sum(1 for outcome in own if not outcome.problem and outcome.exit_code)
        fine = sum(1 for outcome in own if not outcome.problem and not outcome.exit_code)
        lines.append(
            f"{name:24}{len(own):7}{fine:7}{refused:9}  " + "".join(f"{wrong[kind]:12}" for kind in WRONG)
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=300, help="how many (default 300)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default 2)")
    parser.add_argument("--only", help="cases of this kind only")
    parser.add_argument("--keep", type=Path, help="work in this folder, and keep cases with a problem there")
    options = parser.parse_args()
    subjects = [subject for subject in SUBJECTS if options.only in (None, subject.name)]
    numbers = range(options.first, options.first + options.cases)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes = fuzz(folder.resolve(), numbers, options.seed, jobs=options.jobs, subjects=subjects)
    for outcome in outcomes:
        if outcome.problem:
            print(
                f"--- case {outcome.number}, {outcome.subject}: {outcome.problem}, exit {outcome.exit_code}"
            )
            print(outcome.said)
    print(table(outcomes))
    slow = sorted(outcomes, key=lambda outcome: -outcome.seconds)[:3]
    print("slowest: " + ", ".join(f"case {one.number} ({one.subject}) {one.seconds:.1f} s" for one in slow))
    sys.exit(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    main()
