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

import numpy as np
from machine import print_machine
from playwright.sync_api import Browser, sync_playwright

from qsens.core.layer import Layer
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Score, Study, Trial
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.page import charting_library, render_pages
from qsens.report.page_content import PageContent

METRICS = (("fid[lite0]", True), ("fid-fp32[lite0]", True), ("psnr", False))
PRESSES = 40


def made_up_study(layers: int, trials: int) -> Study:
    """FP32, FP16 and INT8 everywhere, all cuts as far as they fit, then random maps."""
    members = tuple(
        Layer(f"conv{place}", f"/conv{place}", "Conv", f"block{place // 10}", place, 1000, 10**6, 10**6, (1,))
        for place in range(layers)
    )
    generator = np.random.default_rng(0)
    flags = [np.arange(layers) < cut for cut in range(1, layers)]
    flags += [~choice for choice in flags]
    flags += [generator.random(layers) < 0.5 for _ in range(trials)]
    maps = [PrecisionMap(precision) for precision in Precision]
    for chosen in flags:
        pairs = zip(members, chosen, strict=True)
        maps.append(
            PrecisionMap.over(
                {one.name: Precision.INT8 if is_int8 else Precision.FP16 for one, is_int8 in pairs}
            )
        )
    return Study("benchmark", members, tuple(made_up_trial(*entry) for entry in enumerate(maps[:trials])))


def made_up_trial(number: int, precision_map: PrecisionMap) -> Trial:
    """Scores that say nothing; FP32's against itself are exact."""
    values = np.random.default_rng(number).random(len(METRICS)) * 30 + 1
    scores = tuple(
        Score(name, float(value), 512, "made up", lower, 0.5, 0.2, 0.1)
        for (name, lower), value in zip(METRICS, values, strict=True)
    )
    return Trial(number, precision_map, precision_map, Outcome.SCORED, scores, duration_s=1.0)


def made_up_pictures(study: Study, side: int) -> dict[int, np.ndarray]:
    """Six pictures a trial, uint8 (6, 3, side, side), with noise of 2 levels beside FP32's."""
    generator = np.random.default_rng(1)
    clean = generator.integers(30, 220, (6, 3, side, side))
    noise = {trial.number: generator.normal(0, 2, clean.shape) * bool(trial.number) for trial in study.trials}
    return {number: np.rint(clean + values).astype(np.uint8) for number, values in noise.items()}


def written_page(path: Path, layers: int, trials: int) -> tuple[float, int]:
    """Seconds to make the page, and its bytes."""
    study = made_up_study(layers, trials)
    found = sensitivity_of(study, METRICS[0][0])
    content = PageContent(
        run_name="made up",
        study=study,
        chosen=study.trials[-1],
        verdict="",
        findings=(),
        pictures=(),
        evidence={},
        provenance={},
        date="",
        sensitivities=() if found is None else (found,),
        samples=made_up_pictures(study, 96),
    )
    begun = time.perf_counter()
    path.write_text(render_pages([content]), encoding="utf-8")
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
              const begun = performance.now();
              const key = new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true });
              document.querySelector(".chart").dispatchEvent(key);
              while (!document.querySelector(".card-pictures[data-trial]")) {
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
    print("| trials x layers | page, MB | made in, s | drawn after, s | key to pictures, ms |")
    print("|---|---:|---:|---:|---:|")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        for layers, trials in ((23, 47), (100, 300)):
            path = Path(folder) / f"{trials}.html"
            made_s, size = written_page(path, layers, trials)
            ready_s, answer_ms = answer_times(browser, path)
            row = (f"{size / 1e6:.1f}", f"{made_s:.1f}", f"{ready_s:.1f}", f"{answer_ms:.0f}")
            print(f"| {trials} x {layers} | {' | '.join(row)} |")
        browser.close()


if __name__ == "__main__":
    main()
