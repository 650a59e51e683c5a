"""What the report page of a large run weighs and how fast it answers in headless Chromium.

The run is made up: boundary cuts of 100 layers in both directions and random maps besides, three scores each,
six pictures a trial whose difference to FP32's is noise, which compresses worse than any generator's.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from machine import print_machine
from made_up import METRICS, made_up_pictures, made_up_study
from playwright.sync_api import Browser, sync_playwright

from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.page import charting_library, render_pages
from qsens.report.page_content import PageContent

PRESSES = 40


def written_page(path: Path, layers: int, trials: int, runs: int = 1) -> tuple[float, int]:
    """Seconds to make the page of so many equal runs, and its bytes."""
    study = made_up_study(layers, trials)
    found = sensitivity_of(study, METRICS[0][0])
    content = PageContent(
        run_name="made up",
        study=study,
        chosen=study.trials[-1],
        verdict="",
        findings=(),
        pictures=(),
        provenance={},
        date="",
        sensitivities=() if found is None else (found,),
        samples=made_up_pictures(study, 96),
    )
    begun = time.perf_counter()
    path.write_text(render_pages([content] * runs), encoding="utf-8")
    return time.perf_counter() - begun, path.stat().st_size


def answer_times(browser: Browser, path: Path) -> tuple[float, float]:
    """Seconds until the charts are drawn; median milliseconds from an arrow key to the trial's pictures."""
    page = browser.new_page()
    begun = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-charts=ready]")
    ready_s = time.perf_counter() - begun
    page.locator(".chart").focus()
    times = [
        page.evaluate(
            """async () => {
              const picture = document.querySelector(".picture-map"), before = picture.dataset.trial;
              const begun = performance.now();
              const key = new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true });
              document.querySelector(".chart").dispatchEvent(key);
              while (picture.dataset.trial === before) {
                await new Promise(requestAnimationFrame);
              }
              return performance.now() - begun;
            }"""
        )
        for _ in range(PRESSES)
    ]
    page.close()
    return ready_s, statistics.median(times)


def main() -> None:
    """Print a row for a small and for a large run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    chromium = parser.parse_args().chromium
    if chromium is None:
        sys.exit("no Chromium was found: name it with --chromium PATH")
    print_machine("plotly", "playwright")
    print(f"charting library, packed: {len(charting_library()) / 1e6:.2f} MB")
    print("| runs x trials x layers | page, MB | made in, s | drawn after, s | key to pictures, ms |")
    print("|---|---:|---:|---:|---:|")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        for runs, layers, trials in ((1, 23, 47), (1, 100, 300), (2, 23, 47), (8, 23, 47)):
            path = Path(folder) / f"{runs}-{trials}.html"
            made_s, size = written_page(path, layers, trials, runs)
            ready_s, answer_ms = answer_times(browser, path)
            row = (f"{size / 1e6:.1f}", f"{made_s:.1f}", f"{ready_s:.1f}", f"{answer_ms:.0f}")
            print(f"| {runs} x {trials} x {layers} | {' | '.join(row)} |")
        browser.close()


if __name__ == "__main__":
    main()
