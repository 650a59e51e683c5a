"""Drawn figures on the page: WebP without loss, as many as keep the page small."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

from qsens.report.page_content import Picture
from qsens.report.page_text import escape

# Characters of base64; a page with charts that move shows the same in these.
_MOST_BESIDE_CHARTS = 300_000


def figures_section(pictures: Sequence[Picture], *, is_interactive: bool) -> str:
    """The figures, folded on screens where charts show the same; what is left out is named."""
    shown, left_out, size = [], [], 0
    for picture in pictures:
        data = _webp(picture.png)
        size += len(data)
        if is_interactive and size > _MOST_BESIDE_CHARTS:
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
