"""Drawn figures on the page: WebP without loss, as many as keep the page small."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

from qsens.report.page_content import Picture
from qsens.report.page_text import escape

# Characters of base64, of one run and over all runs of a page with charts that move, which show the same.
_MOST_OF_A_RUN, _MOST = 300_000, 900_000


def figures_section(pictures: Sequence[Picture], *, is_interactive: bool, runs: int = 1) -> str:
    """The figures of one of `runs`, folded where charts show the same; what is left out is named."""
    most = min(_MOST_OF_A_RUN, _MOST // runs)
    shown, left_out, size = [], [], 0
    for picture in pictures:
        data = _webp(picture.png)
        size += len(data)
        if is_interactive and size > most:
            left_out.append(picture.heading)
        else:
            shown.append(
                f"<h3>{escape(picture.heading)}</h3>{_figure(data, picture.heading, picture.caption)}"
            )
    if not pictures:
        return ""
    note = f'<p class="faint">Only in the run folder, under figures: {escape("; ".join(left_out))}.</p>'
    opening = "<details class=figures>" if is_interactive else "<details class=figures open>"
    return (
        f"<h2>Figures</h2>{opening}<summary>As drawn for papers and print</summary>"
        f"{''.join(shown)}{note if left_out else ''}</details>"
    )


def embedded_figure(png: bytes, caption: str) -> str:
    """One figure with its caption."""
    return _figure(_webp(png), caption, caption)


def _figure(data: str, alternative: str, caption: str) -> str:
    image = f'<img alt="{escape(alternative)}" src="data:image/webp;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _webp(png: bytes) -> str:
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(file, "WEBP", lossless=True, method=3)
    return base64.b64encode(file.getvalue()).decode()
