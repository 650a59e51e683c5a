"""`precision_map.json`: the chosen map with everything that says where it came from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qsens import __version__
from qsens.core.errors import SpecError
from qsens.core.files import write_atomically
from qsens.core.layer import Layer
from qsens.core.maps import anchor_trial
from qsens.core.other_work import share_in_layers
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import check_schema, finite
from qsens.core.spec import SweepSpec
from qsens.core.spec_paths import without_folders
from qsens.core.trial import Provenance, Study, Trial
from qsens.device.audit import LayerAudit
from qsens.device.errors import reason_of
from qsens.device.plain_values import parse_json
from qsens.device.special_files import read_file
from qsens.selection.budget import Budget
from qsens.selection.choose import Selection, is_interval_within
from qsens.selection.reasons import Reason, reasons_of_selection
from qsens.selection.timings import LatencyChoice

SCHEMA_VERSION = 1
_SETTINGS = (
    "target",
    "backend",
    "strategy",
    "placement",
    "weight_scales",
    "grid",
    "range_method",
    "percentile",
    "repair",
    "float_precision",
    "pinned",
    "extractor",
    "calibration_samples",
    "evaluation_samples",
    "batch_size",
    "seed",
)


@dataclass(frozen=True)
class ExportedMap:
    """A precision map read back from a file, with what an engine needs to be built the same way.

    `document` is the whole file as plain values.
    """

    precision_map: PrecisionMap
    layers: tuple[str, ...]
    model_digest: str
    placement: str
    weight_scales: str
    range_method: str
    document: Mapping[str, Any]


def write_precision_map(
    path: Path,
    selection: Selection,
    study: Study,
    spec: SweepSpec,
    provenance: Provenance,
    audit: Mapping[str, LayerAudit],
) -> None:
    """Write what `selection_document` makes of a choice.

    Raises:
        RunFolderError: if the file cannot be written.
    """
    write_document(path, selection_document(selection, study, spec, provenance, audit))


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write the content of a `precision_map.json`. Raises `RunFolderError` if that is impossible."""
    write_atomically(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


def selection_document(
    selection: Selection,
    study: Study,
    spec: SweepSpec,
    provenance: Provenance,
    audit: Mapping[str, LayerAudit],
) -> dict[str, Any]:
    """The chosen map with scores, settings and provenance, checked against the published schema.

    `spec` holds the budget and the guard that the selection was made with, `audit` what the chosen
    trial's engine said of its layers (`qsens.run.evidence.load_audit`), nothing where it said nothing. With
    every layer's precision goes the reason for it, by the trials of the study, and with the map what a
    reader must know of it.
    """
    document = precision_map_document(selection, study, spec, provenance, audit)
    document["reasons"] = _reasons(reasons_of_selection(study, selection))
    document["notes"] = list(selection.notes)
    check_schema(document, "precision_map", "the chosen map")
    return document


def read_precision_map(path: Path) -> ExportedMap:
    """Read and check a `precision_map.json`.

    Raises:
        SpecError: if it cannot be read, naming the key that is wrong.
    """
    try:
        document = parse_json(read_file(path))
    except (OSError, ValueError) as error:
        raise SpecError(
            f"cannot read the precision map {path}: {reason_of(error)}",
            "write one with: qsens select RUN --budget X --write",
        ) from error
    check_schema(document, "precision_map", str(path))
    names = tuple(layer["name"] for layer in document["layers"])
    unknown = [name for name in document["precision_map"]["overrides"] if name not in names]
    if unknown:
        raise SpecError(
            f"{path}: 'precision_map.overrides' names {unknown[0]!r}, which is not among 'layers'",
            "write the file again with: qsens select RUN --budget X --write",
        )
    return ExportedMap(
        precision_map=PrecisionMap.from_json(document["precision_map"]),
        layers=names,
        model_digest=document["model"]["digest"],
        placement=document["settings"]["placement"],
        weight_scales=document["settings"]["weight_scales"],
        range_method=document["settings"]["range_method"],
        document=document,
    )


def precision_map_document(
    selection: Selection,
    study: Study,
    spec: SweepSpec,
    provenance: Provenance,
    audit: Mapping[str, LayerAudit],
) -> dict[str, Any]:
    """The content of `precision_map.json`, but for its reasons, as plain values.

    Infinite scores become `None`.
    """
    values = {**without_folders(spec.of_results), "grid": spec.grid}
    anchors = {str(precision): anchor_trial(study, precision) for precision in Precision}
    document = {
        "schema_version": SCHEMA_VERSION,
        "qsens": __version__,
        "date": provenance.created,
        "spec_digest": study.spec_digest,
        "model": _model(spec, provenance),
        "trial": selection.trial.number,
        "precision_map": selection.precision_map.to_json(),
        "layers": [_layer(layer, selection.trial, audit.get(layer.name)) for layer in study.layers],
        "scores": {
            "chosen": _scores(selection.trial),
            **{name: None if trial is None else _scores(trial) for name, trial in anchors.items()},
        },
        "budget": _budget(selection, spec),
        **({"yardsticks": [asdict(entry) for entry in study.yardsticks]} if study.yardsticks else {}),
        "int8_macs_share": selection.int8_macs_share,
        **_of_all_work(selection, study),
        **({} if selection.latency is None else {"latency": _latency(selection.latency)}),
        "settings": {name: values[name] for name in _SETTINGS if name in values},
        "contents": dict(provenance.contents),
        "versions": dict(provenance.versions),
    }
    return {key: finite(value) for key, value in document.items()}


def _of_all_work(selection: Selection, study: Study) -> dict[str, float]:
    if not study.other_work:
        return {}
    in_layers = share_in_layers(study.layers, study.other_work)
    return {"int8_share_of_all_work": selection.int8_macs_share * in_layers}


def _model(spec: SweepSpec, provenance: Provenance) -> dict[str, str]:
    found = {"digest": provenance.contents.get("graph", "unknown")}
    if spec.model is not None:
        found["name"] = spec.model
    if spec.checkpoint is not None:
        found["file"] = Path(spec.checkpoint).name
    return found


def _layer(layer: Layer, trial: Trial, audit: LayerAudit | None) -> dict[str, str | None]:
    return {
        "name": layer.name,
        "node": layer.node,
        "engine_layer": None if audit is None else audit.engine_layer,
        "block": layer.block,
        "requested": str(trial.requested[layer.name]),
        "applied": None if trial.applied is None else str(trial.applied[layer.name]),
    }


def _reasons(reasons: Mapping[str, Reason]) -> dict[str, dict[str, Any]]:
    return {
        name: {"text": str(reason), "kind": str(reason.kind), "trials": list(reason.trials)}
        for name, reason in reasons.items()
    }


def _scores(trial: Trial) -> list[dict[str, Any]]:
    return [asdict(score) for score in trial.scores]


def _budget(selection: Selection, spec: SweepSpec) -> dict[str, Any]:
    guard = selection.guard
    return {
        "metric": selection.limit.metric,
        "text": _budget_text(selection, spec),
        "allowance": selection.limit.points,
        "excess": selection.excess,
        "is_interval_within": selection.is_interval_within,
        "guard_metric": None if guard is None else guard.metric,
        "guard_allowance": None if guard is None else guard.points,
        "damage": selection.damage,
        "others": [
            {
                "metric": limit.metric,
                "allowance": limit.points,
                "threshold": limit.threshold,
                "is_interval_within": is_interval_within(selection.trial, limit),
            }
            for limit in selection.limits[1:]
            if not limit.is_guard
        ],
    }


def _budget_text(selection: Selection, spec: SweepSpec) -> str:
    if spec.budget:
        return str(Budget.parse(spec.budget))
    limit_ms = None if selection.latency is None else selection.latency.limit_ms
    return f"{selection.limit.points:g}" if limit_ms is None else f"at most {limit_ms:g} ms"


def _latency(choice: LatencyChoice) -> dict[str, Any]:
    table, measured, fp32 = choice.timings.table, choice.measured, choice.timings.fp32
    return {
        "device": table.device_name,
        "runtime": table.runtime_text,
        "batch": choice.timings.batch,
        "median_ms": measured.ms,
        "half_width_ms": measured.half_width_ms,
        "fp32_median_ms": None if fp32 is None else fp32.ms,
        "limit_ms": choice.limit_ms,
        "does_int8_pay": choice.does_int8_pay,
        "maps_left_out": choice.left_out,
        "file": table.path.name,
        "file_digest": table.digest,
    }
