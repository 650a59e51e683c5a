"""Opens a report page in headless Chromium and writes down what it asks for and complains of."""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium():
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


@dataclass
class Heard:
    requests: list = field(default_factory=list)
    complaints: list = field(default_factory=list)


@contextmanager
def opened(browser, path, **options):
    """The page when its charts are drawn, and what was heard."""
    context, heard = browser.new_context(viewport={"width": 1300, "height": 900}, **options), Heard()
    page = context.new_page()
    page.on("request", lambda request: heard.requests.append(request.url))
    page.on("console", lambda message: heard.complaints.append(message.text))
    page.on("pageerror", lambda error: heard.complaints.append(str(error)))
    try:
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-charts=ready]")
        yield page, heard
    finally:
        context.close()
