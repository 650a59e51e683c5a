import json
import os
import pickle
import zipfile

import pytest

from qsens.errors import LoadError
from qsens.generators.exported_program import is_plain_expression, open_exported_program

pytest.importorskip("torch", reason="needs the extra torch")


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("made-by-the-program",))


def program(path, parts):
    """An archive that looks like one of torch.export.save, with the given parts."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/models/model.json", parts.pop("model", "{}"))
        for name, content in parts.items():
            archive.writestr(f"p/{name}", content)
    return path


EVIL = {
    "sample inputs": {"data/sample_inputs/model.pt": pickle.dumps(RunsCode(), 2)},
    "pickled weight": {
        "data/weights/model_weights_config.json": json.dumps(
            {"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}
        ),
        "data/weights/weight_0": pickle.dumps(RunsCode(), 2),
    },
    "custom object": {"data/constants/custom_obj_0": b""},
    "compiled code": {"data/aotinductor/model/code.so": b""},
    "old format": {"serialized_example_inputs.pt": pickle.dumps(RunsCode(), 2)},
    "expression": {
        "model": json.dumps({"graph": [{"expr_str": "__import__('os').mkdir('made-by-the-program')"}]})
    },
}


@pytest.mark.parametrize("case", EVIL)
def test_programs_that_would_run_code_are_refused_and_do_not_run(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = program(tmp_path / "evil.pt2", dict(EVIL[case]))
    with pytest.raises(LoadError, match="wants to run code"):
        open_exported_program(path)
    assert not (tmp_path / "made-by-the-program").exists()


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("Mul(Integer(2), Symbol('s40', positive=True, integer=True))", True),
        ("2*s0 + 1", True),
        ("S('__import__(1)')", False),
        ("(lambda: 1)()", False),
        ("s0.__class__", False),
        ("[x for x in y]", False),
        ("1 +", False),
    ],
)
def test_only_arithmetic_counts_as_a_shape_expression(text, is_plain):
    assert is_plain_expression(text) is is_plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an archive", "not an archive"),
        (b"<html></html>", "web page"),
        (b"PK\x03\x04cut", "is damaged"),
    ],
)
def test_files_that_are_no_program(content, message, tmp_path):
    path = tmp_path / "small.pt2"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=message):
        open_exported_program(path)


def test_another_archive_is_no_program(tmp_path):
    path = tmp_path / "other.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photos/a.txt", "hello")
    with pytest.raises(LoadError, match=r"no program of torch\.export"):
        open_exported_program(path)


def test_a_damaged_program_is_one_clear_error(tmp_path):
    with pytest.raises(LoadError, match="is damaged"):
        open_exported_program(program(tmp_path / "empty.pt2", {}))
