"""A job on a device that another machine reached over SSH: a bundle checked, or bundles measured in turn.

The job is JSON on stdin; each answer is a line of JSON on stdout, whatever runtimes print.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Mapping

from qsens.device.errors import DeviceError
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


JOBS = {"verify": verify}


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
