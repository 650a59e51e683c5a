"""The first screen of a report page with numbers on its parts, for docs/report.md.

python benchmarks/picture_of_report.py reports/demo-talker docs/report.webp
"""

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

PARTS = (
    ".answer h2, .answer strong, .answer p",
    ".answer details",
    ".ladder",
    ".answer .command",
    "figure.network",
    ".tabs",
    ".chart",
    ".card .grid",
    ".card .slider",
)
SIZE = {"width": 1300, "height": 1640}
MARK = 15


def main() -> None:
    """Draw the picture of the run folder in the first argument, to the file in the second."""
    run, target = (Path(text) for text in sys.argv[1:3])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        page = browser.new_page(viewport=SIZE)
        page.goto((run / "report.html").absolute().as_uri())
        page.wait_for_selector(".chart .main-svg")
        boxes = [page.locator(part).first.bounding_box() for part in PARTS]
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=18)
    for number, box in enumerate(boxes, 1):
        x, y = max(box["x"] - MARK, MARK + 1), box["y"] + MARK
        draw.ellipse((x - MARK, y - MARK, x + MARK, y + MARK), fill="#1a1a1a")
        draw.text((x, y), str(number), fill="white", font=font, anchor="mm")
    picture.save(target, quality=80)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
