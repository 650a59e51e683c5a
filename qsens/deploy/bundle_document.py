"""`bundle.json` and the tables beside it: what is exported, what is expected of it, where it came from."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsens import __version__
from qsens.calibration.ranges import Ranges
from qsens.core.csv_text import csv_text
from qsens.core.layer import macs_share, weight_bytes
from qsens.core.maps import anchor_trial
from qsens.core.other_work import other_work_text, share_in_layers
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.schema import check_schema, finite
from qsens.core.targets import Target
from qsens.core.trial import Trial
from qsens.deploy.chosen_map import ChosenMap
from qsens.device.audit import AskedLayer
from qsens.device.bundle_files import DOCUMENT, SCHEMA_VERSION, Bundle
from qsens.engines.float_fallback import AgreedGraph
from qsens.run.reopen import ReopenedRun

INT8_LEVELS = np.float32(127)
SCORES_NOTE = (
    "The scores are those of the map as it was asked for, with these layers in INT8; "
    "`qsens verify --score` scores what ships."
)


@dataclass(frozen=True, eq=False)
class BundleFacts:
    """Everything `bundle.json` is written from."""

    run: ReopenedRun
    target: Target
    chosen: ChosenMap
    agreed: AgreedGraph
    bundle: Bundle
    golden_samples: tuple[int, ...]
    exact_psnr_db: float
    run_path: str | None

    def int8_share(self, precision_map: PrecisionMap) -> float:
        """Share of the multiply-accumulates that a map has in INT8, 0 to 1."""
        return macs_share(self.run.graph.layers, precision_map, Precision.INT8)


def bundle_document(facts: BundleFacts) -> dict[str, Any]:
    """The content of `bundle.json`, checked against the published schema; infinite scores become `None`."""
    bundle, agreed, chosen, run = facts.bundle, facts.agreed, facts.chosen, facts.run
    document = {
        "schema_version": SCHEMA_VERSION,
        "qsens": __version__,
        # That of the run: two exports of it are the same bytes.
        "date": run.provenance.created,
        "target": facts.target.name,
        "runtime": bundle.runtime,
        "flavour": bundle.flavour,
        "batch": bundle.batch,
        "model": _model(facts),
        "map": {
            "requested": chosen.precision_map.to_json(),
            "deployed": agreed.deployed.to_json(),
            "digest": agreed.deployed.digest,
            "int8_macs_share_requested": facts.int8_share(chosen.precision_map),
            "int8_macs_share_deployed": facts.int8_share(agreed.deployed),
        },
        **_other_work(facts),
        "layers": _layers(facts),
        "float_pins": [list(pin) for pin in bundle.float_pins],
        "inputs": [{**asdict(entry), "shape": list(entry.shape)} for entry in bundle.inputs],
        "outputs": list(bundle.outputs),
        **({} if bundle.loop is None else {"loop": asdict(bundle.loop)}),
        "picture": {
            "output": bundle.picture,
            "value_range": list(bundle.value_range),
            "colour_order": run.spec.output.colour_order,
        },
        "goldens": {
            "samples": list(facts.golden_samples),
            "exact_psnr_db": facts.exact_psnr_db,
            "bounds": asdict(bundle.bounds),
            "beyond": None if bundle.beyond is None else asdict(bundle.beyond),
        },
        "scores": _scores(chosen.trial, anchor_trial(run.study, Precision.FP32)),
        "export_audit": _export_audit(agreed),
        "run": _run(facts),
        "notes": [*agreed.notes, *([SCORES_NOTE] if agreed.returned else [])],
        "contents": dict(run.provenance.contents),
        "versions": dict(run.provenance.versions),
    }
    plain: dict[str, Any] = json.loads(json.dumps(finite(document), allow_nan=False))
    check_schema(plain, "bundle", DOCUMENT)
    return plain


def layers_table(asked: Sequence[AskedLayer], agreed: AgreedGraph) -> str:
    """`layers.csv`: every layer under its three names, what was asked, what is expected, what ran here."""
    audit = {row.layer: row for row in agreed.engine.audit} if agreed.engine is not None else {}
    reasons = {entry.layer: entry.reason for entry in agreed.returned}
    columns = ("layer", "node", "engine_layer", "requested", "expected", "actual", "fused_with", "reason")
    rows = []
    for entry in asked:
        row = audit.get(entry.layer)
        rows.append(
            [
                entry.layer,
                entry.node,
                (row and row.engine_layer) or "",
                entry.requested,
                entry.expected,
                (row and row.actual) or "",
                " ".join(row.fused_with) if row is not None else "",
                reasons.get(entry.layer) or (row.note if row is not None else ""),
            ]
        )
    return csv_text(columns, rows)


def ranges_document(ranges: Ranges) -> dict[str, Any]:
    """`ranges.json`: what calibration measured, and the INT8 scale that follows from it."""
    return {
        "method": ranges.method,
        "samples": ranges.samples,
        "digest": ranges.digest,
        "tensors": [
            {**asdict(entry), "scale": float(np.float32(entry.amax) / INT8_LEVELS)}
            for entry in ranges.tensors
        ],
    }


def relative_run(run: Path, out: Path) -> str | None:
    """The path from the bundle to its run; `None` where the path would tell of the machine."""
    run, out, here = run.absolute(), out.absolute(), Path.cwd()
    if out.is_relative_to(run) or (out.is_relative_to(here) and run.is_relative_to(here)):
        return Path(os.path.relpath(run, out)).as_posix()
    return None


def _other_work(facts: BundleFacts) -> dict[str, Any]:
    """The work in no layer, which no map changes; nothing where all work is in layers."""
    layers, other = facts.run.graph.layers, facts.run.graph.other_work
    if not other:
        return {}
    in_int8 = facts.int8_share(facts.agreed.deployed) * share_in_layers(layers, other)
    nodes = [asdict(work) for work in other]
    return {"all_work": {"int8_share": in_int8, "text": other_work_text(layers, other), "in_no_layer": nodes}}


def _model(facts: BundleFacts) -> dict[str, Any]:
    run = facts.run
    return {
        "name": run.generator.name,
        "graph": run.graph.digest,
        "weights": run.generator.digest,
        "notice": run.generator.notice or None,
        "weight_bytes": weight_bytes(run.graph.layers, facts.agreed.lowered.expected),
    }


def _layers(facts: BundleFacts) -> list[dict[str, Any]]:
    known = {layer.name: layer for layer in facts.run.graph.layers}
    reasons = {entry.layer: entry.reason for entry in facts.agreed.returned}
    return [
        {
            **asdict(entry),
            "kind": known[entry.layer].kind,
            "block": known[entry.layer].block,
            "reason": reasons.get(entry.layer),
        }
        for entry in facts.bundle.asked
    ]


def _scores(trial: Trial, fp32: Trial | None) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "chosen": [asdict(score) for score in trial.scores],
        "fp32": None if fp32 is None else [asdict(score) for score in fp32.scores],
    }


def _export_audit(agreed: AgreedGraph) -> dict[str, Any] | None:
    engine = agreed.engine
    if engine is None:
        return None
    return {
        "runtime": {"name": engine.runtime, "version": engine.version},
        "size_bytes": engine.size_bytes,
        "layers": [row.to_json() for row in engine.audit],
    }


def _run(facts: BundleFacts) -> dict[str, Any]:
    spec, run = facts.run.spec, facts.run
    return {
        "path": facts.run_path,
        "spec_digest": run.study.spec_digest,
        "backend": spec.backend,
        "placement": spec.placement,
        "weight_scales": spec.weight_scales,
        "grid": str(run.options.grid),
        "range_method": spec.range_method,
        "repair": spec.stages_of_repair,
        "evaluation_samples": spec.evaluation_samples,
        "seed": spec.seed,
    }
