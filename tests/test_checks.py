"""What is refused before anything is calibrated."""

from types import SimpleNamespace

import pytest

from qsens.checks import check_annotations
from qsens.errors import SpecError
from qsens.testing import ExampleSamples


def test_a_metric_that_reads_what_the_set_does_not_know_is_named():
    plain = SimpleNamespace(name="plain")
    reader = SimpleNamespace(name="reader", needs_annotations=("frame", "mouth"))
    with pytest.raises(SpecError, match="metric 'reader' reads the mouth of each sample, which 'example'"):
        check_annotations([plain, reader], ExampleSamples())


def test_a_metric_whose_annotations_are_there_is_accepted():
    check_annotations(
        [SimpleNamespace(name="reader", needs_annotations=("clip", "target"))], ExampleSamples()
    )
