"""The part of the page that answers to the pointer: charts, the card of a trial, the walk over the maps."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from qsens.core.maps import anchor_trial
from qsens.core.precision import Precision
from qsens.device.visible_text import visible_text
from qsens.report.interactive_data import run_data
from qsens.report.interactive_pictures import MOST_CHARACTERS, pack_pictures
from qsens.report.page_assets import read_asset
from qsens.report.page_content import PageContent
from qsens.report.page_text import escape

MISSING = (
    "The charts of this page do not move: the Python package plotly was not installed when it was written. "
    "Install it and run qsens report again."
)


def has_charting() -> bool:
    """Whether the charting library is installed."""
    return find_spec("plotly") is not None


@cache
def charting_library() -> str:
    """The charting library, plotly.js (MIT licence), as base64 of its zlib stream."""
    from plotly.offline import get_plotlyjs  # only pages with charts need it

    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


def interactive_section() -> str:
    """The empty frame of the charts and the walk; the script fills it and takes its `hidden` away."""
    return read_asset("interactive.html")


def interactive_scripts(runs: Sequence[PageContent]) -> str:
    """The values of the runs and the compressed library, both as data that no browser executes."""
    share = MOST_CHARACTERS // max(len(runs), 1)
    values = []
    for content in runs:
        baseline = anchor_trial(content.study, Precision.FP32)
        packed = pack_pictures(content.samples, None if baseline is None else baseline.number, share)
        values.append({**run_data(content), "pictures": None if packed is None else packed.to_json()})
    return (
        f'<script type="application/json" id="page-data">{script_json({"runs": values})}</script>\n'
        f'<script type="text/plain" id="charting-library">{charting_library()}</script>\n'
    )


def script_json(value: object) -> str:
    """JSON that can stand in a script element: no text in it can end the element or open a comment.

    What nobody would see in a text is shown.
    """
    text = json.dumps(_shown(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible_text(value)
    if isinstance(value, Mapping):
        return {key: _shown(entry) for key, entry in value.items()}
    return [_shown(entry) for entry in value] if isinstance(value, list | tuple) else value


def static_notice() -> str:
    """What a page without charts says of it."""
    return f'<p class="faint">{escape(MISSING)}</p>'
