"""A sweep that is really killed, again and again, ends with the study of one that was not."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from qsens.core.interfaces import Strategy
from qsens.core.spec import SweepSpec
from qsens.run.folder import RunFolder, read_study
from qsens.run.loop import try_maps_here
from qsens.run.paths import RunPaths
from qsens.testing import example_layers, example_trial

SCRIPT = """
import sys, time
from pathlib import Path
from qsens.core.interfaces import Strategy
from qsens.core.precision import Precision, PrecisionMap
from qsens.run.folder import RunFolder
from qsens.core.spec import SweepSpec
from qsens.run.loop import try_maps_here
from qsens.testing import example_layers, example_trial

LAYERS = example_layers(40)

class Alone(Strategy):
    name = "alone"
    def propose(self, layers, trials):
        tried = {trial.requested for trial in trials}
        maps = [PrecisionMap(Precision.FP16, ((layer.name, Precision.INT8),)) for layer in layers]
        return [entry for entry in maps if entry not in tried]

def evaluate(number, requested):
    time.sleep(float(sys.argv[2]))
    return example_trial(number, requested, LAYERS)

def main():
    with RunFolder.open(Path(sys.argv[1]), SweepSpec()) as folder:
        folder.write_layers(LAYERS)
        folder.record_provenance({"model": "m"})
        try_maps_here(LAYERS, strategy=Alone(), evaluate=evaluate, journal=folder.journal,
                  progress=lambda done, total, label: None)

if __name__ == "__main__":
    main()
"""


# A map's time in runs that must not be over before the signal comes, on a busy machine too.
UNHURRIED_S = "0.1"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "sweep_script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def start(script, run, pause="0.002"):
    return subprocess.Popen([sys.executable, str(script), str(run), pause], stderr=subprocess.DEVNULL)


def wait_for_trials(run, count):
    """Until the journal holds that many whole trials."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        path = RunPaths(run).journal_path
        if path.exists() and path.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.01)
    pytest.fail("the sweep did not get going")


def finish(script, run):
    subprocess.run([sys.executable, str(script), str(run), "0"], check=True, capture_output=True)
    return read_study(run)


def without_times(study):
    return [replace(trial, duration_s=0.0) for trial in study.trials]


@pytest.fixture(scope="module")
def uninterrupted(script, tmp_path_factory):
    return finish(script, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.slow
def test_killed_at_random_moments_it_resumes_to_the_same_study(script, uninterrupted, tmp_path):
    generator = random.Random(0)
    run = tmp_path / "run"
    seen = 0
    for _ in range(6):
        process = start(script, run)
        # Half of the kills hit start-up: making the folder, the lock, the spec, the header.
        time.sleep(generator.uniform(0.05, 0.35))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if RunPaths(run).journal_path.exists():
            done = RunPaths(run).journal_path.read_bytes().count(b"\n")
            assert done >= seen, "a finished trial was lost"
            seen = done
    assert without_times(finish(script, run)) == without_times(uninterrupted)


def test_killed_between_trials_it_loses_at_most_the_one_in_flight(script, uninterrupted, tmp_path):
    run = tmp_path / "run"
    process = start(script, run, UNHURRIED_S)
    wait_for_trials(run, 5)
    process.kill()
    process.wait()
    survived = read_study(run).trials
    assert 5 <= len(survived) < len(uninterrupted.trials)
    assert [trial.requested for trial in survived] == [
        trial.requested for trial in uninterrupted.trials[: len(survived)]
    ]
    assert without_times(finish(script, run)) == without_times(uninterrupted)


def test_ctrl_c_leaves_a_folder_that_resumes(script, uninterrupted, tmp_path):
    run = tmp_path / "run"
    process = start(script, run, UNHURRIED_S)
    wait_for_trials(run, 3)
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    assert without_times(finish(script, run)) == without_times(uninterrupted)


def test_a_run_whose_last_record_is_torn_resumes_to_the_same_file(tmp_path):
    layers = example_layers(2)
    spec = SweepSpec()

    class Nothing(Strategy):
        name = "nothing"

        def propose(self, layers, trials):
            return []

    def sweep():
        with RunFolder.open(tmp_path, spec) as folder:
            try_maps_here(
                layers,
                strategy=Nothing(),
                evaluate=lambda number, requested: example_trial(number, requested, layers),
                journal=folder.journal,
                progress=lambda done, total, label: None,
            )

    sweep()
    path = RunPaths(tmp_path).journal_path
    whole = path.read_bytes()
    start_of_last = whole.rindex(b"\n", 0, -1) + 1
    for end in (start_of_last, start_of_last + 1, len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        sweep()
        assert path.read_bytes() == whole
