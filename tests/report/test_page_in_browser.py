"""The report page in a real browser: what it shows, how it answers, and that it asks for nothing."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import find_chromium, opened
from report_studies import (
    PIXEL,
    anchors,
    boundary_study,
    failed,
    isolating_study,
    layer,
    map_of,
    pictures,
    screening_study,
    style_layers,
    trial,
)

from qsens.core.interfaces import Decision
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Score, Study
from qsens.report import page as page_module
from qsens.report.difference_maps import FLIP
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.page import render_pages
from qsens.report.page_content import PageContent, Picture
from qsens.selection.budget import Limit
from qsens.selection.reasons import Reason, ReasonKind

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]

EVIL = "</script><script>document.title='taken'</script><b>bold</b>"
FID = "fid[lite0]"
CHART = "document.querySelector('.chart')"
LAYERS = (layer(0, EVIL, "a&<i>b", 10**6), *(replace(e, index=e.index + 1) for e in style_layers()[:5]))


def content_of(study, name="run", **more):
    found = sensitivity_of(study, FID)
    fields = {
        "chosen": next(iter(study.trials[5:]), None),
        "verdict": "",
        "findings": (),
        "provenance": {},
    }
    fields |= {"date": "today", "pictures": [Picture("Where to cut", "drawn", PIXEL)]}
    fields |= {"sensitivities": [] if found is None else [found], "samples": pictures(study, size=32)}
    return PageContent(run_name=name, study=study, **{**fields, **more})


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    reasons = {LAYERS[2].name: Reason("costs too much", (7,), ReasonKind.COSTLY)}
    decisions = (Decision("the cut at 3 is kept", (7, 5)),)
    limits = {FID: Limit(FID, 5.3, 3.0, lower_is_better=True)}
    more = {"reasons": reasons, "decisions": decisions, "limits": limits, "command": "qsens export run"}
    content = content_of(boundary_study(LAYERS), **more)
    path.write_text(render_pages([content]))
    return path


@pytest.fixture(scope="module")
def open_page(browser, one_run):
    with opened(browser, one_run) as (page, heard):
        yield page, heard


@pytest.fixture
def page(open_page, one_run):
    """The one page that most tests share, with nothing held, filtered or zoomed."""
    page, heard = open_page
    page.keyboard.press("Escape")
    page.locator(".filter input").fill("")
    page.locator(".filter select").select_option("")
    page.locator("[data-chart=boundary]").click()
    page.evaluate(f"Plotly.relayout({CHART}, {{'xaxis.autorange': true, 'yaxis.autorange': true}})")
    yield page
    assert heard.complaints == []
    assert heard.requests == [one_run.as_uri()]


def centre_of_mark(page, trace, place):
    box = page.locator(".chart .scatterlayer .trace").nth(trace).locator(".point").nth(place).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def trial_shown(page):
    return page.inner_text(".card h2").partition(",")[0]


def value_range(page):
    return page.evaluate(f"{CHART}.layout.yaxis.range.slice()")


def test_pointing_at_a_mark_shows_its_trial_with_pictures(page):
    page.locator(".chart").scroll_into_view_if_needed()
    # The first line is INT8 first; its fourth mark is the cut at 3, the seventh trial after the anchors.
    page.mouse.move(*centre_of_mark(page, 0, 3))
    page.wait_for_selector(".card h2:has-text('Trial 7')")
    assert "first 3 INT8, last 3 FP16" in page.inner_text(".card")
    page.wait_for_selector(".picture-map[data-trial='7']")
    assert "FID[lite0]" in page.inner_text(".card dl")
    assert page.locator("tr.looked-at").get_attribute("data-trial") == "7"


def test_a_click_holds_a_trial_and_escape_lets_it_go(page):
    page.locator(".chart").scroll_into_view_if_needed()
    page.mouse.click(*centre_of_mark(page, 0, 2))
    page.wait_for_selector(".card.held h2:has-text('Trial 5')")
    page.mouse.move(*centre_of_mark(page, 0, 4))
    page.wait_for_timeout(150)
    assert trial_shown(page) == "Trial 5"
    page.keyboard.press("Escape")
    page.wait_for_selector(".card:not(.held)")


def test_rows_and_marks_lead_to_each_other(page):
    page.locator("table.trials tr[data-trial='4'] td.text").click()
    assert trial_shown(page) == "Trial 4"
    ring = page.evaluate(f"{CHART}.data.at(-1)")
    assert ring["x"] == [1]
    page.get_by_role("button", name="Row in the table").click()
    assert page.evaluate("document.activeElement.dataset.trial") == "4"


def test_decisions_lead_to_the_trials_that_they_rest_on(page):
    page.locator("[data-look='7']").click()
    assert trial_shown(page) == "Trial 7"
    page.locator("[data-look='5']").press("Enter")
    assert trial_shown(page) == "Trial 5"
    assert page.locator(".card.held").count() == 1


def test_arrow_keys_go_from_mark_to_mark(page):
    page.locator(".chart").focus()
    before = trial_shown(page)
    page.keyboard.press("ArrowRight")
    assert trial_shown(page) != before
    page.keyboard.press("Enter")
    assert page.locator(".card.held").count() == 1


def test_dragging_zooms_and_a_double_click_shows_all(page):
    chart = page.locator(".chart")
    chart.scroll_into_view_if_needed()
    whole = value_range(page)
    box = page.locator(".chart .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_function(f"low => {CHART}.layout.yaxis.range[0] !== low", arg=whole[0])
    low, high = value_range(page)
    assert high - low < 0.6 * (whole[1] - whole[0])
    page.locator("button.theme").click()
    assert value_range(page) == [low, high]  # a change of colours keeps the zoom
    chart.scroll_into_view_if_needed()
    page.locator(".chart .nsewdrag").first.dblclick()
    page.wait_for_function(f"low => Math.abs({CHART}.layout.yaxis.range[0] - low) < 1e-6", arg=whole[0])
    assert value_range(page) == pytest.approx(whole)


def test_each_chart_is_drawn_with_its_front_and_every_trial(page):
    page.get_by_role("button", name="Trade-off").click()
    traces = page.evaluate(f"{CHART}.data.map(t => [t.name, t.x.length, t.mode])")
    assert traces[0][0] == "Pareto front"
    assert (
        sum(count for name, count, mode in traces if mode == "markers" and name and "chosen" not in name)
        == 13
    )
    page.get_by_role("button", name="Single layers").click()
    kinds = page.evaluate(f"{CHART}.data.map(t => t.type)")
    assert "bar" in kinds
    assert page.inner_text(".chart-note").startswith("Only this INT8: against FP32.")
    buttons = page.locator(".modebar-btn").evaluate_all("all => all.map(one => one.dataset.title)")
    assert not [title for title in buttons if "loud" in title.lower()]


def pixel(page, name, x, y):
    image = f"document.querySelector('.{name}').getContext('2d').getImageData({x}, {y}, 1, 1).data"
    return page.evaluate(f"Array.from({image})")[:3]


def test_the_slider_walks_the_boundary_over_the_same_input(page):
    page.locator(".walk-step").focus()
    page.locator(".walk-step").press("Home")
    page.wait_for_selector(".picture-map[data-trial='1']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".picture-map[data-trial='3']")
    assert page.get_attribute(".walk-step", "aria-valuetext") == "boundary 1, trial 3"
    assert "first 1 INT8, last 5 FP16" in page.inner_text(".card")
    page.locator(".input").select_option("0")
    page.wait_for_function("() => document.querySelector('.map-caption').textContent.includes('dB')")
    expected = pictures(boundary_study(LAYERS), size=32)
    assert pixel(page, "picture-map", 5, 9) == expected[3][0, :, 9, 5].tolist()
    page.locator(".factor").select_option("64")
    assert page.inner_text(".error-top") == "4.0 of 255 levels"


def test_differences_are_shown_by_flip_where_it_is_at_hand(browser, tmp_path, monkeypatch):
    def by_red(images, reference):
        return np.abs(images[:, 0].astype(np.float32) - reference[:, 0]) / 255

    monkeypatch.setattr(page_module, "difference_of", lambda study: replace(FLIP, of=by_red))
    path = tmp_path / "flip.html"
    path.write_text(render_pages([content_of(boundary_study(LAYERS))]))
    with opened(browser, path) as (page, _):
        page.wait_for_selector(".error-name:text-is('FLIP')")
        page.locator(".factor").select_option("4")
        page.wait_for_selector(".error-top:text-is('0.25 of 1')")
        page.locator(".difference").select_option("levels")
        page.wait_for_selector(".error-name:text-is('error')")


def test_levels_are_named_at_the_right_where_there_is_room(page):
    named = page.evaluate(f"{CHART}.layout.annotations.map(entry => entry.text)")
    assert any(text.startswith("all INT8") for text in named)
    assert "limit 8.300" in named


def test_a_key_flips_the_map_to_fp32_and_the_frame_moves_by_keys(page):
    page.locator("table.trials tr[data-trial='3'] td.text").click()
    page.wait_for_selector(".picture-map[data-trial='3']")
    page.locator(".input").select_option("0")
    whole = page.locator(".whole").nth(1)
    whole.focus()
    left = page.evaluate("document.querySelector('.spot').style.left")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("left => document.querySelector('.spot').style.left !== left", arg=left)
    expected = pictures(boundary_study(LAYERS), size=32)
    page.keyboard.press("f")
    page.wait_for_selector(".map-caption:text-is('FP32 (flipped)')")
    assert pixel(page, "picture-map", 5, 9) == expected[0][0, :, 9, 5].tolist()
    page.keyboard.press("f")
    page.wait_for_selector(".map-caption:has-text('dB')")


def test_the_limit_is_drawn_and_a_chart_without_data_says_why(page, browser, screened_run):
    page.get_by_role("button", name="Trade-off").click()
    traces = page.evaluate(f"{CHART}.data.map(t => [t.name, t.y[0]])")
    assert ["limit 8.300", pytest.approx(8.3)] in traces
    with opened(browser, screened_run) as (other, _):
        other.get_by_role("button", name="Where to cut").click()
        assert other.inner_text(".chart-note").startswith("No map of this run cuts the network in two")


def test_the_picture_of_the_network_tells_a_layers_facts(page):
    picture = page.locator(".network .wide")
    picture.focus()
    picture.press("ArrowRight")
    picture.press("ArrowRight")
    assert page.inner_text(".network-facts").startswith(LAYERS[1].name)
    page.locator(".network rect.layer").nth(2).hover()
    assert "costly: costs too much" in page.inner_text(".network-facts")


def test_the_command_is_copied_or_marked(page):
    page.get_by_role("button", name="Copy").click()
    page.wait_for_selector(".copy:not(:text-is('Copy'))")


AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not here: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, one_run, scheme):
    with opened(browser, one_run, color_scheme=scheme, bypass_csp=True) as (page, _):
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run().then(found => found.violations)")
        serious = [entry for entry in found if entry["impact"] in ("serious", "critical")]
        assert [(entry["id"], [node["html"] for node in entry["nodes"]]) for entry in serious] == []


def test_tables_sort_and_filter(page):
    head = page.locator("table.trials th", has_text="FID[lite0]").first
    head.click()
    numbers = page.locator("table.trials tbody tr").evaluate_all("rows => rows.map(r => r.dataset.trial)")
    study = boundary_study(LAYERS)
    assert [int(number) for number in numbers] == [
        entry.number for entry in sorted(study.trials, key=lambda entry: entry.score(FID).value)
    ]
    head.click()
    assert head.get_attribute("aria-sort") == "descending"
    rows = page.locator("table.layers tbody tr:visible")
    assert rows.count() == 6
    page.locator(".filter input").fill("too much")
    assert rows.count() == 1
    page.locator(".filter input").fill("")
    page.locator(".filter select").select_option("int8")
    assert rows.count() == 2
    assert page.inner_text(".filter .faint") == "2 of 6 layers"


def test_names_from_the_run_stay_text(page):
    assert page.title() == "Precision sensitivity of run"
    assert EVIL in page.inner_text("table.layers tbody")
    page.get_by_role("button", name="Single layers").click()
    assert page.locator(".chart b").count() == 0


LONG = "face_decoder_blocks.{}.0.conv_block.0"


@pytest.fixture(scope="module")
def screened_run(tmp_path_factory):
    """A search's run with long names and reasons."""
    layers = tuple(replace(entry, name=LONG.format(entry.index)) for entry in style_layers()[:6])
    study = screening_study(layers)
    chosen = trial(9, layers, map_of(layers, [1, 2, 4]))
    study = replace(study, trials=(*study.trials, chosen))
    text = "alone in INT8 " + "it is far beyond the limit " * 5
    reasons = {entry.name: Reason(text, (9,), ReasonKind.COSTLY) for entry in layers}
    path = tmp_path_factory.mktemp("screened") / "report.html"
    path.write_text(render_pages([content_of(study, chosen=chosen, reasons=reasons)]))
    return path


def test_layers_that_were_screened_have_bars_that_say_so(browser, screened_run):
    with opened(browser, screened_run) as (page, heard):
        page.get_by_role("button", name="Single layers").click()
        names = page.evaluate(f"{CHART}.data.filter(trace => trace.type === 'bar').map(trace => trace.name)")
        assert names == ["only this INT8, on 32 images"]
        hover = page.evaluate(f"{CHART}.data[0].text[2]")
        assert "only this INT8, on 32 images" in hover
        assert "compare such bars with each other only" in page.inner_text(".look")
        assert heard.complaints == []


def test_reasons_are_seen_without_scrolling_and_fit_a_narrow_screen(browser, screened_run):
    with opened(browser, screened_run) as (page, _):
        reason = page.locator("table.layers td.reason").nth(2)
        assert reason.inner_text() == "costly"
        reason.locator("summary").press("Enter")
        assert "far beyond the limit" in reason.inner_text()
        page.set_viewport_size({"width": 1200, "height": 900})
        box, shown = reason.bounding_box(), page.locator("table.layers").locator("..").bounding_box()
        assert box["x"] + box["width"] <= shown["x"] + shown["width"]
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_function("() => document.documentElement.scrollWidth === 400")
        assert 200 < reason.bounding_box()["width"] < 380


@pytest.mark.slow
def test_dark_is_followed_and_switched(browser, one_run):
    with opened(browser, one_run, color_scheme="dark") as (page, heard):
        background = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(background) == "rgb(22, 24, 27)"
        ink = page.evaluate(f"{CHART}.layout.font.color")
        page.get_by_role("button", name="Light").click()
        assert page.evaluate(background) == "rgb(255, 255, 255)"
        assert page.evaluate(f"{CHART}.layout.font.color") != ink
        assert heard.complaints == []


@pytest.mark.slow
def test_print_has_the_drawn_figures_light_colours_and_whole_tables(browser, one_run):
    with opened(browser, one_run, color_scheme="dark") as (page, heard):
        page.locator(".filter input").fill("nothing has this")
        assert not page.locator("figure img").is_visible()
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("figure img").is_visible()
        assert not page.locator(".interactive").is_visible()
        assert page.locator("table.layers tbody tr:visible").count() == 6
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.set_viewport_size({"width": 1020, "height": 700})  # landscape A4 within its margins
        clipped = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).length"
        assert page.locator(".wide").evaluate_all(clipped) == 0
        assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"
        assert heard.complaints == []


@pytest.mark.slow
def test_a_narrow_screen_does_not_scroll_sideways(browser, one_run):
    with opened(browser, one_run) as (page, _):
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_function("() => document.documentElement.scrollWidth === 400")


def test_several_runs_are_switched_and_laid_over_each_other(browser, tmp_path):
    path = tmp_path / "runs.html"
    other = boundary_study(style_layers()[:4])
    path.write_text(render_pages([content_of(boundary_study(LAYERS), "one"), content_of(other, "two <b>")]))
    with opened(browser, path) as (page, heard):
        assert page.locator("section.run:visible").count() == 2
        page.locator("[data-show-run='1']").click()
        assert page.locator("table.trials tr[data-trial]:visible").count() == len(other.trials)
        page.get_by_label("all runs").check()
        names = page.evaluate(f"{CHART}.data.map(t => t.name || '')")
        assert any(name.startswith("one: ") for name in names)
        assert any(name.startswith("two &lt;b&gt;: ") for name in names)
        assert page.locator("table.comparison tbody tr").count() == 2
        assert heard.complaints == []
        assert heard.requests == [path.as_uri()]


def strange_studies():
    three = Study("spec", LAYERS, tuple(anchors(LAYERS)))
    broken = Score(FID, float("nan"), 9, "lite0/raw/abc", True, float("inf"))
    infinite = Score(FID, float("inf"), 9, "lite0/raw/abc", True)
    trials = (
        *anchors(LAYERS),
        failed(3, map_of(LAYERS, [1]), EVIL),
        trial(4, LAYERS, map_of(LAYERS, [2]), scores=(broken,)),
        trial(5, LAYERS, map_of(LAYERS, [3]), scores=(infinite,), applied=PrecisionMap(Precision.FP32)),
    )
    return {
        "three trials": three,
        "failed and not finite": Study("spec", LAYERS, trials),
        "none": Study("spec", LAYERS, ()),
        "isolating": isolating_study(LAYERS),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", strange_studies())
def test_strange_runs_make_pages_without_complaints(browser, tmp_path, name):
    study, path = strange_studies()[name], tmp_path / "report.html"
    samples = pictures(study, size=16) if name == "isolating" else {}
    path.write_text(render_pages([content_of(study, chosen=None, samples=samples)]))
    with opened(browser, path) as (page, heard):
        assert page.locator(".walk").is_visible() == (name == "isolating")
        for button in page.locator("[data-chart]").all():
            button.click()
            assert page.inner_text(".chart-note") or page.evaluate(f"{CHART}.data.length") > 1
        if study.trials:
            page.locator("table.trials tr[data-trial] td.text").last.click()
            assert trial_shown(page) == f"Trial {study.trials[-1].number}"
        assert heard.complaints == []


@pytest.mark.slow
def test_a_large_run_answers(browser, tmp_path):
    layers = tuple(
        layer(place, f"block{place // 10}.conv{place}", f"block{place // 10}", 10**6) for place in range(100)
    )
    trials = list(boundary_study(layers).trials)
    assert len(trials) == 201
    trials += [
        trial(number, layers, map_of(layers, range(number % 97, 100, 3))) for number in range(201, 300)
    ]
    study, path = Study("spec", layers, tuple(trials)), tmp_path / "report.html"
    path.write_text(render_pages([content_of(study, samples=pictures(study, count=6, size=96))]))
    assert path.stat().st_size < 4_000_000
    with opened(browser, path) as (page, heard):
        page.get_by_role("button", name="Trade-off").click()
        page.locator("table.trials tr[data-trial='299'] td.text").click()
        page.wait_for_selector(".card h2:has-text('Trial 299')")
        assert page.inner_text(".picture-note").startswith("To keep the page small")
        assert heard.complaints == []
