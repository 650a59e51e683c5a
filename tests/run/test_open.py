"""What is refused before anything is calibrated."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from qsens.core.errors import LoadError, SpecError
from qsens.core.spec import Options, SweepSpec
from qsens.run.open import (
    check_annotations,
    check_before_calibrating,
    open_generator,
)
from qsens.run.open_plugins import open_metrics, open_strategy
from qsens.testing import ExampleSamples


def test_a_metric_that_reads_what_the_set_does_not_know_is_named():
    plain = SimpleNamespace(name="plain", needs_annotations=())
    reader = SimpleNamespace(name="reader", needs_annotations=("frame", "mouth"))
    with pytest.raises(SpecError, match="metric 'reader' reads the mouth of each sample, which 'example'"):
        check_annotations([plain, reader], ExampleSamples())


def test_a_metric_whose_annotations_are_there_is_accepted():
    check_annotations(
        [SimpleNamespace(name="reader", needs_annotations=("clip", "target"))], ExampleSamples()
    )


@pytest.mark.parametrize("metric", ["fid", "fid-fp32", "psnr"])
@pytest.mark.parametrize("name", ["guided", "boundary+guided"])
def test_a_search_needs_no_budget_of_its_own_on_any_score(name, metric):
    spec = SweepSpec(strategy=name)
    open_strategy(spec)
    check_before_calibrating(spec, [SimpleNamespace(name=metric)])


@pytest.mark.parametrize(
    "values", [{"budget": "2.0"}, {"strategy_options": Options.of({"least_saving": 0.5})}]
)
def test_a_search_that_knows_its_aim_needs_no_default(values):
    spec = SweepSpec(strategy="guided", **values)
    open_strategy(spec)
    check_before_calibrating(spec, [SimpleNamespace(name="psnr")])


def test_a_metric_has_its_options_and_those_of_another_are_refused():
    spec = SweepSpec(metrics=("kid",), metric_options=Options.of({"kid": {"reference_images": 1}}))
    with pytest.raises(SpecError, match="reference_images=1"):
        open_metrics(spec)
    with pytest.raises(SpecError, match="options for the metric 'kid', which the run does not have"):
        open_metrics(replace(spec, metrics=("psnr",)))


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("0001.png", b"\x89PNG\r\n\x1a\n", "a picture"),
        ("0001.jpg", b"\xff\xd8\xff\xe0", "a picture"),
        ("train.py", "# größer\nimport torch\n".encode(), "a text file"),
        ("long.txt", b"a" + "é".encode() * 300, "a text file"),
    ],
)
def test_a_picture_or_a_text_is_not_taken_for_weights(tmp_path, name, head, kind):
    path = tmp_path / name
    path.write_bytes(head)
    with pytest.raises(LoadError, match=f"{name} is {kind}, not a generator") as caught:
        open_generator(path, None)
    assert ".onnx or .pt2" in caught.value.hint


def test_weights_without_a_network_are_still_told_so(tmp_path):
    path = tmp_path / "generator.pth"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(SpecError, match="which network these weights belong to is not known"):
        open_generator(path, None)
