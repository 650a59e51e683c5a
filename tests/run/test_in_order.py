"""Maps evaluated several at once: order of the journal, what waits on disk, deaths of workers."""

from concurrent.futures import BrokenExecutor, Future

import pytest

from qsens.core.errors import RunFolderError, ScoreError
from qsens.core.interfaces import Strategy
from qsens.core.maps import anchor_maps
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome
from qsens.run.in_order import MapsInOrder, WorkersGoneError
from qsens.run.journal import Journal, WaitingTrials, read_journal, read_waiting, waiting_path
from qsens.run.loop import StoppedError, expecting, plan_without_scores, try_maps, try_maps_here
from qsens.testing import example_layers, example_trial

FP32, FP16, INT8 = Precision
LAYERS = example_layers(6)
ALONE = [PrecisionMap(FP16, ((layer.name, INT8),)) for layer in LAYERS]


class AtOnce(Strategy):
    """Each layer INT8 alone, all proposed together."""

    name = "at-once"

    def propose(self, layers, trials):
        tried = {trial.requested for trial in trials}
        return [entry for entry in ALONE if entry not in tried]


class Shuffled:
    """Ends the trials in flight last one first, and lets a worker die where `deaths` says."""

    attempts = 3

    def __init__(self, capacity, deaths=(), stop_after=None):
        self.capacity = capacity
        self.deaths = list(deaths)
        self.stop_after = stop_after
        self.started = []
        self.largest = 0
        self._open = {}

    def expect(self, requests):
        """It starts whatever it is given."""

    def start(self, number, requested, fp32):
        assert (fp32 is None) == (requested == PrecisionMap(FP32)), "FP32 comes before everything else"
        self.started.append(number)
        future = Future()
        self._open[number] = (future, requested)
        self.largest = max(self.largest, len(self._open))
        if len(self._open) == self.capacity or number in (0, 2, 8):
            self.end_one()
        return future

    def check(self):
        if self.stop_after is not None and len(self.started) >= self.stop_after:
            raise KeyboardInterrupt
        if self._open:
            self.end_one()

    def end_one(self):
        number = max(self._open)
        future, requested = self._open.pop(number)
        if number in self.deaths:
            self.deaths.remove(number)
            future.set_exception(BrokenExecutor("killed"))
        else:
            future.set_result(example_trial(number, requested, LAYERS))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("qsens.run.in_order.CHECK_EVERY_S", 0.001)


@pytest.fixture
def sweep(tmp_path):
    heard = []

    def hear(done, total, label):
        heard.append((done, total, label))

    def sweep(runner, name="journal.jsonl"):
        with Journal(tmp_path / name, "spec") as journal:
            return try_maps(
                LAYERS,
                strategy=AtOnce(),
                runner=runner,
                journal=journal,
                progress=expecting(plan_without_scores(LAYERS, AtOnce()), hear),
            )

    sweep.heard = heard
    return sweep


@pytest.fixture
def serial(tmp_path):
    """The bytes of a journal that one map after the other made."""
    path = tmp_path / "serial.jsonl"
    with Journal(path, "spec") as journal:
        try_maps_here(
            LAYERS,
            strategy=AtOnce(),
            evaluate=lambda number, requested: example_trial(number, requested, LAYERS),
            journal=journal,
            progress=lambda *_: None,
        )
    return path.read_bytes()


@pytest.mark.parametrize("capacity", [1, 2, 3, 20])
def test_the_journal_does_not_show_how_many_maps_ran_at_once(sweep, serial, tmp_path, capacity):
    runner = Shuffled(capacity)
    sweep(runner)
    assert (tmp_path / "journal.jsonl").read_bytes() == serial
    assert runner.largest == min(capacity, len(ALONE))
    assert not waiting_path(tmp_path / "journal.jsonl").exists()


@pytest.mark.parametrize("started", range(2, 10))
def test_stopped_anywhere_it_keeps_what_ended_and_resumes_to_the_same_bytes(sweep, serial, tmp_path, started):
    path = tmp_path / "journal.jsonl"
    first = Shuffled(3, stop_after=started)
    with pytest.raises(StoppedError) as caught:
        sweep(first)
    saved = {trial.number for trial in (*read_journal(path).trials, *read_waiting(path))}
    assert f"after {len(saved)} map" in caught.value.message
    assert len(saved) >= started - 3, "more than the trials in flight are lost"
    second = Shuffled(3)
    sweep(second)
    assert not set(second.started) & saved, "a trial that had ended was started again"
    assert path.read_bytes() == serial


def test_a_trial_that_ends_early_waits_on_disk(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path, "spec") as journal:
        waiting = WaitingTrials(journal)
        waiting.keep(example_trial(1, ALONE[1], LAYERS))
        again = WaitingTrials(journal)
        assert again.find(1, ALONE[1]) == example_trial(1, ALONE[1], LAYERS)
        assert again.find(1, ALONE[2]) is None
        assert again.find(0, ALONE[1]) is None
        again.release(1)
    assert not waiting_path(path).exists()


def test_a_waiting_trial_that_was_changed_is_refused_by_its_line(tmp_path):
    with Journal(tmp_path / "journal.jsonl", "spec") as journal:
        WaitingTrials(journal).keep(example_trial(1, ALONE[1], LAYERS))
        path = waiting_path(journal.path)
        changed = path.read_text().replace('"number":1', '"number":2')
        assert changed != path.read_text()
        path.write_text(changed)
        with pytest.raises(RunFolderError, match=r"line 2 of .*waiting.jsonl is corrupt: it is not what the"):
            WaitingTrials(journal)


def test_where_some_trial_always_waits_its_file_stays_short_and_is_not_read_for_each(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr("qsens.run.journal.read_file", lambda path: reads.append(path) or path.read_bytes())
    with Journal(tmp_path / "journal.jsonl", "spec") as journal:
        waiting = WaitingTrials(journal)
        for number in range(1, 402):
            waiting.keep(example_trial(number, ALONE[1], LAYERS))
            waiting.release(number - 1)
        waiting.close()
    assert [trial.number for trial in read_waiting(journal.path)][-1] == 401
    assert len(waiting_path(journal.path).read_bytes().splitlines()) < 110
    assert len(reads) < 10


def test_a_trial_that_is_in_both_files_waits_no_more(tmp_path):
    with Journal(tmp_path / "journal.jsonl", "spec") as journal:
        WaitingTrials(journal).keep(example_trial(0, ALONE[0], LAYERS))
        journal.append(example_trial(0, ALONE[0], LAYERS))
        assert len(WaitingTrials(journal)) == 0
    assert not waiting_path(journal.path).exists()


def test_a_map_whose_worker_dies_is_tried_again_elsewhere(sweep, serial, tmp_path):
    runner = Shuffled(2, deaths=[0, 4, 4, 7])
    sweep(runner)
    assert (tmp_path / "journal.jsonl").read_bytes() == serial
    assert sorted(runner.started) == sorted([*range(9), 0, 4, 4, 7])


def test_a_map_that_kills_every_worker_becomes_a_failed_trial(sweep):
    study = sweep(Shuffled(2, deaths=[4, 4, 4]))
    failed = [trial for trial in study.trials if trial.outcome is Outcome.FAILED]
    assert [trial.number for trial in failed] == [4]
    assert "every worker that ran this map died" in failed[0].error
    assert len(study.scored()) == 8


def test_an_fp32_that_kills_every_worker_ends_the_sweep(sweep, tmp_path):
    with pytest.raises(WorkersGoneError, match="every worker that ran this map died"):
        sweep(Shuffled(2, deaths=[0, 0, 0]))
    assert read_journal(tmp_path / "journal.jsonl").trials == ()


def test_an_error_of_a_worker_ends_the_sweep(sweep, tmp_path):
    class Refusing(Shuffled):
        def start(self, number, requested, fp32):
            future = super().start(number, requested, fp32)
            if number < 4:
                return future
            broken = Future()
            broken.set_exception(ScoreError("another graph"))
            return broken

    with pytest.raises(ScoreError, match="another graph"):
        sweep(Refusing(1))
    assert len(read_journal(tmp_path / "journal.jsonl").trials) == 4


def test_workers_are_asked_for_every_few_seconds_not_with_every_trial(sweep, monkeypatch):
    monkeypatch.setattr("qsens.run.in_order.CHECK_EVERY_S", 60)
    asked = []
    runner = Shuffled(1)
    runner.check = lambda: asked.append(True)
    sweep(runner)
    assert len(runner.started) == 9
    assert not asked


def test_the_cost_of_a_trial_does_not_grow_with_the_trials_before_it(sweep, monkeypatch):
    copies = []
    trials = Journal.trials.fget
    monkeypatch.setattr(Journal, "trials", property(lambda self: copies.append(True) or trials(self)))
    sweep(Shuffled(3))
    assert len(copies) < len(ALONE), "asking for all trials copies them"


def test_progress_counts_what_ended_and_never_more_than_there_is(sweep):
    sweep(Shuffled(3))
    assert [total for _, total, _ in sweep.heard] == [1, *[9] * (len(sweep.heard) - 1)]
    done = [done for done, _, _ in sweep.heard]
    assert done == sorted(done)
    assert sweep.heard[-1] == (9, 9, "finished")
    labels = [label for _, _, label in sweep.heard]
    assert labels[0] == "reference: all FP32"
    assert f"only {LAYERS[3].name} INT8" in labels


def test_the_maps_are_numbered_from_the_end_of_the_journal(tmp_path):
    with Journal(tmp_path / "journal.jsonl", "spec") as journal:
        MapsInOrder(list(anchor_maps(LAYERS).values())[:1], Shuffled(1), journal).evaluate(lambda *_: None)
        MapsInOrder(ALONE[:2], Shuffled(2), journal).evaluate(lambda *_: None)
        assert [trial.number for trial in journal.trials] == [0, 1, 2]
