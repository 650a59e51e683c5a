"""The network's picture and the answer at the top: places, what the sentence names, advice that fits."""

from dataclasses import replace

from report_studies import anchors, boundary_study, layer, map_of, on_screen, screened, student_layers, trial

from qsens.core.trial import Study
from qsens.report.interactive_data import run_data
from qsens.report.network_layout import network_layout
from qsens.report.page_answer import answer_section
from qsens.report.page_content import PageContent
from qsens.report.page_network import network_picture
from qsens.report.run_content import advice_text
from qsens.selection.reasons import Reason, ReasonKind

LAYERS = student_layers()


def content_of(study, **more):
    return PageContent("run", study, None, "", (), (), {}, "today", **more)


def test_branches_stand_beside_the_trunk_and_end_where_they_join():
    layers = tuple(layer(place, name, name, 10**place) for place, name in enumerate("abcd"))
    layers = (*layers, layer(4, "side", "side", 10))
    found = network_layout(layers, {"a": (), "b": ("a",), "c": ("b", "side"), "d": ("c", "a"), "side": ()})
    assert [(block.name, block.column, block.lane) for block in found.blocks] == [
        ("a", 0, 0),
        ("b", 1, 0),
        ("c", 2, 0),
        ("d", 3, 0),
        ("side", 0, 1),
    ]
    assert found.edges == ((0, 1), (0, 3), (1, 2), (2, 3))


def test_a_branch_that_runs_first_stands_right_before_where_it_joins():
    layers = tuple(layer(place, name, name, 10) for place, name in enumerate(("side", "a", "b", "c")))
    found = network_layout(layers, {"side": (), "a": (), "b": ("a",), "c": ("side", "b")})
    assert [(block.column, block.lane) for block in found.blocks] == [(1, 1), (0, 0), (1, 0), (2, 0)]


def test_a_block_of_many_layers_is_no_tower():
    layers = tuple(layer(place, f"l{place}", "a" if place else "b", 10) for place in range(40))
    (_, tower), (_, single) = (network_layout(shown, None).blocks for shown in (layers, layers[:2]))
    assert tower.height < 4 * single.height


def test_without_connections_blocks_stand_in_a_row_and_the_picture_says_so():
    found = network_layout(LAYERS, None)
    assert [block.column for block in found.blocks] == list(range(len(found.blocks)))
    assert "did not keep their connections" in network_picture(content_of(Study("s", LAYERS, ())))


def test_a_reason_that_layers_share_is_said_once():
    study = boundary_study(LAYERS)
    chosen = trial(99, LAYERS, map_of(LAYERS, range(2, 23)))
    reason = Reason("beyond <the> limit", (3,), ReasonKind.COSTLY)
    reasons = {entry.name: reason for entry in LAYERS}
    page = answer_section(replace(content_of(study, reasons=reasons), chosen=chosen))
    assert page.count("beyond &lt;the&gt; limit") == 1
    assert "<b>costly</b> 2 of 6" not in page
    assert "<b>costly</b> AE0, AE1: with this in INT8 too" in page


def test_advice_fits_what_was_scored():
    only_psnr = tuple(replace(entry, scores=entry.scores[2:]) for entry in anchors(LAYERS))
    assert "--budget 35 (at least 35 dB)" in advice_text(Study("s", LAYERS, only_psnr))
    assert advice_text(Study("s", LAYERS, ())) == "Nothing was scored yet: let the sweep run on."


def test_a_curve_of_screens_brings_its_own_values():
    layers = LAYERS[:6]
    cuts = [screened(trial(3 + place, layers, map_of(layers, range(place)))) for place in range(1, 6)]
    fp32, *others = anchors(layers)
    study = Study("s", layers, (replace(fp32, screen_scores=on_screen(fp32)), *others, *cuts))
    metric = next(entry for entry in run_data(content_of(study))["metrics"] if entry["lines"])
    line = metric["lines"][0]
    assert line["name"].endswith("screened on 32 images")
    assert len(line["screened"]) == len(line["points"])
    assert all(value is not None for value, _ in line["screened"])
