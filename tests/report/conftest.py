"""What all tests of the report share."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def coarse_figures():
    """No test reads a figure's dots: fewer of them are drawn, packed and unpacked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qsens.report.figures.style.PNG_DPI", 40)
        yield
