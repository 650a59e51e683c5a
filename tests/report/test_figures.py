import io
import sys
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image
from report_studies import (
    METRICS,
    anchors,
    boundary_study,
    ends_study,
    isolating_study,
    map_of,
    pictures,
    screening_study,
    student_layers,
    style_layers,
    teacher_layers,
    trial,
)

from qsens.core.metric_names import axis_title, format_value, headline_metrics, short_name
from qsens.core.trial import Study, Yardstick
from qsens.report.figures import sensitivity_bars
from qsens.report.figures.all_figures import Levels, figures_of
from qsens.report.figures.block_axis import (
    block_spans,
    crowded_spans,
    cut_middle,
    layer_titles,
    short_names,
)
from qsens.report.figures.boundary import boundary_figure
from qsens.report.figures.boundary_curve import boundary_curve
from qsens.report.figures.ends import ends_figure, ends_grid
from qsens.report.figures.sensitivity import sensitivity_of
from qsens.report.figures.sensitivity_bars import sensitivity_figure
from qsens.report.figures.style import (
    INK,
    LIMIT_LOOK,
    add_header,
    marker_handle,
    new_figure,
    render_png,
    render_svg,
    spread,
    whole_ticks,
)

FID = METRICS[0]
SMALL = style_layers()[:6]


def drawn(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def test_numbered_neighbours_become_groups():
    spans = block_spans(student_layers())
    assert [(span.name, span.start, span.stop) for span in spans.groups] == [
        ("AE", 0, 6),
        ("FE", 6, 14),
        ("FD", 14, 21),
        ("OUT", 21, 23),
    ]
    assert [span.name for span in spans.members][:5] == ["0", "1", "2", "3", "4"]
    assert (spans.members[4].start, spans.members[4].stop) == (4, 6)
    long = block_spans(teacher_layers())
    assert [span.name for span in long.groups][1:] == [
        "face_encoder_blocks",
        "face_decoder_blocks",
        "output_block",
    ]


def test_labels_are_crowded_only_where_neighbours_touch():
    spans = block_spans(style_layers()).groups
    assert [spans[place].name for place in crowded_spans(spans, 0.35)] == [
        "upsample_a",
        "upsample_b",
        "to_rgb",
    ]
    assert crowded_spans(spans, 3.0) == ()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=5), st.floats(0.01, 0.2))
def test_labels_are_spread_without_overlap_and_in_order(positions, gap):
    moved = spread(positions, gap)
    order = sorted(range(len(positions)), key=lambda place: positions[place])
    for low, high in pairwise(order):
        assert moved[high] - moved[low] >= gap * 0.999
    assert sum(moved) == pytest.approx(sum(positions), abs=1e-6)


def test_names_lose_what_they_share_but_stay_different():
    names = [layer.name for layer in teacher_layers()]
    short = short_names(names)
    assert short[0] == "audio_encoder.0.0"
    assert len(set(short)) == len(names)
    similar = [f"a_very_long_common_beginning_{letter}_and_a_very_long_common_end" for letter in "xyz"]
    assert short_names(similar) == ["…x…", "…y…", "…z…"]
    assert short_names(["same", "same"]) == ["same", "same"]
    assert cut_middle("abcdefghij", 7) == "abc…hij"


def test_metric_names_always_show_their_extractor():
    assert short_name("fid-fp32[lite0]") == "FID-FP32[lite0]"
    assert axis_title("fid-fp32[lite0]") == "FID[lite0] against the FP32 outputs"
    assert axis_title("lip-sync") == "lip-sync"
    assert headline_metrics(("ssim", "psnr", "fid[lite0]", "kid")) == ("fid[lite0]", "psnr")
    assert headline_metrics(("a", "b", "c", "d")) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.3, "5.300"),
        (156.62, "156.6"),
        (0.002, "0.0020"),
        (0.00002, "0.000020"),
        (0.0, "0"),
        (None, "—"),
        (float("nan"), "—"),
        (float("inf"), "∞"),
        (-1.25, "-1.250"),
    ],
)
def test_values_are_written_with_four_digits(value, text):
    assert format_value(value) == text


def test_every_figure_of_a_study_renders_without_pyplot(monkeypatch):
    # Other tests of the same process may have loaded it.
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    study = boundary_study(SMALL)
    figures = figures_of(study, chosen=7, samples=pictures(study, count=1, size=16))
    assert [entry.name for entry in figures] == [
        "boundary",
        "sensitivity-fid-lite0",
        "sensitivity-fid-fp32-lite0",
        "sensitivity-psnr",
        "tradeoff",
        "samples",
    ]
    for entry in (figures[1], figures[-1]):
        assert drawn(render_png(entry.figure)).std() > 5
    first, second = (render_svg(figures[-1].figure, "samples") for _ in range(2))
    assert first == second
    assert b"<svg" in first
    assert "matplotlib.pyplot" not in sys.modules


def test_the_ends_map_renders():
    names = {entry.name: entry for entry in figures_of(ends_study(SMALL, 3))}
    assert "boundary" not in names
    assert drawn(render_png(names["ends"].figure)).std() > 5


def test_bars_can_be_sorted_worst_first():
    sensitivity = sensitivity_of(isolating_study(SMALL), FID)
    figure = sensitivity_figure(sensitivity, "sorted", sort=True)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "residual_1.conv4"
    in_order = sensitivity_figure(sensitivity, "in order").axes[0].get_yticklabels()
    assert [label.get_text() for label in in_order] == [layer.name for layer in SMALL]


def test_of_many_units_those_with_the_largest_effects_are_drawn(monkeypatch):
    found = sensitivity_of(isolating_study(SMALL), FID)
    by_size = sorted(found.of(found.labels[0]), key=lambda effect: -abs(effect.value))
    alone = replace(found, effects=found.of(found.labels[0]))
    monkeypatch.setattr(sensitivity_bars, "MOST_ROWS", 2)
    figure = sensitivity_figure(alone, "few")
    kept = {effect.name for effect in by_size[:2]}
    wanted = [effect.name for effect in alone.effects if effect.name in kept]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == short_names(wanted)
    assert any(f"The 2 of {len(by_size)} with the largest" in text.get_text() for text in figure.texts)


def test_each_file_of_a_figure_is_drawn_once(monkeypatch):
    figure = sensitivity_figure(sensitivity_of(isolating_study(SMALL[:3]), FID), "twice")
    drawn_by, draw = [], type(figure).draw
    monkeypatch.setattr(
        type(figure), "draw", lambda self, renderer: [drawn_by.append(renderer), draw(self, renderer)]
    )
    render_png(figure)
    assert len(drawn_by) == 1
    render_svg(figure, "twice")
    assert len(drawn_by) == 2


def test_a_study_without_scores_has_no_figures():
    assert figures_of(Study("s", SMALL, ())) == ()


def test_anchors_alone_have_a_trade_off_only():
    assert [entry.name for entry in figures_of(Study("s", SMALL, tuple(anchors(SMALL))))] == ["tradeoff"]


def drawn_texts(figure):
    """Every text that is really drawn, with its box in pixels; slanted ones are left out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    outside = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            outside |= {
                id(tick.label1) for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high
            }
    for text in figure.findobj(Text):
        box = text.get_window_extent(canvas.get_renderer())
        is_shown = text.get_visible() and text.get_text().strip() and id(text) not in outside
        if is_shown and box.width > 0 and text.get_rotation() in (0, 90):
            yield text.get_text(), box


@pytest.mark.slow
@pytest.mark.parametrize("layers", [style_layers(), student_layers(), teacher_layers()])
def test_no_text_of_the_boundary_figure_overlaps_or_is_cut_off(layers):
    study = boundary_study(layers)
    curves = [boundary_curve(study, metric) for metric in METRICS]
    figure = boundary_figure(curves, layers, "Quality against the boundary")
    texts = list(drawn_texts(figure))
    assert len(texts) > 40
    whole = figure.bbox
    for text, box in texts:
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= whole.x1 + 1, text
        assert box.y1 <= whole.y1 + 1, text
    for (text, box), (other_text, other) in combinations(texts, 2):
        wide = min(box.x1, other.x1) - max(box.x0, other.x0)
        high = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert min(wide, high) <= 1.5, (text, other_text)


def test_a_figure_of_screens_names_their_images_and_keeps_them_in_a_panel_of_their_own():
    study = screening_study(SMALL)
    figure = sensitivity_figure(sensitivity_of(study, FID), "screens")
    assert [axes.get_title("left") for axes in figure.axes] == [
        "only this in INT8, the rest in float, on 32 images"
    ]
    assert any("scored on a screen's images only" in text.get_text() for text in figure.texts)
    more = trial(3 + len(SMALL), SMALL, map_of(SMALL, [2]))
    both = Study("s", SMALL, (*study.trials, more))
    full, there = sensitivity_figure(sensitivity_of(both, FID), "both").axes
    titles = [axes.get_title("left") for axes in (full, there)]
    assert titles == [
        "only this in INT8, the rest in float",
        "only this in INT8, the rest in float, on 32 images",
    ]
    assert full.get_xlim() == there.get_xlim()
    captions = [entry.caption for entry in figures_of(both) if entry.name == "sensitivity-fid-lite0"]
    assert "Bars on 32 images are of maps that the search screened" in captions[0]


MARKUP = ("$x^{$", "_under", r"\frac{", "<b>bold</b>", "a$b$c", "%s {0}", "$\\undefined$")


def test_names_are_no_markup_in_figures():
    layers = tuple(
        replace(entry, name=f"{name}.{entry.index}", block=name)
        for entry, name in zip(SMALL, MARKUP, strict=False)
    )
    metric = "fid[$a_{$]"
    figures = {}
    for study in (boundary_study(layers), ends_study(layers, 3)):
        named = [
            replace(entry, scores=tuple(replace(score, metric=metric) for score in entry.scores[:1]))
            for entry in study.trials
        ]
        found = figures_of(replace(study, trials=tuple(named)), samples=pictures(study, 1, 8))
        figures |= {entry.name: entry.figure for entry in found}
    assert {"boundary", "ends", "samples", "tradeoff"} < set(figures)
    for figure in figures.values():
        assert render_png(figure)


def test_a_text_with_dollars_is_drawn_as_it_is():
    """Mathematics would drop the dollars and slant the letters."""
    shown = {}
    for text in ("$abc$", "_abc_"):
        figure = new_figure(4, 2)
        add_header(figure, text, {text: marker_handle("o", INK, INK, 5)}, text)
        axes = figure.subplots()
        axes.set_xticks([0, 1], [text, text])
        shown[text] = render_svg(figure, "salt").decode()
        assert [label.get_text() for label in figure.legends[0].get_texts()] == [text]
    assert shown["$abc$"].count("<!-- $abc$ -->") == 5
    assert "Oblique" not in shown["$abc$"]
    assert shown["_abc_"].count("<!-- _abc_ -->") == 5


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("value", [1e308, 5e-324])
def test_scores_of_any_size_are_drawn(value):
    study = boundary_study(SMALL)
    last = study.trials[-1]
    changed = replace(last, scores=tuple(replace(score, value=value) for score in last.scores))
    curve = boundary_curve(replace(study, trials=(*study.trials[:-1], changed)), FID)
    assert render_png(boundary_figure([curve], SMALL, "any size"))


def test_a_panel_of_infinite_scores_only_is_drawn_without_ticks():
    study = boundary_study(SMALL)
    same = [
        replace(
            entry,
            scores=tuple(
                replace(score, value=100.0) if score.metric == "psnr" else score for score in entry.scores
            ),
        )
        for entry in study.trials
    ]
    curves = [boundary_curve(replace(study, trials=tuple(same)), metric) for metric in (FID, "psnr")]
    figure = boundary_figure(curves, SMALL, "every picture is FP32's")
    assert len(figure.axes[0].get_yticks()) > 0
    assert len(figure.axes[1].get_yticks()) == 0
    labels = [text.get_text() for text in figure.axes[1].texts]
    assert len(labels) == 3, "the reference lines are named all the same"


def test_a_boundary_axis_of_any_length_has_few_ticks():
    axis = new_figure(5, 3).subplots().xaxis
    for layers in (3, 14_001, 2_000_000):
        whole_ticks(axis, layers)
        ticks = list(axis.get_ticklocs())
        assert len(ticks) <= 16
        assert (ticks[0], ticks[-1]) == (0, layers)


def test_the_limit_is_a_line_in_the_boundary_figure_and_in_the_trade_off():
    study = boundary_study(SMALL[:2])
    found = figures_of(study, levels=Levels(limits={METRICS[0]: 9.5}))
    shown = {entry.name: entry.figure for entry in found}
    for name in ("boundary", "tradeoff"):
        first, *others = shown[name].axes
        at = [line.get_ydata()[0] for line in first.lines if line.get_color() == LIMIT_LOOK[0]]
        assert at == [9.5]
        assert not [line for axes in others for line in axes.lines if line.get_color() == LIMIT_LOOK[0]]


def of_the_limit(axes):
    return [line for line in axes.lines if line.get_color() == LIMIT_LOOK[0]]


def test_bars_of_single_layers_have_the_limit_counted_from_where_they_start():
    study = isolating_study(SMALL)
    found = replace(sensitivity_of(study, FID), limit=9.5)
    fp32, int8 = (study.anchors[name].score(FID).value for name in ("fp32", "int8"))
    at = [line.get_xdata()[0] for axes in sensitivity_figure(found, "t").axes for line in of_the_limit(axes)]
    assert at == pytest.approx([9.5 - fp32, 9.5 - int8])
    (screened,) = sensitivity_of(screening_study(SMALL), FID).starts.values()
    assert screened == pytest.approx(fp32)


def test_in_the_map_of_ends_the_limit_parts_cells_within_from_cells_beyond():
    grid = ends_grid(ends_study(SMALL, 3), FID)
    values = sorted(cell.value for cell in grid.cells)
    limit = (values[0] + values[1]) / 2
    panel, bar = ends_figure([replace(grid, limit=limit)], "t").axes
    (best,) = (cell for cell in grid.cells if cell.value == values[0])
    place = (grid.lasts.index(best.last), grid.firsts.index(best.first))
    edges = of_the_limit(panel)
    assert edges
    for line in edges:
        middle = np.mean(line.get_xdata()), np.mean(line.get_ydata())
        assert np.abs(np.subtract(middle, place)).sum() == 0.5
    assert of_the_limit(bar)[0].get_ydata()[0] == limit


def test_layers_with_long_names_are_called_by_their_block_and_place():
    names = ("part.first.block.conv", "part.second.block.conv.inner", "part.second.block.conv.outer")
    blocks = ("A", "B", "B")
    layers = [
        replace(layer, name=name, block=block)
        for layer, name, block in zip(SMALL[:3], names, blocks, strict=True)
    ]
    assert list(layer_titles(layers, 30).values()) == short_names(names)
    assert layer_titles(layers, 12) == dict(zip(names, ("A", "B 1/2", "B 2/2"), strict=True))


def test_figures_say_in_familiar_words_what_int8_costs():
    study = boundary_study(SMALL)
    fp32, *others = study.trials
    ladder = (Yardstick("jpeg:95", others[2].scores), Yardstick("jpeg:50", study.anchors["int8"].scores))
    told = replace(study, trials=(replace(fp32, yardsticks=ladder), *others))
    for entry in figures_of(told):
        if entry.name in ("boundary", "tradeoff"):
            texts = " ".join(text.get_text() for text in entry.figure.texts)
            assert "INT8 everywhere costs about as much as JPEG 50" in texts.replace("\n", " ")


def test_a_chosen_map_with_two_ends_in_float_is_marked_in_the_boundary_figure():
    both = trial(99, SMALL, map_of(SMALL, [2, 3]))
    study = boundary_study(SMALL)
    study = replace(study, trials=(*study.trials, both))
    figure = boundary_figure([boundary_curve(study, FID, both.number)], SMALL, "title")
    (star,) = (line for line in figure.axes[0].lines if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (len(SMALL) + 0.5, both.score(FID).value)
    assert "chosen map" in [text.get_text() for text in figure.legends[0].get_texts()]
