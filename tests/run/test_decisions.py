"""The file of a search's decisions: what a report reads is what the strategy said."""

import pytest

from qsens.core.errors import QsensWarning
from qsens.core.interfaces import Decision, Strategy
from qsens.run.decisions import decisions_of, read_decisions, write_decisions
from qsens.search.enumerations import Boundary, Chain
from qsens.testing import example_layers

FOUND = (Decision("INT8 everywhere uses 300% of the budget", (1, 2)), Decision("<b>FP32</b>", ()))


class Telling(Strategy):
    name = "telling"

    def propose(self, layers, trials):
        return []

    def explain_search(self, layers, trials):
        return [Decision(f"{len(layers)} layers", (len(trials),))]


def test_decisions_are_read_as_they_were_written(tmp_path):
    write_decisions(tmp_path / "decisions.json", FOUND)
    assert read_decisions(tmp_path / "decisions.json") == FOUND


def test_decisions_that_were_changed_are_not_shown_and_those_of_older_runs_are(tmp_path):
    path = tmp_path / "decisions.json"
    write_decisions(path, FOUND)
    path.write_text(path.read_text().replace("300%", "30%"))
    with pytest.warns(QsensWarning, match="is not the file that the run wrote"):
        assert read_decisions(path) == ()
    path.write_text('[{"text": "as before", "trials": [1]}]')
    assert read_decisions(path) == (Decision("as before", (1,)),)


def test_without_decisions_there_is_no_file(tmp_path):
    path = tmp_path / "decisions.json"
    write_decisions(path, FOUND)
    write_decisions(path, ())
    assert not path.exists()
    assert read_decisions(path) == ()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"text": "no trials"}]', '{"text": 1}', "null"])
def test_a_damaged_file_tells_nothing(text, tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text(text)
    assert read_decisions(path) == ()


def test_a_strategy_that_does_not_search_has_no_decisions():
    assert decisions_of(Boundary(), example_layers(3), []) == ()


def test_a_chain_tells_what_its_members_tell():
    told = (Decision("3 layers", (0,)),)
    assert decisions_of(Chain([Boundary(), Telling()]), example_layers(3), []) == told
