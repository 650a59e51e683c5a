import json

import pytest
from crafted_archives import RUNS_CODE, parts_of, with_program, write_archive
from tiny_torch import torch

from qsens.core.errors import LoadError
from qsens.generators.exported_program import PROGRAM, open_exported_program
from qsens.generators.program_check import is_known_operator
from qsens.generators.shape_expression import is_plain_expression


class Doubled(torch.nn.Module):
    """A convolution between shapes that are computed."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, image):
        batch, _, height, width = image.shape
        with torch.no_grad():
            shift = image.mean()
        inner = torch.nn.functional.gelu(self.norm(self.conv(image)), approximate="tanh") + shift
        larger = torch.nn.functional.interpolate(inner, size=(2 * height, 2 * width))
        return {"picture": larger.reshape(batch, 4, 2 * height, 2 * width), "others": [inner]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    batch, side = torch.export.Dim("batch"), torch.export.Dim.DYNAMIC
    program = torch.export.export(
        Doubled().eval(), (torch.rand(2, 3, 16, 16),), dynamic_shapes={"image": {0: batch, 2: side, 3: side}}
    )
    path = tmp_path_factory.mktemp("program") / "doubled.pt2"
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def parts(saved):
    return parts_of(saved)


@pytest.mark.slow
def test_a_checked_program_is_the_one_that_torch_loads(saved):
    checked, trusted = open_exported_program(saved), open_exported_program(saved, trust_checkpoint=True)
    assert checked.digest == trusted.digest
    ours, torchs = checked.export().graph, trusted.export().graph
    assert [node.name for node in ours.node] == [node.name for node in torchs.node]
    assert [value.name for value in ours.output] == [value.name for value in torchs.output]

    def scopes(graph):
        key = "pkg.torch.onnx.name_scopes"
        return [entry.value for node in graph.node for entry in node.metadata_props if entry.key == key]

    assert scopes(ours) == scopes(torchs)
    assert any("conv" in scope for scope in scopes(ours))


def _replaced(before, after):
    """A change of every text in the program."""
    return lambda program: json.loads(json.dumps(program).replace(before, after))


def _calls(target, *arguments):
    """A change that puts a call at the start of the graph."""

    def change(program):
        inputs = [{"name": "", "arg": {"as_string": text}, "kind": 1} for text in arguments]
        node = {"target": target, "inputs": inputs, "outputs": [], "metadata": {}, "name": "call"}
        program["graph_module"]["graph"]["nodes"].insert(0, node)

    return change


_MAKES_FOLDER = "__import__('os').mkdir('ran')"
CHANGES = {
    "an expression calls exec": _replaced("Integer(2)", f"exec('{_MAKES_FOLDER[:12]}')"),
    "an expression calls another function": _replaced("Integer(2)", "S('1')"),
    "an expression takes for ever": _replaced(
        "Integer(2)", "Pow(Integer(10), Pow(Integer(10), Integer(10)))"
    ),
    "an operator from anywhere in torch": _calls("torch.serialization.os.mkdir", "ran"),
    "an operator that writes a file": _calls("torch.ops.aten.save.default", "ran"),
    "an operator that reads a file": _calls("torch.ops.aten.from_file.default", "ran"),
    "an operator of a library": _calls("torch.ops.anything.run.default"),
    "an operator as argument": lambda program: program["graph_module"]["graph"]["nodes"][0]["inputs"].append(
        {"name": "", "arg": {"as_operator": "torch.serialization.os.mkdir"}, "kind": 1}
    ),
    "an input whose name is code": _replaced('"image"', f'"image={_MAKES_FOLDER}"'),
    "an output whose name is code": _replaced("picture", _MAKES_FOLDER),
    "an object of a class": lambda program: program["graph_module"]["graph"].update(
        custom_obj_values={"thing": {"name": "thing", "class_fqn": "x"}}
    ),
    "a structure of another class": _replaced("builtins.dict", "torch.serialization.thing"),
    "a counter without end": lambda program: program["range_constraints"].update(
        u99999999999={"min_val": 0, "max_val": 1}
    ),
}
PARTS = {
    "pickled example inputs, seen or not": {"data/sample_inputs/other.pt": RUNS_CODE},
    "weights in the old place": {"data/weights/model.pt": RUNS_CODE},
    "constants in the old place": {"data/constants/model.pt": RUNS_CODE},
    "another program": {"models/other.json": b"{}"},
    "a custom object": {"data/constants/custom_obj_0": RUNS_CODE},
    "an opaque object": {"data/constants/opaque_obj_0": RUNS_CODE},
    "compiled code": {"data/aotinductor/model/code.so": b""},
    "the old format": {"serialized_example_inputs.pt": RUNS_CODE},
    "a pickled weight": {
        "data/weights/model_weights_config.json": json.dumps(
            {"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}
        ).encode(),
        "data/weights/weight_0": RUNS_CODE,
    },
    "a weight of another name": {
        "data/weights/model_weights_config.json": json.dumps(
            {"config": {"w": {"path_name": "../constants/custom_obj_0", "use_pickle": False}}}
        ).encode(),
    },
}


def assert_refused(path, folder):
    with pytest.raises(LoadError, match="wants to run code"):
        open_exported_program(path)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("case", CHANGES)
def test_programs_that_would_run_code_are_refused_and_do_not_run(case, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed = with_program(parts, CHANGES[case])
    assert json.loads(changed[PROGRAM]) != json.loads(parts[PROGRAM])
    assert_refused(write_archive(tmp_path / "evil.pt2", changed), tmp_path)


@pytest.mark.parametrize("case", PARTS)
def test_parts_that_are_more_than_tensors_are_refused_and_do_not_run(case, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(write_archive(tmp_path / "evil.pt2", {**parts, **PARTS[case]}), tmp_path)


def test_what_an_export_does_not_need_is_not_evaluated(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unneeded = {"guards_code": [_MAKES_FOLDER], "verifiers": ["TRAINING"], "torch_version": "9.9"}
    changed = with_program(parts, lambda program: program.update(unneeded))
    open_exported_program(write_archive(tmp_path / "guarded.pt2", changed)).export()
    assert not (tmp_path / "ran").exists()


def test_example_inputs_are_not_read(parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changed = {**parts, "data/sample_inputs/model.pt": RUNS_CODE}
    open_exported_program(write_archive(tmp_path / "inputs.pt2", changed))
    assert not (tmp_path / "ran").exists()


def test_a_weight_that_is_larger_than_the_file_is_refused(parts, tmp_path):
    table = "data/weights/model_weights_config.json"
    entry = json.loads(parts[table])["config"]["conv.bias"]
    entry["tensor_meta"]["sizes"], entry["tensor_meta"]["strides"] = [{"as_int": 2**40}], [{"as_int": 0}]
    config = {"config": {**json.loads(parts[table])["config"], "conv.bias": entry}}
    path = write_archive(tmp_path / "large.pt2", {**parts, table: json.dumps(config).encode()})
    with pytest.raises(LoadError, match=r"'conv\.bias' says it is 1099511627776"):
        open_exported_program(path)


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("Mul(Integer(2), Symbol('s40', positive=True, integer=True))", True),
        ("Pow(Add(Symbol('s0'), Integer(-1)), Integer(2))", True),
        ("FloorDiv(Symbol('s0'), 2) + Mod(s1, 3)", True),
        ("Float('0.5', precision=53) * Symbol('u12')", True),
        ("2*s0 + 1", True),
        ("s0 < oo", True),
        ("S('__import__(1)')", False),
        ("(lambda: 1)()", False),
        ("s0.__class__", False),
        ("[x for x in y]", False),
        ("1 +", False),
        ("factorial(10**9)", False),
        ("factorial(1000000000)", False),
        ("Pow(10, Pow(10, 10))", False),
        ("10**10**10", False),
        ("Pow(Integer(10), Integer(1000000))", False),
        ("Pow(" * 8 + "Integer(9)" + ", 8)" * 8, False),
        ("Mul(" + ", ".join(f"Add(s{i}, 1)" for i in range(60)) + ")", False),
        ("Pow(Add(" + ", ".join(f"s{i}" for i in range(60)) + "), 8)", False),
        ("9" * 4000, False),
        ("Integer(" + "9" * 100 + ")", False),
        ("Float('1e999999999')", False),
        ("Float('1', precision=1000000000)", False),
        ("Symbol('s0', positive=exec)", False),
        ("Symbol('__import__')", False),
        ("Symbol('s0', cls=Integer)", False),
        ("Max(*s0)", False),
        ("Add(**s0)", False),
        ("-" * 3000 + "1", False),
        ("(" * 3000, False),
        ("exec", False),
        ("s0 if s1 else s2", False),
        ("s0 and exec", False),
        ("f'{s0}'", False),
    ],
)
def test_only_bounded_arithmetic_counts_as_a_shape_expression(text, is_plain):
    assert is_plain_expression(text) is is_plain


@pytest.mark.parametrize(
    ("target", "is_known"),
    [
        ("torch.ops.aten.conv2d.default", True),
        ("torch.ops.aten.add.Tensor", True),
        ("_operator.mul", True),
        ("torch.sym_max", True),
        ("torch.ops.higher_order.cond", True),
        ("torch.ops.aten.conv2d", False),
        ("torch.ops.aten.conv2d.__class__", False),
        ("torch.ops.aten.warn.default", False),
        ("torch.ops.prim.rpc_sync.default", False),
        ("torch.ops.load_library", False),
        ("torch.ops.higher_order.flat_apply", False),
        ("_operator.methodcaller", False),
        ("_operator.pow", False),
        ("math.factorial", False),
        ("torch.load", False),
        ("#thing", False),
    ],
)
def test_only_operators_on_tensors_and_sizes_are_known(target, is_known):
    assert is_known_operator(target) is is_known


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
    path = write_archive(tmp_path / "other.pt2", {"photos/a.txt": b"hello"})
    with pytest.raises(LoadError, match=r"no program of torch\.export"):
        open_exported_program(path)


def test_a_damaged_program_is_one_clear_error(tmp_path):
    with pytest.raises(LoadError, match="is damaged"):
        open_exported_program(write_archive(tmp_path / "empty.pt2", {PROGRAM: b"{}"}))
