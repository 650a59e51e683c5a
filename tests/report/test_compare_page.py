"""`compare.html`: what it shows of all runs, that texts are escaped and nothing is fetched."""

import re
from html.parser import HTMLParser

import pytest
from compared_runs import fid_against, write_compared_run
from report_studies import PIXEL

from qsens.core.errors import BudgetError
from qsens.report.compare.compare import CompareOptions, compare_runs
from qsens.report.compare.write import comparison_page

EVIL = "<b>a & b"


class Texts(HTMLParser):
    """Rows of cells, sources of pictures, and whether every element is closed."""

    def __init__(self):
        super().__init__()
        self.rows, self.sources, self.open, self._in_cell = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "wbr", "rect", "path", "link", "input"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self._in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    paths = [
        write_compared_run(folder / "old"),
        write_compared_run(folder / "new", damage=1.5, against=fid_against(reference="9" * 64)),
    ]
    wish = CompareOptions(labels=("mine", EVIL), budget="40", has_gate=True)
    comparison = compare_runs(paths, wish)
    with pytest.raises(BudgetError):
        comparison.check()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qsens.report.write.figures_of", lambda *_, **__: ())
        page = comparison_page(comparison, {"compare-tradeoff": PIXEL})
    texts = Texts()
    # the charting library is one script of megabytes, which the browser tests of the page look at
    texts.feed(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    return page, texts


def test_the_differences_are_a_table_with_every_row(made):
    rows = made[1].rows
    assert [EVIL, "psnr", "all INT8", "-10.00 ± 0.28*", "worse"] in rows
    assert ["psnr", "FP32", "all FP16", "all INT8", "chosen map"] in rows


def test_the_verdict_stands_above_all_tables(made):
    page = made[0]
    verdict = page.index('<div class="answer"><strong>')
    assert verdict < page.index("<table")
    said = page[verdict : page.index("</strong>", verdict)]
    assert "INT8" in said or "No map is chosen" in said
    assert "mine" in said


def test_what_is_not_compared_and_the_gate_are_said(made):
    page = made[0]
    assert "<b>Not compared.</b>fid[lite0]: reference ffffffffffff in mine" in page
    assert "<b>Gate.</b>LOST: the map of mine" in page
    assert "chosen within the common budget" in page


def test_nothing_is_fetched_and_every_text_is_escaped(made):
    page, texts = made
    assert texts.open == []
    assert texts.sources
    assert all(source.startswith(("data:", "#")) for source in texts.sources)
    assert "<b>a & b" not in page
