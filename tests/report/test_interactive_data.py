"""What the interactive part of the page is made of: JSON values, packed pictures, scripts, layer table."""

import base64
import io
import json
import math
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from latency_tables import measured, write_table
from PIL import Image
from report_studies import (
    anchors,
    boundary_study,
    failed,
    isolating_study,
    layer,
    map_of,
    pictures,
    screened,
    screening_study,
    style_layers,
    trial,
)

from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Study
from qsens.device.audit import LayerAudit
from qsens.report.difference_maps import FLIP
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.interactive_data import run_data
from qsens.report.interactive_pictures import pack_pictures
from qsens.report.page import charting_library, render_page, render_pages, script_json
from qsens.report.page_content import PageContent, Picture, read_asset
from qsens.report.page_layers import layer_table
from qsens.report.page_tables import trial_table
from qsens.selection.reasons import Reason, ReasonKind
from qsens.selection.timings import read_latency_table, timings_of

LAYERS = style_layers()[:5]
FID = "fid[lite0]"
EVIL = "</script><script>alert(1)</script>"
COSTLY = Reason("costs too much", (3,), ReasonKind.COSTLY)


def content_of(study, **more):
    fields = {"run_name": "run", "chosen": None, "verdict": "", "findings": (), "pictures": ()}
    fields |= {"provenance": {}, "date": "today", "study": study}
    return PageContent(**{**fields, **more})


def decoded(packed, number):
    shape = (packed.count, 3, packed.height, packed.width)
    stored = np.frombuffer(zlib.decompress(base64.b64decode(packed.data[number])), np.uint8).reshape(shape)
    return stored if number == packed.baseline else stored + decoded(packed, packed.baseline)


def test_maps_are_a_digit_a_layer_and_values_are_found_by_trial():
    study = boundary_study(LAYERS)
    data = run_data(content_of(study))
    assert [trial["map"] for trial in data["trials"][:4]] == ["00000", "11111", "22222", "21111"]
    fid = next(metric for metric in data["metrics"] if metric["name"] == FID)
    value, half, text = fid["values"][3]
    assert value == pytest.approx(study.trials[3].score(FID).value)
    assert half == pytest.approx(1.959964 * study.trials[3].score(FID).difference_standard_error)
    assert float(text) == pytest.approx(value, rel=1e-3)
    line = next(line for line in fid["lines"] if line["direction"] == "int8-first")
    assert line["points"][1] == [1, 3]
    assert [step for step, _ in data["walks"][0]["steps"]][:2] == ["boundary 0", "boundary 1"]
    assert data["walks"][-1]["name"] == "every map, by INT8 share"


def test_numbers_that_are_not_finite_become_null_and_their_text_stays():
    study = boundary_study(LAYERS)
    broken = replace(study.trials[4].scores[0], value=math.nan, difference_standard_error=math.inf)
    trials = list(study.trials)
    trials[4] = replace(trials[4], scores=(broken, *trials[4].scores[1:]))
    data = run_data(content_of(replace(study, trials=tuple(trials))))
    fid, psnr = (
        next(metric for metric in data["metrics"] if metric["name"] == name) for name in (FID, "psnr")
    )
    assert fid["values"][4] == [None, None, "—"]
    assert psnr["values"][0][0] is None
    assert psnr["values"][0][2] == "∞"
    assert "NaN" not in script_json(data)


def test_failed_trials_and_runs_without_scores_have_values_too():
    trials = (*anchors(LAYERS)[:2], failed(2, PrecisionMap(Precision.INT8), "no kernel"))
    data = run_data(content_of(Study("spec", LAYERS, trials)))
    assert data["trials"][2]["note"] == "failed: no kernel"
    assert [number for _, number in data["walks"][0]["steps"]] == [0, 1]
    empty = run_data(content_of(Study("spec", LAYERS, ())))
    assert empty["metrics"] == empty["trials"] == empty["walks"] == []


def test_screened_trials_are_shown_as_such_and_left_out_of_charts():
    study = boundary_study(LAYERS)
    trials = list(study.trials)
    scores = tuple(replace(score, images=64) for score in trials[5].scores)
    trials[5] = replace(trials[5], outcome=Outcome.SCREENED, scores=scores)
    study = replace(study, trials=tuple(trials))
    data = run_data(content_of(study))
    assert data["trials"][5]["note"].startswith("screened: scored on 64 images only")
    assert all(5 not in metric["values"] for metric in data["metrics"])
    row = next(row for row in trial_table(study, None).split("<tr") if 'data-trial="5"' in row)
    assert 'class="screened"' in row
    assert row.count("screened on 64 images") == 1
    assert "only" not in row


def test_a_page_says_once_what_screened_trials_are():
    study = screening_study(LAYERS)
    page = render_page(content_of(study, sensitivities=[sensitivity_of(study, FID)]), is_static=True)
    assert page.count("5 trials in grey italics were screened: scored on 32 images only.") == 1
    assert page.count("screened on 32 images") == 5
    assert "Changes on 32 images are those of screens" in page
    assert "screen" not in render_page(content_of(boundary_study(LAYERS)), is_static=True).split("<body>")[1]


def test_a_screened_trial_shows_what_else_is_wrong_with_it():
    study = screening_study(LAYERS)
    wrong = replace(study.trials[4], applied=PrecisionMap(Precision.FP16))
    study = replace(study, trials=(*study.trials[:4], wrong, *study.trials[5:]))
    row = next(row for row in trial_table(study, None).split("<tr") if 'data-trial="4"' in row)
    assert "screened on 32 images" in row
    assert "not as requested" in row


def test_effects_on_a_screen_are_a_series_of_their_own_and_a_block_is_apart():
    study = screening_study(LAYERS)
    block = screened(trial(8, LAYERS, map_of(LAYERS, [3, 4])))
    layers = tuple(replace(entry, block="end" if entry.index > 2 else entry.block) for entry in LAYERS)
    study = Study("s", layers, (*study.trials, block))
    data = run_data(content_of(study, sensitivities=[sensitivity_of(study, FID)]))
    effects = next(metric for metric in data["metrics"] if metric["name"] == FID)["effects"]
    names = {effect["trial"]: effect["origin"] for effect in effects}
    whole = "only this INT8, on 32 images, whole block"
    assert names == {**dict.fromkeys(range(3, 8), "only this INT8, on 32 images"), 8: whole}
    assert all(effect["is_screen"] for effect in effects)


def test_a_layer_has_its_node_below_its_name_and_its_reason_before_numbers():
    table = layer_table(content_of(boundary_study(LAYERS), reasons={LAYERS[0].name: COSTLY}))
    assert f'encode_<wbr>1.<wbr>conv0<br><small class="faint">{LAYERS[0].node}</small>' in table
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", table)
    assert heads[:3] == ["#", "layer", "why"]
    assert "ONNX node" not in heads


def test_effects_have_the_limit_of_each_way_to_change_a_layer():
    study = isolating_study(LAYERS)
    found = replace(sensitivity_of(study, FID), limit=9.5)
    metric = run_data(content_of(study, sensitivities=[found]))["metrics"][0]
    starts = [study.anchors[name].score(FID).value for name in ("int8", "fp32")]
    assert sorted(limit for _, limit in metric["effect_limits"]) == pytest.approx(
        sorted(9.5 - start for start in starts)
    )
    assert {origin for origin, _ in metric["effect_limits"]} == {
        effect["origin"] for effect in metric["effects"]
    }


def test_effects_and_fronts_name_their_trials():
    study = isolating_study(LAYERS)
    found = sensitivity_of(study, FID)
    data = run_data(content_of(study, sensitivities=[found]))
    fid = next(metric for metric in data["metrics"] if metric["name"] == FID)
    assert len(fid["effects"]) == len(found.effects)
    assert fid["effects"][0]["trial"] == found.effects[0].trial
    shares = [data["trials"][number]["share"] for number in fid["fronts"][0]]
    assert shares == sorted(shares)
    assert fid["lines"] == []


def test_pictures_come_back_as_they_were():
    samples = pictures(boundary_study(LAYERS), count=3, size=24)
    packed = pack_pictures(samples, 0)
    assert (packed.width, packed.height, packed.count, packed.note) == (24, 24, 3, "")
    for number, images in samples.items():
        assert np.array_equal(decoded(packed, number), images)
    error = (samples[5][1].astype(float) - samples[0][1]) ** 2
    assert packed.psnr[5][1] == pytest.approx(10 * math.log10(255**2 / error.mean()), abs=1e-3)
    assert packed.psnr[0] == [None, None, None]


def test_maps_of_flip_come_with_pictures_where_the_run_scored_it():
    samples = pictures(boundary_study(LAYERS), count=2, size=16)

    def by_red(images, reference):
        return np.abs(images[:, 0].astype(np.float32) - reference[:, 0]) / 500

    packed = pack_pictures(samples, 0, difference=replace(FLIP, of=by_red))
    assert 0 not in packed.maps
    for number in packed.maps:
        values = np.frombuffer(zlib.decompress(base64.b64decode(packed.maps[number])), np.uint8)
        expected = by_red(samples[number], samples[0])
        assert values.reshape(2, 16, 16) / 255 * packed.most_of_maps == pytest.approx(expected, abs=0.003)
    assert pack_pictures(samples, 0).maps == {}


def test_large_pictures_are_averaged_down_and_many_are_left_out_within_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (2, 6, 3, 400, 200), dtype=np.uint8)
    samples = {0: noise[0], 1: noise[1]}
    packed = pack_pictures(samples, 0, 6_000_000)
    assert (packed.width, packed.height, packed.count) == (192, 384, 6)
    assert "192 x 384 of 200 x 400 pixels" in packed.note
    small = pack_pictures(samples, 0, 250_000)
    assert sum(map(len, small.data.values())) <= 250_000
    assert (small.height, small.count) == (128, 4)
    assert "4 of 6 sample inputs" in small.note
    many = pack_pictures({number: noise[number % 2] for number in range(40)}, 0, 30_000)
    assert (many.height, many.count) == (32, 1)
    assert 0 in many.data
    assert sum(map(len, many.data.values())) < 36_000
    assert f"the pictures of {40 - len(many.data)} trials are left out" in many.note
    one = {0: np.full((1, 3, 512, 512), 7, np.uint8), 1: np.full((1, 3, 512, 512), 9, np.uint8)}
    assert (decoded(pack_pictures(one, 0), 1) == 9).all()


def test_there_are_no_pictures_without_those_of_fp32():
    samples = pictures(boundary_study(LAYERS), count=1, size=8)
    assert pack_pictures(samples, None) is None
    assert pack_pictures({1: samples[1]}, 0) is None
    odd = pack_pictures({**samples, 3: samples[3][:, :, :4]}, 0)
    assert 3 not in odd.data


@pytest.mark.slow
def test_a_page_of_many_runs_stays_within_five_megabytes():
    noise = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 96, 96), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(png, "PNG")
    study = boundary_study(LAYERS)
    samples = {trial.number: noise[trial.number % 2] for trial in study.trials}
    drawn = [Picture("Where to cut", "drawn", png.getvalue())]
    runs = [content_of(study, samples=samples, pictures=drawn) for _ in range(8)]
    page = render_pages(runs)
    assert len(page) < 5_000_000
    assert "Only in the run folder, under figures: Where to cut" in page


def test_texts_cannot_end_a_script():
    assert "<" not in script_json({"name": EVIL})
    assert json.loads(script_json({"name": EVIL + "\u2028"})) == {"name": EVIL + r"\u2028"}
    layers = (layer(0, EVIL, EVIL, 10), *style_layers()[1:4])
    content = content_of(boundary_study(layers), reasons={EVIL: replace(COSTLY, text=EVIL)}, run_name=EVIL)
    assert "alert(1)</script>" not in render_page(content)


def test_the_library_unpacks_to_plotly():
    text = zlib.decompress(base64.b64decode(charting_library())).decode()
    assert "plotly.js" in text[:200]


def test_a_page_without_plotly_says_so_and_a_static_one_has_no_charts(monkeypatch):
    content = content_of(boundary_study(LAYERS))
    static = render_page(content, is_static=True)
    assert 'id="page-data"' not in static
    assert 'class="interactive"' not in static
    monkeypatch.setattr("qsens.report.page.has_charting", lambda: False)
    page = render_page(content)
    assert "plotly was not installed" in page
    assert 'id="page-data"' not in page


def test_every_asset_is_found_beside_the_package():
    for name in ("page.css", "page.js", "interactive.html", "charts.js", "start.js"):
        assert read_asset(name).strip()


def test_several_runs_are_compared_and_warned_of():
    study = boundary_study(LAYERS)
    other = [
        replace(trial, scores=tuple(replace(score, against="other") for score in trial.scores))
        for trial in study.trials
    ]
    runs = [content_of(study), content_of(replace(study, trials=tuple(other)), run_name="second <b>")]
    page = render_pages(runs, is_static=True, extra="<p>between</p>")
    assert page.count('<section class="run"') == 4
    assert "second &lt;b&gt;" in page
    assert "Compare shapes, not values" in page
    assert page.index("between") < page.index('class="runs"')
    assert "Compare shapes" not in render_pages([runs[0], runs[0]], is_static=True)


def test_the_layer_table_has_what_is_known(tmp_path):
    study = isolating_study(LAYERS)
    chosen, first = study.trials[3], LAYERS[0]
    bare = layer_table(content_of(study))
    assert "requested" not in bare
    entry = measured("map", chosen.requested, LAYERS, 4.0)
    rows = tuple(
        {"layer": one.name, "ms": 0.25 * (one.index + 1), "expected": "fp32", "actual": "fp32"}
        for one in LAYERS
    )
    table = read_latency_table(write_table(tmp_path / "board.json", [entry], LAYERS))
    timed = replace(table, measurements=tuple(replace(one, layers=rows) for one in table.measurements))
    audit = LayerAudit(first.name, first.node, "step", "int8", "int8", "fp32")
    full = layer_table(
        content_of(
            study,
            chosen=chosen,
            audit={first.name: audit},
            sensitivities=[sensitivity_of(study, FID)],
            timings=(timings_of(study, timed),),
            reasons={first.name: replace(COSTLY, text="costs 3 points < budget")},
        )
    )
    for text in (
        "applied",
        "engine runs",
        "runs in, ",
        "only this INT8",
        "ms, ",
        ">1.25<",
        "costs 3 points &lt; budget",
    ):
        assert text in full
    assert full.count("mismatch") == 1
    assert 'data-precisions="int8"' in full
