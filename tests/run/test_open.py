"""What is refused before anything is calibrated."""

from types import SimpleNamespace

import pytest

from qsens.core.errors import SpecError
from qsens.core.spec import Options, SweepSpec
from qsens.run.open import check_annotations, check_before_calibrating, open_strategy
from qsens.testing import ExampleSamples, example_layers


def test_a_metric_that_reads_what_the_set_does_not_know_is_named():
    plain = SimpleNamespace(name="plain", needs_annotations=())
    reader = SimpleNamespace(name="reader", needs_annotations=("frame", "mouth"))
    with pytest.raises(SpecError, match="metric 'reader' reads the mouth of each sample, which 'example'"):
        check_annotations([plain, reader], ExampleSamples())


def test_a_metric_whose_annotations_are_there_is_accepted():
    check_annotations(
        [SimpleNamespace(name="reader", needs_annotations=("clip", "target"))], ExampleSamples()
    )


@pytest.mark.parametrize("name", ["guided", "boundary+guided"])
def test_a_search_without_a_budget_is_refused_before_anything_is_scored(name):
    graph = SimpleNamespace(outputs=(), layers=example_layers(3))
    metrics = [SimpleNamespace(name="fid-fp32"), SimpleNamespace(name="psnr")]
    spec = SweepSpec(strategy=name)
    with pytest.raises(SpecError, match="guided searches within a budget, and there is none") as caught:
        check_before_calibrating(spec, graph, open_strategy(spec), metrics)
    assert "--budget 2.0" in caught.value.hint


def test_a_search_takes_the_default_budget_where_there_are_real_images():
    spec = SweepSpec(strategy="guided")
    graph = SimpleNamespace(outputs=(), layers=example_layers(3))
    check_before_calibrating(spec, graph, open_strategy(spec), [SimpleNamespace(name="fid")])


@pytest.mark.parametrize(
    "values", [{"budget": "2.0"}, {"strategy_options": Options.of({"least_saving": 0.5})}]
)
def test_a_search_that_knows_its_aim_needs_no_default(values):
    spec = SweepSpec(strategy="guided", **values)
    graph = SimpleNamespace(outputs=(), layers=example_layers(3))
    check_before_calibrating(spec, graph, open_strategy(spec), [SimpleNamespace(name="psnr")])
