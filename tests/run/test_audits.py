"""Audits of trials on disk."""

import pytest

from qsens.device.audit import AskedLayer, ExecutedLayer, audit_layers, mismatches
from qsens.run.evidence import load_audit, save_audit

ASKED = (
    AskedLayer("enc.0", "/enc/Conv", "int8", "int8"),
    AskedLayer("dec.0", "/dec/ConvTranspose", "int8", "int8"),
    AskedLayer("out", "/out/Conv", "fp16", "fp32"),
    AskedLayer("gone", "/gone/Conv", "int8", "int8"),
)
EXECUTED = (
    ExecutedLayer("reorder", (), "fp32", "Reorder", is_reformat=True),
    ExecutedLayer("/enc/Conv + /enc/Relu", ("/enc/Conv", "/enc/Relu"), "int8", "imma", note="saturates"),
    ExecutedLayer("deconv", ("/dec/ConvTranspose",), "fp32", "gemm"),
    ExecutedLayer("out", ("/out/Conv",), "fp32", "gemm"),
)


@pytest.fixture
def audit():
    return audit_layers(ASKED, EXECUTED)


def test_each_layer_has_three_names_and_what_runs(audit):
    first = audit[0]
    assert (first.layer, first.node, first.engine_layer) == ("enc.0", "/enc/Conv", "/enc/Conv + /enc/Relu")
    assert (first.actual, first.fused_with, first.reformats, first.note) == (
        "int8",
        ("/enc/Relu",),
        1,
        "saturates",
    )


def test_only_what_the_engine_tells_can_be_a_mismatch(audit):
    assert [row.layer for row in mismatches(audit)] == ["dec.0"]
    assert audit[3].engine_layer is None
    assert audit[3].actual is None


def test_an_audit_comes_back_as_it_was_written(audit, tmp_path):
    save_audit(tmp_path, 7, audit)
    assert tuple(load_audit(tmp_path, 7).values()) == audit


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"layer": "a"}]', "{}"])
def test_a_damaged_audit_is_none(text, tmp_path):
    (tmp_path / "audit-00007.json").write_text(text)
    assert load_audit(tmp_path, 7) == {}
    assert load_audit(tmp_path, 8) == {}
