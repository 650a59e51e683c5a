from html.parser import HTMLParser

from paper_runs import student_run

from qsens.zoo.paper.page import Page, Section, render_html, render_markdown
from qsens.zoo.paper.published import LIMITS
from qsens.zoo.paper.table1 import table1


def page():
    sections = [
        Section("Table 1", tables=(table1(student_run(), None),)),
        Section("Figure <x>", ("How to `read` it.",), stem="figure3", png=b"png"),
    ]
    provenance = {"sweep-student": {"Versions": {"qsens": "1 & 2"}}}
    return Page("qsens zoo paper --out 'a<b'", "2026-01-01", ("Our corpus.",), sections, provenance)


def test_markdown_has_tables_with_as_many_cells_as_headings():
    lines = [line for line in render_markdown(page()).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 9


def test_both_pages_list_every_limit_with_its_command():
    for text in (render_markdown(page()), render_html(page()).replace("&#x27;", "'")):
        for limit in LIMITS:
            assert limit.what in text
            assert limit.why in text
            assert limit.command in text


def test_the_html_is_well_formed_and_escaped():
    text = render_html(page())
    opened = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Reader().feed(text)
    assert opened == []
    assert "Figure &lt;x&gt;" in text
    assert "<code>read</code>" in text
    assert "1 &amp; 2" in text
    assert "http" not in text.replace("http-equiv", "")


def test_markdown_links_the_figure():
    assert "(figures/figure3.png)" in render_markdown(page())
