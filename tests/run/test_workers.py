"""What a worker checks before it opens a run: files, libraries, the run folder; what travels to it."""

import pickle
from dataclasses import replace

import onnx
import pytest
from lowered_models import residual_generator
from tiny_sweeps import SMALL_SWEEP

from qsens.api import score_maps
from qsens.core.errors import BuildError, RunFolderError
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.spec import spec_from_values
from qsens.core.trial import Outcome
from qsens.run.folder import read_provenance, read_run_spec, read_study
from qsens.run.open import open_sweep
from qsens.run.versions import library_versions
from qsens.run.workers import (
    Job,
    WorkerMachine,
    evaluate_on_worker,
    inspect_worker,
    runner_on,
    with_fixed_threads,
)


@pytest.fixture
def job(project):
    run = project / "run"
    return Job(
        spec=read_run_spec(run),
        out=str(run),
        contents=tuple(sorted(read_provenance(run).contents.items())),
        versions=tuple(sorted(library_versions().items())),
        trust_checkpoint=False,
    )


def test_a_worker_scores_a_map_as_the_sweep_did(project, job):
    trials = read_study(project / "run").trials
    for number in (2, 0, 4):
        fp32 = None if number == 0 else trials[0]
        again = evaluate_on_worker(job, number, trials[number].requested, fp32)
        # yardsticks are no part of the journal: they are scored beside it
        assert replace(again, duration_s=0.0) == replace(trials[number], duration_s=0.0, yardsticks=())


def test_what_travels_to_a_worker_survives_the_journey(job, project):
    trial = read_study(project / "run").trials[1]
    for entry in (job, trial, trial.requested, WorkerMachine("host", "cpu", ())):
        assert pickle.loads(pickle.dumps(entry)) == entry
    error = pickle.loads(pickle.dumps(BuildError("no kernel", "use FP16")))
    assert (error.message, error.hint) == ("no kernel", "use FP16")
    assert hash(pickle.loads(pickle.dumps(job))) == hash(job)


def other(pairs, **changes):
    return tuple(sorted({**dict(pairs), **changes}.items()))


def test_a_worker_with_the_same_files_has_no_problems(job):
    machine = inspect_worker(job)
    assert machine.problems == ()
    assert machine.host
    assert machine.cpu


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: replace(job, versions=other(job.versions, numpy="0.1")), "numpy .* instead of 0.1"),
        (lambda job: replace(job, versions=other(job.versions, cudnn="9")), "cudnn absent instead of 9"),
        (lambda job: replace(job, out="/nowhere"), "no run folder /nowhere"),
        (lambda job: replace(job, contents=other(job.contents, graph="0")), "another run in "),
    ],
)
def test_a_worker_that_differs_refuses_and_says_in_what(change, message, job, project):
    changed = change(job)
    assert len(inspect_worker(changed).problems) == 1
    with pytest.raises(RunFolderError, match=message) as caught:
        evaluate_on_worker(changed, 2, PrecisionMap(Precision.INT8), read_study(project / "run").trials[0])
    assert "shared folder" in caught.value.hint


def test_a_worker_whose_generator_is_another_refuses(job, project, tmp_path):
    model = residual_generator()
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, tmp_path / "generator.onnx")
    changed = replace(job, spec=replace(job.spec, checkpoint=str(tmp_path / "generator.onnx")))
    with pytest.raises(RunFolderError, match="another generator; another graph"):
        evaluate_on_worker(changed, 2, PrecisionMap(Precision.INT8), read_study(project / "run").trials[0])


def test_a_map_that_cannot_be_built_is_a_failed_trial(job, project, monkeypatch):
    def refuse(self, lowered):
        raise BuildError("no kernel", "use FP16")

    monkeypatch.setattr("qsens.engines.onnxruntime.OnnxRuntimeBackend.build", refuse)
    fp32 = read_study(project / "run").trials[0]
    trial = evaluate_on_worker(job, 2, PrecisionMap(Precision.INT8), fp32)
    assert (trial.outcome, trial.error) == (Outcome.FAILED, "no kernel (use FP16)")
    with pytest.raises(BuildError):
        evaluate_on_worker(job, 0, PrecisionMap(Precision.FP32), None)


def test_engines_on_workers_have_as_many_threads_whatever_the_pool(job):
    assert with_fixed_threads(replace(job.spec, threads=0)).threads == 1
    assert with_fixed_threads(replace(job.spec, threads=3)).threads == 3
    assert replace(job.spec, threads=0).digest == job.spec.digest


class Machines:
    """A pool that only says what its machines are."""

    attempts = 1
    size = 1

    def __init__(self, machines):
        self.machines = machines

    def on_each(self, task, /, *arguments):
        return self.machines

    def submit(self, task, /, *arguments):
        pytest.fail("a task was given to a worker")

    def check(self):
        pass


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (WorkerMachine("b", "cpu", ("numpy 1 instead of 2",)), "tcp://b has numpy 1 instead of 2"),
        (ModuleNotFoundError("No module named 'qsens'"), "tcp://b has an error: No module named 'qsens'"),
    ],
)
def test_the_driver_refuses_a_cluster_with_such_a_worker(machine, message, project, tmp_path):
    values = {**SMALL_SWEEP, "calibration": str(project / "photos")}
    spec = spec_from_values({"checkpoint": str(project / "generator.onnx"), **values}, "test")
    pool = Machines({"tcp://a": WorkerMachine("a", "cpu", ()), "tcp://b": machine})
    with pytest.raises(RunFolderError, match=message):
        score_maps(open_sweep(spec), tmp_path / "run", progress=lambda *_: None, runner=runner_on(pool))


def test_different_processors_are_warned_of(project):
    spec = read_run_spec(project / "run")
    pool = Machines({name: WorkerMachine(name, f"processor {name}", ()) for name in "ab"})
    heard = []
    runner = runner_on(pool, hear=heard.append)
    score_maps(open_sweep(spec), project / "run", progress=lambda *_: None, runner=runner)
    assert "processor a, processor b" in heard[0]
