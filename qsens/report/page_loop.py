"""The part of the report on a loop: how the damage of maps grows along it, and how its inputs move."""

from collections.abc import Sequence

from qsens.report.page_content import LoopContent
from qsens.report.page_tables import wide
from qsens.report.page_text import escape
from qsens.run.step_errors import MapErrors, StepErrors


def loop_section(content: LoopContent) -> str:
    """The section as HTML; empty for a run without a loop."""
    if content.calls is None:
        return ""
    calls = content.calls
    per_sample = calls.total / calls.samples
    if per_sample > 1:
        counts = f"Each picture takes {per_sample:g} calls of the network."
    else:
        counts = "States are handed on from frame to frame."
    counts += (
        f" Ranges were measured on {len(calls.calls)} of the {calls.total} calls that FP32 made of "
        f"{calls.samples} calibration samples."
    )
    texts = [counts, *(() if content.errors is None else growth(content.errors))]
    said = "".join(f"<p>{escape(text)}</p>" for text in texts)
    return f"<h2>Along the loop</h2>{said}{_table(content)}"


def growth(found: StepErrors) -> list[str]:
    """A sentence for each map on how its error grows."""
    return [_growth_of(entry, "frame" if found.are_frames else "call") for entry in found.maps]


def _growth_of(entry: MapErrors, place: str) -> str:
    # Nothing differs before the first call was made.
    moved = [(number, error) for number, error in enumerate(entry.errors, 1) if error > 0]
    if not moved:
        return f"{entry.title}: no difference from FP32."
    (first, start), (last, end) = moved[0], moved[-1]
    worst = max(moved, key=lambda pair: pair[1])
    text = f"{entry.title}: {start:.2%} off FP32 at {place} {first}, {end:.2%} at {place} {last}"
    return f"{text}, most at {worst[0]} ({worst[1]:.2%})." if worst[0] != last else f"{text}, the most."


def _table(content: LoopContent) -> str:
    steps = () if content.calls is None else content.calls.steps
    names = list(dict.fromkeys(name for step in steps for name in step.ends))
    maps: Sequence[MapErrors] = () if content.errors is None else content.errors.maps
    rows = []
    for place in range(max([len(steps), *(len(entry.errors) for entry in maps)])):
        ends = steps[place].ends if place < len(steps) else {}
        ranges = [f"{ends[name][0]:.3g} to {ends[name][1]:.3g}" if name in ends else "—" for name in names]
        errors = [f"{entry.errors[place]:.2%}" if place < len(entry.errors) else "—" for entry in maps]
        rows.append((str(place + 1), *ranges, *errors))
    heads = ("place", *(f"{name}, FP32" for name in names), *(f"{entry.title}: error" for entry in maps))
    head = "".join(f'<th class="text">{escape(text)}</th>' for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    table = wide(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", "Along the loop")
    return f"<details><summary>Ranges of inputs and errors, place by place</summary>{table}</details>"
