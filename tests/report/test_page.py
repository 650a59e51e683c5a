import io
import json
import os
import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import pandas as pd
import pytest
from click.testing import CliRunner
from report_folders import SPEC, write_run
from report_studies import anchors, boundary_study, failed, layer, style_layers

from qsens.cli.main import main
from qsens.core.errors import RunFolderError, SpecError
from qsens.core.interfaces import Decision
from qsens.core.maps import anchor_trial
from qsens.core.precision import Precision
from qsens.core.trial import Score, Study
from qsens.device.audit import LayerAudit
from qsens.repair.effect import LayerEffect, RepairEffect, TensorEffect
from qsens.repair.repair import StageResult
from qsens.report.figures.all_figures import figures_of
from qsens.report.page import render_page
from qsens.report.page_content import RepairContent
from qsens.report.page_layers import layer_table
from qsens.report.page_tables import map_picture, score_text
from qsens.report.page_text import word_of
from qsens.report.write import page_content, report_paths, write_report
from qsens.run.decisions import write_decisions
from qsens.run.paths import RunPaths
from qsens.run.without_repair import ComparedMap

EVIL = '<script>alert("x")</script>'
LAYERS = (layer(0, EVIL, "a&b", 10), *(replace(entry, index=entry.index + 1) for entry in style_layers()[:3]))


class Checker(HTMLParser):
    """Counts elements that stay open and collects what a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "wbr", "rect", "path", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag


def messy_study():
    study = boundary_study(LAYERS)
    trials = list(study.trials)
    trials[3] = failed(3, trials[3].requested, f"cannot build {EVIL}")
    widened = trials[5].requested.with_layers([LAYERS[0].name], Precision.FP32)
    trials[5] = replace(trials[5], applied=widened)
    return replace(study, trials=tuple(trials[:-1]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = write_run(tmp_path_factory.mktemp("runs") / "messy & odd", messy_study(), budget="5.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qsens.report.write.figures_of", some_figures)
        write_report(path)
    return path


def some_figures(study, **options):
    """A line, a scatter and pictures, of one score; `test_figures.py` draws the others too."""
    of_one = (replace(entry, scores=entry.scores[:1]) for entry in study.trials)
    found = figures_of(replace(study, trials=tuple(of_one)), **options)
    return tuple(entry for entry in found if entry.name in ("boundary", "samples", "tradeoff"))


def sample_figures(*arguments, **options):
    return tuple(entry for entry in some_figures(*arguments, **options) if entry.name == "samples")


@pytest.fixture(scope="module")
def content(run):
    before = sorted(run.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qsens.report.write.figures_of", lambda *_, **__: ())
        content = page_content(run)
    assert sorted(run.rglob("*")) == before
    return content


def test_everything_is_written_from_the_folder_alone(run):
    paths = report_paths(run)
    assert paths.page.stat().st_size > 10_000
    table = pd.read_csv(paths.trials_csv)
    assert len(table) == len(pd.read_parquet(paths.trials_parquet)) == len(messy_study().trials)
    assert set(pd.read_csv(paths.sensitivity_csv)["metric"]) == {"fid[lite0]", "fid-fp32[lite0]", "psnr"}
    names = {path.name for path in paths.figures.iterdir()}
    assert {"boundary.png", "boundary.svg", "samples.png", "tradeoff.svg"} <= names
    assert (paths.figures / "boundary.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_page_is_well_formed_and_fetches_nothing(run):
    page = report_paths(run).page.read_text()
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.tags.count("script") == 3  # the values, the packed charting library, the script
    for address in checker.fetched:
        assert address.startswith(("data:image/webp;base64,", "#"))  # a page is passed on without its folder
    assert not re.search(r"url\(|@import|https?://", re.sub(r"data:[^\"]+", "", page))


def test_what_nobody_would_see_is_shown(tmp_path, no_figures):
    name = os.fsdecode(b"run \xff\x1b[2J\xe2\x80\xae")
    study = messy_study()
    trials = list(study.trials)
    trials[3] = failed(3, trials[3].requested, f"cannot read {name}\0\r\n=1+1")
    run = write_run(tmp_path / name, replace(study, trials=tuple(trials)), budget="5.0")
    for is_static in (True, False):
        page = write_report(run, is_static=is_static).read_text(encoding="utf-8")
        assert r"Precision sensitivity of run \udcff\x1b[2J\u202e" in page
        assert r"cannot read run \udcff\x1b[2J\u202e\x00\r" in page
        assert not set(page) & set("\0\r\x1b\u202e")
    errors = pd.read_csv(report_paths(run).trials_csv)["error"].dropna().tolist()
    parquet = io.BytesIO(report_paths(run).trials_parquet.read_bytes())
    assert errors == pd.read_parquet(parquet)["error"].dropna().tolist()


def test_text_from_the_run_is_escaped(run):
    page = report_paths(run).page.read_text()
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "messy &amp; odd" in page


def test_paths_are_shortened(run):
    page = report_paths(run).page.read_text()
    assert str(run.parent) not in page


def test_the_page_says_what_a_reader_must_know(run):
    page = report_paths(run).page.read_text()
    assert re.search(r"<strong>(Keep|All) .* INT8: [\d.]+ % of the MACs\.</strong>", page)
    assert "to read before believing it</a>" in page
    assert "qsens export &#x27;messy &amp; odd&#x27; --for openvino</code>" in page
    assert "The run is not finished" in page
    assert "One map not tried yet" in page
    assert "One map failed" in page
    assert page.count('class="note">failed: cannot build') == 1
    assert page.count('class="note">not as requested: ') == 1
    assert "Built differently from the request" in page
    assert "Few images" in page
    assert "within a budget of 5 on fid[lite0], guarded by fid-fp32[lite0]" in page
    for fact in ("seed", "range_method", "placement", "a1b2", "numpy", "lite0/raw/abc"):
        assert fact in page


def test_the_page_says_why_each_layer_has_its_precision(run, content):
    page = report_paths(run).page.read_text()
    assert list(content.reasons) == [entry.name for entry in content.study.layers]
    assert any("in INT8 too (trial " in reason.text for reason in content.reasons.values())
    for reason in content.reasons.values():
        folded = f"<details><summary>{word_of(reason)}</summary>{escape(reason.text)}</details>"
        assert f'<td class="reason">{folded}</td>' in page


def test_the_page_says_what_repair_bought(content):
    stages = (
        StageResult("ranges", is_taken=True, error_before=0.02, error_after=0.01, changed=3, tries=9),
        StageResult(
            "weights", is_taken=False, error_before=0.01, error_after=0.02, skipped=((EVIL, "zero"),)
        ),
    )
    effect = RepairEffect(
        "key", 8, (LayerEffect(EVIL, 0.02, 0.01),), (TensorEffect(EVIL, 8.0, 2.0, "mean of maxima"),)
    )
    int8 = anchor_trial(content.study, Precision.INT8)
    compared = (ComparedMap("all INT8", int8, replace(int8, scores=int8.scores[:1])),)
    found = RepairContent(stages, effect, compared)
    page = render_page(replace(content, repair=found), is_static=True)
    assert "What repair bought" in page
    assert "<td>2</td><td>0.25x</td><td>mean of maxima</td>" in page
    assert page.count("<td>all INT8</td><td>100.0%</td>") == 2
    few = StageResult("ranges", is_taken=False, skipped=(("ranges", "7 calibration samples"),))
    left_out = render_page(replace(content, repair=RepairContent((few,))), is_static=True)
    assert "<p>Repair: ranges: left out, 7 calibration samples.</p>" in left_out
    assert "<td>-17.0 dB</td><td>-20.0 dB</td><td>+3.0 dB</td>" in page
    assert "<td>-3.0 dB</td>" in page
    assert EVIL not in page
    assert "What repair bought" not in render_page(content, is_static=True)


@pytest.mark.slow
def test_a_second_report_replaces_the_first(run, monkeypatch):
    monkeypatch.setattr("qsens.report.write.figures_of", some_figures)
    before = {path: path.read_bytes() for path in report_paths(run).figures.iterdir()}
    write_report(run)
    assert {path: path.read_bytes() for path in before} == before


def test_anchors_alone_make_a_report(tmp_path, no_figures):
    path = write_run(tmp_path / "run", Study(SPEC.digest, LAYERS, tuple(anchors(LAYERS)[:2])))
    page = write_report(path).read_text()
    assert "No map has been chosen yet" in page
    assert "No INT8 reference" in page


def test_a_run_without_trials_makes_a_report(tmp_path):
    page = write_report(write_run(tmp_path / "run", Study(SPEC.digest, LAYERS, ()))).read_text()
    assert "No scores yet" in page


def test_damaged_pictures_and_evidence_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("qsens.report.write.figures_of", sample_figures)
    path = write_run(tmp_path / "run", Study(SPEC.digest, LAYERS, tuple(anchors(LAYERS))))
    (path / "samples" / "trial-0000.npz").write_bytes(b"PK torn")
    (path / "evidence" / "trial-00001.npz").write_bytes(b"")
    write_report(path)
    assert not (path / "figures" / "samples.png").exists()


def test_folders_that_are_no_run_are_refused(tmp_path):
    with pytest.raises(RunFolderError, match="no folder") as caught:
        write_report(tmp_path / "absent")
    assert caught.value.hint
    with pytest.raises(RunFolderError, match="not a run folder"):
        write_report(tmp_path)


def test_a_corrupt_journal_or_map_is_named(tmp_path, no_figures):
    path = write_run(tmp_path / "run", Study(SPEC.digest, LAYERS, tuple(anchors(LAYERS))))
    (path / "precision_map.json").write_text("{}")
    with pytest.raises(SpecError, match=r"precision_map\.json"):
        write_report(path)
    lines = (path / "journal.jsonl").read_text().splitlines()
    (path / "journal.jsonl").write_text("\n".join([lines[0], "not json", lines[1]]) + "\n")
    with pytest.raises(RunFolderError, match="line 2"):
        write_report(path)


def test_the_command_says_where_things_are(tmp_path, no_figures):
    path = write_run(tmp_path / "run", Study(SPEC.digest, LAYERS, tuple(anchors(LAYERS)[:1])))
    result = CliRunner().invoke(main, ["report", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["page"] == str(path / "report.html")
    assert 'id="page-data"' in (path / "report.html").read_text()
    assert CliRunner().invoke(main, ["report", str(path), "--static"]).exit_code == 0
    assert 'id="page-data"' not in (path / "report.html").read_text()
    missing = CliRunner().invoke(main, ["report", str(tmp_path / "absent")])
    assert missing.exit_code == 1
    assert "Hint:" in missing.output


def test_the_browser_opens_only_when_asked(tmp_path, monkeypatch, no_figures):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = write_run(tmp_path / "run", Study(SPEC.digest, LAYERS, ()))
    write_report(path)
    assert opened == []
    write_report(path, open_browser=True)
    assert opened == [(path / "report.html").resolve().as_uri()]


def test_scores_show_the_paired_interval_first():
    score = Score("fid", 5.3, 10, "x", True, 1.0, 0.2, 0.1)
    assert score_text(score) == "5.300 ± 0.20"
    assert score_text(replace(score, difference_standard_error=None)) == "5.300 ± 2.0"
    assert score_text(None) == "—"


def test_a_folder_becomes_content(run, content):
    assert content.chosen is not None
    assert set(content.samples) == {trial.number for trial in content.study.scored()}
    assert content.samples[0].shape == (2, 3, 32, 32)
    assert content.samples[0] is not content.samples[0]  # read again: a large run's do not fit into memory
    assert {metric: limit.points for metric, limit in content.limits.items()}["fid[lite0]"] == 5.0


def test_each_layer_is_listed_under_its_three_names(content):
    first, second = LAYERS[:2]
    row = LayerAudit(
        first.name, first.node, "conv + <relu>", "int8", "int8", "fp16", ("relu",), note="saturates"
    )
    content = replace(content, chosen=messy_study().trials[4])
    table = layer_table(replace(content, audit={first.name: row}))
    for text in (first.name, first.node, "conv + <relu>", second.node):
        assert f">{escape(text)}<" in table
    assert "with relu" in table
    assert "saturates" in table
    assert "engine layer" not in layer_table(content)


def test_the_map_picture_has_one_bar_a_run_of_layers():
    picture = map_picture(messy_study().trials[4].requested, LAYERS)
    assert picture.count("<rect") == 2
    assert "FP16 0 to 0, INT8 1 to 3" in picture


def test_the_page_tells_how_a_search_went(content):
    decisions = (
        Decision("INT8 <everywhere> uses 300% of the budget", (1, 2)),
        Decision("many", tuple(range(12))),
        Decision("nothing", ()),
    )
    page = render_page(replace(content, decisions=decisions))
    assert "How the search went" in page
    assert '<span data-look="11">11</span>' not in page
    page = re.sub(r'<span data-look="(\d+)">\1</span>', r"\1", page)
    assert 'INT8 &lt;everywhere&gt; uses 300% of the budget <span class="faint">(trials 1, 2)' in page
    assert "(trials 0, 1, 2, 3, 4, 5, 6, 7 and 4 more)" in page
    assert "<li>nothing</li>" in page
    assert "How the search went" not in render_page(content)


def test_decisions_are_read_from_the_folder(run, no_figures):
    path = RunPaths(run).decisions_path
    write_decisions(path, [Decision("one step", (3,))])
    assert page_content(run).decisions == (Decision("one step", (3,)),)
    path.unlink()
