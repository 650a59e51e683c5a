"""`qsens select`: the cheapest precision map within a budget, and why layers are not in INT8."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from qsens.cli.options import budget_option
from qsens.cli.text import MOST_NAMED, echo_json, latency_lines, shown_ms, text_table
from qsens.core.alterations import title_of
from qsens.core.errors import SpecError
from qsens.core.maps import anchor_trial, int8_share, int8_share_of_all, map_title
from qsens.core.metric_names import (
    Z95,
    images_needed,
    shown_value,
)
from qsens.core.other_work import of_all_work, other_work_text
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Score, Study, Trial, Yardstick
from qsens.device.visible_text import visible_name
from qsens.run.folder import read_run_spec, read_study
from qsens.run.paths import RunPaths
from qsens.selection.answer import ship_command
from qsens.selection.budget import Limit, budget_example
from qsens.selection.choose import Selection, has_scored, is_interval_within, pareto_front
from qsens.selection.choose_by_latency import latency_front
from qsens.selection.precision_map_file import read_precision_map, write_document
from qsens.selection.reason_groups import fold_reasons
from qsens.selection.reasons import reasons_of_selection
from qsens.selection.timings import Timings
from qsens.selection.yardsticks import place_sentences


def reason_lines(study: Study, selection: Selection) -> list[str]:
    """A heading and a line for each group of layers that share a reason; none where all are in INT8."""
    wide = {
        name: reason
        for name, reason in reasons_of_selection(study, selection).items()
        if selection.precision_map[name] is not Precision.INT8
    }
    groups = fold_reasons(study.layers, wide)
    lines = [f"- {group.names}: {group.text}" for group in groups]
    return ["", "Why these are not in INT8:", *lines] if lines else []


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@budget_option(
    help="How much worse than FP32: points (2.0), a share of its score (5%); of PSNR the least dB. Repeat it "
    "with the names of scores for several (fid=5%), all of which hold."
)
@click.option(
    "--guard", help="The same for the distance from the FP32 outputs; the points of a FID budget without it."
)
@click.option("--metric", help="The score the budget is on; the distance to real images without it.")
@click.option(
    "--latency", type=click.Path(path_type=Path), metavar="FILE", help="Choose by the times in this file."
)
@click.option(
    "--batch", type=click.IntRange(min=1), help="Batch size of those times; the smallest without it."
)
@click.option(
    "--latency-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="The best score within that many milliseconds.",
)
@click.option("--write", is_flag=True, help="Write the map to RUN/precision_map.json, which export ships.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def select(
    run: Path,
    *,
    budget: str | None,
    guard: str | None,
    metric: str | None,
    latency: Path | None,
    batch: int | None,
    latency_limit: float | None,
    write: bool,
    as_json: bool,
) -> None:
    """Choose the cheapest precision map of the folder RUN within a budget, and show it.

    Cheapest means the largest share of multiply-accumulates in INT8; with --latency, the shortest time on
    the device that `qsens bench` wrote the file on. Without a budget here or in the run's spec, it is what
    JPEG 95 does to FP32's pictures; where a run has not scored that, the maps worth choosing from are
    listed. Nothing is written without --write. Exit code 3: no map is within it.
    """
    from qsens.run.choice import ChoiceWishes, choice_document, choose_map_of_run  # loads what a sweep loads

    study, own = read_study(run), read_run_spec(run)
    wishes = ChoiceWishes(budget, guard, metric, latency, batch, latency_limit)
    spec, aim = wishes.of_run(own), wishes.aim(run, study)
    is_default = (budget or own.budget or latency_limit) is None
    if is_default and spec.budget is not None and not has_scored(study, spec.budget):
        _warn_of_missing(run, study)
        _show_front(study, aim.metric, aim.timings, as_json=as_json)
        _tell_of_default(run, spec.budget)
        return
    selection = choose_map_of_run(run, study, spec, aim)
    document = choice_document(run, study, spec, selection)
    _warn_of_missing(run, study)
    outcome = outcome_lines(run, document, ship_command(str(run), own.target), is_written=write)
    if write:
        write_document(RunPaths(run).precision_map_path, document)
    if as_json:
        echo_json(document)
        click.echo(outcome, err=True)
    else:
        click.echo(f"{selection_text(study, selection)}\n\n{outcome}")


def _tell_of_default(run: Path, default: str) -> None:
    command = f"qsens sweep --spec {RunPaths(run).spec_path} --out {run}"
    text = f"Note: {default}, the budget where none is given, was not scored in this run."
    click.echo(f"{text} The same sweep scores it, and no map again: {command}", err=True)


def outcome_lines(run: Path, document: Mapping[str, Any], ship: str, *, is_written: bool) -> str:
    """The map that the run's `precision_map.json` holds, and what is next: to `ship` this one, or keep it."""
    path, before = RunPaths(run).precision_map_path, "no map yet"
    if path.exists():
        try:
            kept = read_precision_map(path).document
        except SpecError:
            before = "a damaged file"
        else:
            before = f"trial {kept['trial']} (budget {kept['budget']['text']})"
            if all(kept[key] == document[key] for key in ("spec_digest", "trial", "precision_map")):
                before = f"this map already (budget {kept['budget']['text']})"
    if is_written:
        return f"Written: {path}, where there was {before}\nShip it: {ship}"
    if before.startswith("this map"):
        return f"Not written: {path} holds {before}\nShip it: {ship}"
    how = f"the same command with --write puts trial {document['trial']} there"
    return f"Not written: {path} holds {before}; {how}"


def selection_text(study: Study, selection: Selection) -> str:
    """The chosen map, the reference maps, what limits it and why, and what cannot be told from it."""
    anchors = [anchor_trial(study, precision) for precision in Precision]
    trials = [trial for trial in anchors if trial is not None and trial is not selection.trial]
    timings = None if selection.latency is None else selection.latency.timings
    parts = [
        trials_table(study, [selection.trial, *trials], marked=selection.trial, timings=timings),
        "",
        *_scale_lines(study, selection.trial),
        *selection.notes,
        *(latency_lines(selection.latency) if selection.latency else ()),
        *_limit_lines(selection),
        *filter(None, [other_work_text(study.layers, study.other_work)]),
        *_overflow_lines(selection.trial),
        *_mismatch_lines(selection.trial),
        *_output_lines(selection.trial),
        *([] if study.repair is None else [study.repair.text]),
        "",
        layers_table(study, selection.precision_map),
        *reason_lines(study, selection),
    ]
    if selection.ties:
        numbers = ", ".join(str(trial.number) for trial in selection.ties[:MOST_NAMED])
        if len(selection.ties) > MOST_NAMED:
            numbers += f" and {len(selection.ties) - MOST_NAMED} more"
        noun = "trial" if len(selection.ties) == 1 else "trials"
        parts += [
            "",
            f"Within the limits too, and no difference at this sample size on {selection.limit.metric}: "
            f"{noun} {numbers}; --trial of qsens export ships one of them.",
        ]
    return "\n".join(parts)


def _output_lines(trial: Trial) -> list[str]:
    """The worst of several scored outputs, and what the map does to outputs that are not scored."""
    worst = [f"{score.metric} by {visible_name(score.output)}" for score in trial.scores if score.output]
    lines = [f"Of the scored outputs the worst decides: {', '.join(worst)}."] if worst else []
    return lines + [
        f"Output {visible_name(name)} is not scored; it differs from FP32's by {error:.2%} (relative error)."
        for name, error in trial.output_errors
    ]


def _scale_lines(study: Study, chosen: Trial) -> list[str]:
    """Sentences on what the chosen map, and INT8 everywhere, cost in familiar alterations."""
    int8 = anchor_trial(study, Precision.INT8)
    others = [] if int8 is chosen else [("INT8 everywhere", int8)]
    return place_sentences(study, [("The chosen map", chosen), *others])


def trials_table(
    study: Study, trials: Sequence[Trial], marked: Trial | None = None, timings: Timings | None = None
) -> str:
    """Trials with their INT8 share, their measured time and scores; an asterisk at the marked one.

    What follows a `±` is half the 95% interval: of the median, and of the score's difference from FP32.
    """
    times = ("ms",) if timings is not None else ()
    # Engines that run what they were given leave the column out.
    shows_mismatches = any(trial.mismatches for trial in trials)
    header = ("", "trial", "map", "INT8 MACs", *times, *study.metrics)
    header += ("mismatches",) if shows_mismatches else ()
    rows = [
        (
            "*" if trial is marked else "",
            str(trial.number),
            map_title(trial.requested, study.layers),
            _share_text(study, trial),
            *(() if timings is None else (shown_ms(timings.of(trial)),)),
            *(shown_score(trial, metric) for metric in study.metrics),
            *((str(len(trial.mismatches)),) if shows_mismatches else ()),
        )
        for trial in trials
    ]
    # What FP32's own pictures score after familiar alterations: the scale of every column.
    rows += [
        (
            *("", "", f"FP32, {title_of(entry.alteration)}", "", *("" for _ in times)),
            *(shown_score(entry, metric) for metric in study.metrics),
            *(("",) if shows_mismatches else ()),
        )
        for entry in study.yardsticks
    ]
    table = text_table(header, rows, right=(1, 3, *range(4, len(header))))
    has_intervals = any("±" in cell for row in rows for cell in row)
    meaning = "of the median, and of the difference from FP32" if times else "of the difference from FP32"
    return f"{table}\n\n±: 95% interval {meaning}" if has_intervals else table


def _share_text(study: Study, trial: Trial) -> str:
    share = int8_share(study, trial)
    return f"{100 * share:.1f}%{of_all_work(share, study.layers, study.other_work)}"


def layers_table(study: Study, precision_map: PrecisionMap) -> str:
    """Runs of neighbouring layers that share a block and a precision, in execution order."""
    rows: list[tuple[str, str, str]] = []
    run: list[str] = []
    key = None
    for layer in sorted(study.layers, key=lambda layer: layer.index):
        if key is not None and key != (layer.block, precision_map[layer.name]):
            rows.append((_run_name(run), key[0], key[1].upper()))
            run = []
        key = (layer.block, precision_map[layer.name])
        run.append(layer.name)
    if key is not None:
        rows.append((_run_name(run), key[0], key[1].upper()))
    return text_table(("layers", "block", "precision"), rows)


def _run_name(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)})"


def _limit_lines(selection: Selection) -> list[str]:
    guard, trial = selection.guard, selection.trial
    lines = [_limit_line(trial, limit) for limit in selection.limits if not (limit.is_guard or limit.is_open)]
    if guard is not None and selection.damage is not None and not guard.is_open:
        lines.append(
            f"{guard.metric}: {selection.damage:.4g}, at most {guard.threshold:.4g} allowed as the guard"
            f"{'' if guard.alteration is None else f' ({guard.alteration.title})'}"
        )
    return lines


def _limit_line(trial: Trial, limit: Limit) -> str:
    word = "at most" if limit.lower_is_better else "at least"
    score = trial.score(limit.metric)
    value = f" {_number(score)}," if score is not None else ""
    why = [] if limit.alteration is None else [limit.alteration.title]
    why += [f"FP32 {limit.baseline:.4g}"] if math.isfinite(limit.baseline) else []
    line = f"{limit.metric}:{value} {word} {limit.threshold:.4g} allowed"
    line += f" ({'; '.join(why)})" if why else ""
    is_within = is_interval_within(trial, limit)
    if is_within is None:
        return line
    whether = "lies within it too" if is_within else _beyond(score, limit)
    return f"{line}; the 95% interval of the difference {whether}"


def _beyond(score: Score | None, limit: Limit) -> str:
    """The number of samples that would put the interval within the limit, if the score stays what it is."""
    error = None if score is None else score.difference_standard_error
    text = "reaches beyond it: score more samples"
    if score is None or not error or limit.excess(score.value) >= 0:
        return text
    needed = images_needed(error, score.images, -limit.excess(score.value))
    return f"{text}, about {needed:,} instead of {score.images:,} (--evaluation-samples)"


def _overflow_lines(trial: Trial) -> list[str]:
    if not trial.fp16_overflows:
        return []
    worst, count = max(trial.fp16_overflows, key=lambda entry: entry[1])
    return [
        f"Warning: FP16 overflowed in {len(trial.fp16_overflows)} layers, most in {worst!r} ({count} values)."
    ]


def _mismatch_lines(trial: Trial) -> list[str]:
    if not trial.mismatches:
        return []
    named = ", ".join(trial.mismatches[:3]) + (", ..." if len(trial.mismatches) > 3 else "")
    return [f"Warning: the engine runs {len(trial.mismatches)} layers in another precision: {named}."]


def shown_score(trial: Trial | Yardstick, metric: str) -> str:
    """A trial's or yardstick's score as text, with half the 95% interval of its difference from FP32."""
    score = trial.score(metric)
    if score is None:
        return "-"
    error = score.difference_standard_error
    if not error or not math.isfinite(error) or not math.isfinite(score.value):
        return _number(score)
    half_width = Z95 * error
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{score.value:.{decimals}f} ± {half_width:.{decimals}f}"


def _number(score: Score) -> str:
    value = shown_value(score.metric, score.value)
    return "∞" if value == math.inf else f"{value:.4g}"


def _warn_of_missing(run: Path, study: Study) -> None:
    # loads NumPy, which a wrong folder need not wait for
    from qsens.report.run_content import missing_maps

    missing = missing_maps(run, study)
    if missing:
        click.echo(f"Warning: the sweep is not finished, {missing} maps have no score yet", err=True)


def _show_front(study: Study, metric: str, timings: Timings | None, *, as_json: bool) -> None:
    front = pareto_front(study, metric) if timings is None else latency_front(study, timings, metric)
    if as_json:
        rows = [
            {
                "trial": trial.number,
                "int8_macs_share": int8_share(study, trial),
                **({"int8_share_of_all_work": int8_share_of_all(study, trial)} if study.other_work else {}),
                **({} if timings is None else {"median_ms": timings.by_trial[trial.number].ms}),
            }
            for trial in front
        ]
        echo_json({"metric": metric, "front": rows})
        return
    click.echo(front_table(study, metric, timings))
    click.echo(f"\nChoose one with a budget: {budget_example(metric)}; --write keeps it")


def front_table(study: Study, metric: str, timings: Timings | None = None) -> str:
    """The reference maps, and the maps that no other beats in both cost and score.

    Cost is the share of MACs in INT8, or the measured time where there is one.
    """
    references = [anchor_trial(study, precision) for precision in Precision]
    front = pareto_front(study, metric) if timings is None else latency_front(study, timings, metric)
    shown = {trial.number: trial for trial in (*references, *front) if trial is not None}
    ordered = sorted(shown.values(), key=lambda trial: (int8_share(study, trial), trial.number))
    cost = "INT8 share" if timings is None else "time"
    place = "" if timings is None else f"\nTimes: {timings.place}."
    caption = f"The references, and the maps that no other beats in both {cost} and {metric}:"
    other = other_work_text(study.layers, study.other_work)
    table = trials_table(study, ordered, timings=timings)
    return f"{caption}\n\n{table}{place}" + (f"\n\n{other}" if other else "")
