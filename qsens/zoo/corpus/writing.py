"""Writes a corpus: many clips in parallel, each complete or absent, and what made them."""

import shutil
import tomllib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from PIL import Image

from qsens import __version__
from qsens.calibration.manifest import SetFacts, write_manifest
from qsens.core.errors import DataError, RunFolderError, SpecError
from qsens.core.files import write_atomically, write_error
from qsens.device.errors import reason_of
from qsens.run.in_order import WorkersGoneError
from qsens.run.worker_pools import open_local_pool
from qsens.zoo.audio.wave import write_wave
from qsens.zoo.corpus.clip import ClipPlan, make_clip

CORPUS_NAME = "corpus.toml"
PICTURE_MODEL = 1
"""Raised when the same seed draws or sounds otherwise than before."""

SMALLEST_SIZE, LARGEST_SIZE = 32, 1024
LICENCE = "CC0-1.0"
ORIGIN = "drawn and synthesised by qsens zoo corpus; no photographs, no recordings"
_MAKING = ".making"
_JPEG_QUALITY = 95
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CorpusPlan:
    """The plan of a corpus. Its size is no part of it: more clips can be added later.

    Raises:
        SpecError: for a value out of range.
    """

    seed: int
    size: int = 96
    frames_per_clip: int = 50
    clips_per_speaker: int = 1

    def __post_init__(self) -> None:
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE:
            raise SpecError(f"size is {self.size}", f"give {SMALLEST_SIZE} to {LARGEST_SIZE} pixels")
        if self.seed < 0:
            raise SpecError(f"seed is {self.seed}", "give 0 or more")
        for name in ("frames_per_clip", "clips_per_speaker"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} is {getattr(self, name)}", "give 1 or more")

    def clip(self, number: int) -> ClipPlan:
        """The plan of the clip with that number, counted from 0."""
        speaker, clip = divmod(number, self.clips_per_speaker)
        return ClipPlan(self.seed, speaker, clip, self.frames_per_clip, self.size)


@dataclass(frozen=True)
class Written:
    """The work of a run: clips made now and found complete, frames in all."""

    made: int
    kept: int
    frames: int


def write_corpus(folder: Path, plan: CorpusPlan, frames: int, jobs: int, progress: Progress) -> Written:
    """Make the clips of a corpus that are missing, until it holds at least that many frames.

    A clip appears when it is complete. Its content depends on the plan and its number alone.

    Raises:
        SpecError: for no frames or no jobs.
        DataError: if the folder holds something else, or a corpus made otherwise.
        RunFolderError: if another run writes there, or the folder cannot be written.
    """
    for name, value in (("frames", frames), ("jobs", jobs)):
        if value < 1:
            raise SpecError(f"{name} is {value}", "give 1 or more")
    count = -(-frames // plan.frames_per_clip)
    with _locked(folder):
        _check_folder(folder, plan)
        missing = [number for number in range(count) if not clip_folder(folder, plan.clip(number)).is_dir()]
        _make_all(folder, [plan.clip(number) for number in missing], jobs, progress)
        progress(count, count, "corpus: checksums")
        facts = SetFacts(LICENCE, ORIGIN, f"talking faces, seed {plan.seed}", opener="clips")
        write_manifest(folder, facts)
    return Written(len(missing), count - len(missing), count * plan.frames_per_clip)


def clip_folder(folder: Path, plan: ClipPlan) -> Path:
    """The folder of a clip: `FOLDER/s00012/00000`."""
    return folder / f"s{plan.speaker:05d}" / f"{plan.clip:05d}"


def write_clip(folder: Path, plan: ClipPlan) -> None:
    """Make one clip of a corpus; it appears complete, or not at all.

    Raises:
        RunFolderError: if it cannot be written.
    """
    target = clip_folder(folder, plan)
    partial = folder / _MAKING / f"{target.parent.name}-{target.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_files(partial, plan)
        target.parent.mkdir(exist_ok=True)
        partial.replace(target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_files(folder: Path, plan: ClipPlan) -> None:
    clip = make_clip(plan)
    write_wave(folder / "audio.wav", clip.samples)
    rows = [f"{number},{m.open:.4f},{m.width:.4f},{m.round:.4f}" for number, m in enumerate(clip.mouths)]
    (folder / "mouth.csv").write_text("\n".join(["frame,open,width,round", *rows, ""]), encoding="utf-8")
    for number, picture in enumerate(clip.frames()):
        Image.fromarray(picture).save(folder / f"{number}.jpg", quality=_JPEG_QUALITY, subsampling=0)


def _make_all(folder: Path, plans: list[ClipPlan], jobs: int, progress: Progress) -> None:
    try:
        if jobs == 1 or len(plans) < 2:
            for done, plan in enumerate(plans):
                progress(done, len(plans), "corpus: clips")
                write_clip(folder, plan)
        else:
            _make_in_parallel(folder, plans, jobs, progress)
    finally:
        shutil.rmtree(folder / _MAKING, ignore_errors=True)


def _make_in_parallel(folder: Path, plans: list[ClipPlan], jobs: int, progress: Progress) -> None:
    waiting, running, done = deque(plans), set[Future[object]](), 0
    with open_local_pool(min(jobs, len(plans))) as pool:
        while waiting or running:
            while waiting and len(running) < pool.size:
                running.add(pool.submit(write_clip, folder, waiting.popleft()))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                _check_written(future)
            done += len(ended)
            progress(done, len(plans), "corpus: clips")


def _check_written(future: "Future[object]") -> None:
    try:
        future.result()
    except BrokenExecutor as error:
        raise WorkersGoneError(
            "a process that wrote clips died", "out of memory? use fewer --jobs; what is written is kept"
        ) from error


def _check_folder(folder: Path, plan: CorpusPlan) -> None:
    """Take up the corpus in a folder, or begin one in an empty folder."""
    path = folder / CORPUS_NAME
    asked = {**asdict(plan), "picture_model": PICTURE_MODEL}
    if not path.exists():
        others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if others:
            raise DataError(
                f"{folder} holds {others[0]!r}, but no {CORPUS_NAME}", "give a new folder with --out"
            )
        _write_facts(path, asked)
        return
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path}: {reason_of(error)}", "give another folder with --out"
        ) from error
    for name, value in asked.items():
        if found.get(name) != value:
            raise DataError(
                f"{folder} was made with {name} {found.get(name)}, not {value}",
                "give the same options, or another folder with --out",
            )


def _write_facts(path: Path, values: dict[str, int]) -> None:
    # tomli_w is only needed where a corpus begins.
    import tomli_w

    header = "# Made by `qsens zoo corpus`; run it again with these values to add clips.\n"
    facts = {"qsens": __version__, "licence": LICENCE, "origin": ORIGIN, **values}
    write_atomically(path, (header + tomli_w.dumps(facts)).encode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunFolderError(
            f"another run writes to {folder}", "wait for it, or give another --out"
        ) from error
    except OSError as error:
        raise write_error(folder, error) from error
    with lock:
        yield
