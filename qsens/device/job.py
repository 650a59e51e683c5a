"""A job on a device that another machine reached over SSH: a bundle checked, or bundles measured in turn.

The job is JSON on stdin; each answer is a line of JSON on stdout, whatever runtimes print.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from qsens.device.errors import DeviceError
from qsens.device.latency import MapLatency
from qsens.device.plain_values import PlainValue

Say = Callable[[Mapping[str, Any]], None]
STOPPED = 130


def verify(job: PlainValue, say: Say) -> None:
    """Check the bundle in the folder `bundle`, whose files have the sha256 `sums`; time `repeats` runs."""
    # The runtimes load what is not wanted before the outputs are apart.
    from qsens.device.bundle_model import open_bundle
    from qsens.device.check import ComparedFiles, check_engine, report_problems, report_text

    folder, sums = Path(job.at("bundle").text()), job.at("sums").value

    def compare() -> None:
        for name, digest in sums.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise DeviceError(f"{name} was changed on the device", "run the same command again")

    files = ComparedFiles(job.at("files").whole(1, 2**31), job.at("digest").text(), compare)
    report = check_engine(open_bundle(folder), files, repeats=job.at("repeats").whole(0, 2**31))
    say(
        {
            "report": report.to_json(),
            "text": report_text(report),
            "problems": report_problems(report),
            "latency": report.latency_json(),
        }
    )


def bench(job: PlainValue, say: Say) -> None:
    """Measure `bundles` of one graph and batch in turn, the first with every group, on their golden inputs.

    Each has its `folder`, a `label`, and the `map` with its `digest` that it is known by. Each group is said
    when it is done, as the content of a latency file.
    """
    from qsens.device import bench as measuring
    from qsens.device.bundle_model import open_bundle
    from qsens.device.goldens import bundle_goldens, call_feed
    from qsens.device.latency import MeasuredGraph, latency_document
    from qsens.device.machine import describe_device, load_average

    entries = [entry.value for entry in job.at("bundles").items(at_least=1)]
    bundles = [open_bundle(Path(entry["folder"])) for entry in entries]
    first, load = bundles[0], load_average()
    model, inputs = first.document["model"], bundle_goldens(first).inputs
    graph = MeasuredGraph(model["name"], model["graph"], tuple(row.layer for row in first.asked))

    def hear(measured: Sequence[MapLatency], runtime: Mapping[str, str]) -> None:
        if measured:
            device = {**describe_device(first.runtime), "load_average": load}
            told = {**runtime, "backend": first.runtime, "inputs": "golden inputs"}
            say({"latency": latency_document(measured, device=device, runtime=told, graph=graph)})

    # Beside the folder of this session, whose own temporary files go with it.
    lock = Path.cwd().parent / measuring.LOCK.name
    settings = measuring.BenchSettings(
        (first.batch,), job.at("repeats").whole(1, 2**31), profiles_layers=job.at("layers").flag()
    )
    with measuring.alone(lambda text: say({"waits": text}), lock):
        result = measuring.bench(
            [
                measuring.Subject(
                    entry["label"], entry["map"], entry["digest"], partial(measuring.bundle_engine, bundle)
                )
                for entry, bundle in zip(entries, bundles)
            ],
            lambda batch: call_feed(first, inputs, batch),
            settings,
            on_gpu=first.runtime.startswith("tensorrt"),
            progress=lambda done, total, label: say({"progress": [done, total, label]}),
            hear=hear,
        )
    say({"skipped": dict(result.skipped)})


JOBS = {"verify": verify, "bench": bench}


def main() -> int:
    """Do the job of stdin."""
    # Whoever started this may have had it ignored, and it is how a job is stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    job = PlainValue(json.load(sys.stdin))
    try:
        JOBS[job.at("job").one_of(list(JOBS))](job, say)
    except DeviceError as error:
        say({"failed": error.message, "hint": error.hint})
        return error.exit_code
    except ModuleNotFoundError as error:
        say({"failed": f"{error.name} is not installed there", "hint": f"pip install {error.name}, there"})
        return 1
    except KeyboardInterrupt:
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
