"""The fuzzer finds nothing in a bounded number of cases, and would find what there is."""

import random

import pytest
from fuzzer import SUBJECTS, Subject, fuzz, make_project, run_case, table

CASES = len(SUBJECTS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_damaged_input_runs_code_hangs_or_ends_in_a_traceback(tmp_path):
    outcomes = fuzz(tmp_path, range(CASES), seed=20261128, jobs=2)
    assert len(outcomes) == CASES
    problems = [(one.number, one.subject, one.problem, one.said) for one in outcomes if one.problem]
    assert not problems, table(outcomes)


def _becomes(code):
    def mutation(path, _):
        path.write_text(code.format(ran=str(path.parent / "ran")))

    return mutation


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('fine')", ""),
        ("raise SystemExit(3)", ""),
        ("raise SystemExit(77)", "exit code"),
        ("raise SystemExit(1)", "no message"),
        ("raise ValueError", "traceback"),
        ("open({ran!r}, 'w')", "code ran"),
        ("import os; os.abort()", "crash"),
        ("import os; os.kill(os.getpid(), 9)", "hang"),
    ],
)
def test_what_a_command_must_not_do_is_counted(code, problem, tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    (project / "script.py").write_text("print('good')")
    monkeypatch.setattr(random.Random, "random", lambda _: 0.2)  # damaged by structure
    subject = Subject(
        "script", [["python", "script.py"]], lambda folder: [folder / "script.py"], lambda _: _becomes(code)
    )
    outcome = run_case(project, tmp_path, 0, 0, [subject])
    assert outcome.problem == problem, outcome
    assert (project / "script.py").read_text() == "print('good')"


@pytest.mark.slow
def test_undamaged_inputs_are_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path / "project")
    monkeypatch.setattr("fuzzer._damage", lambda *_: None)
    for number in range(len(SUBJECTS)):
        outcome = run_case(tmp_path / "project", tmp_path, number, 0, SUBJECTS)
        assert (outcome.problem, outcome.exit_code) == ("", 0), outcome
