"""The report of a run with everything that can be told from its folder."""

from collections.abc import Sequence
from pathlib import Path


def make_report(
    run: Path, *, open_browser: bool = False, latency: Sequence[Path] = (), is_static: bool = False
) -> Path:
    """Compute what figures need beside the scores, write the report, and return the path of its page.

    A static page has no charts that move.

    Raises:
        RunFolderError, SpecError: as `qsens.report.write.write_report`.
    """
    # pandas, matplotlib and SciPy take a second to load
    from qsens.metrics.floors import floors_of
    from qsens.report.write import write_report

    floors_of(run)
    return write_report(run, open_browser=open_browser, latency=latency, is_static=is_static)
