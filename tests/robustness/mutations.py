"""Seeded damage to files of every kind that qsens reads: by bytes, by structure, by what lies beside them.

Every mutation changes files below one folder and draws everything from the generator it is given. What runs
if it is executed makes a file named `ran` in that folder.
"""

import hashlib
import io
import json
import os
import pickle
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

Mutation = Callable[[Path, random.Random], None]
RAN = "ran"
# Values that belong nowhere, or that a reader may take for something else.
ODD_VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**70, -(2**64), 1e308, 0.5, "", "0", "int8",
    "x" * 100_000, "$x^{2", "a\x00b", "a\rb\nc", "\x1b[2J\x1b]0;x\x07", "\udcff", "=1+1", "../../x",
    "/dev/zero", "\u202e", "<b>",
    [], {}, [[]], {"": None}, [None] * 50, float("nan"), float("inf"),
)  # fmt: skip


def payload(folder: Path) -> str:
    """Python that leaves a mark if anything runs it."""
    return f"open({str(folder / RAN)!r}, 'w').close()\n"


class _Marks:
    """Leaves a mark when it is read from a pickle by a reader that runs code."""

    def __init__(self, folder: Path) -> None:
        self.code = payload(folder)

    def __reduce__(self):
        return (exec, (self.code,))


def evil_pickle(folder: Path) -> bytes:
    return pickle.dumps(_Marks(folder), 2)


# Bytes


def damage_bytes(path: Path, rng: random.Random) -> None:
    """Flip, cut, repeat, zero, insert, or replace by large numbers."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(content) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 100))
        kind = rng.randrange(7)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            content[place:place] = content[place : place + length]
        elif kind == 3:
            content[place : place + length] = bytes(length)
        elif kind == 4:
            content[place:place] = rng.randbytes(length)
        elif kind == 5:
            content[place : place + length] = b"\xff" * length
        else:
            del content[place : place + length]
    path.write_bytes(bytes(content))


def replace_file(path: Path, rng: random.Random) -> None:
    """Something else stands where the file was."""
    content = path.read_bytes()
    path.unlink()
    stand_ins: tuple[Callable[[], object], ...] = (
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to(path.with_name("absent")),
        path.mkdir,
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"<!doctype html>" + content[:100]),
        lambda: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        lambda: path.write_bytes(rng.randbytes(rng.choice((1, 10, 5000)))),
    )
    rng.choice(stand_ins)()


# Text


def _places(value: object, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


def _odd(rng: random.Random) -> object:
    if rng.random() < 0.08:
        deep: object = []
        for _ in range(rng.choice((70, 2000))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    return rng.choice(ODD_VALUES)


def odd_value(value: object, rng: random.Random) -> object:
    """The value with one place in it replaced, removed, doubled or renamed."""
    place = rng.choice(_places(value))
    if not place:
        return _odd(rng)
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    key, kind = place[-1], rng.randrange(5)
    if kind <= 2:
        holder[key] = _odd(rng)
    elif kind == 3:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(key, holder[key])
    else:
        holder[str(rng.choice(ODD_VALUES))[:50]] = holder.pop(key)
    return value


def _dumped(value: object) -> bytes:
    # Deeper than json.dumps goes.
    text, depth = None, 0
    while text is None:
        try:
            text = json.dumps(value)
        except RecursionError:
            value, depth = "deep", 100_000
    return (text if not depth else "[" * depth + "]" * depth).encode("utf-8", "surrogatepass")


def damage_json(path: Path, rng: random.Random) -> None:
    path.write_bytes(_dumped(odd_value(json.loads(path.read_bytes()), rng)))


def damage_json_lines(path: Path, rng: random.Random) -> None:
    lines = path.read_bytes().splitlines()
    number = rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind <= 2:
        lines[number] = _dumped(odd_value(json.loads(lines[number]), rng))
    elif kind == 3:
        lines.insert(number, lines[number])
    elif kind == 4:
        other = rng.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
    else:
        del lines[number]
    path.write_bytes(b"\n".join(lines) + b"\n")


def damage_text(path: Path, rng: random.Random) -> None:
    """Replace one word or number of a TOML or CSV file."""
    text = path.read_bytes().decode("utf-8", "replace")
    words = list(re.finditer(r"[\w./-]+", text))
    if not words:
        return
    word = rng.choice(words)
    odd = rng.choice((
        "nan", "-inf", "1e400", "9" * 5000, "-1", '"', "\x00", "\r", "[[[", "{a=" * 500, "=1+1", "0x10",
        "1979-05-27", "[" * 5000 + "]" * 5000, "\x1b[2J", "x" * 200_000, "", "true", "[]",
        "\N{RIGHT-TO-LEFT OVERRIDE}",
    ))  # fmt: skip
    path.write_text(text[: word.start()] + odd + text[word.end() :], encoding="utf-8", newline="")


# Arrays


_SHAPES = ((), (0,), (1,), (0, 3, 3), (2, 2, 2, 2, 2))
_ARRAY_TYPES = ("S8", "U8", "c16", "?", "f2", "i8", "M8[s]")


def damage_npz(path: Path, rng: random.Random) -> None:
    """One array becomes another one: by type, shape, values, size, or a pickle."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if not arrays:
        return
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    others: tuple[Callable[[], np.ndarray], ...] = (
        lambda: np.array([{"a": 1}, None], dtype=object),
        lambda: np.zeros(rng.choice(_SHAPES), array.dtype),
        lambda: _cast(array, rng.choice(_ARRAY_TYPES)),
        lambda: array[:0] if array.ndim else array,
        lambda: np.full(array.shape, rng.choice((np.nan, np.inf, -1e30, 3e38, 0, 255)), np.float32),
        lambda: np.array(str(rng.choice(ODD_VALUES))[:1000].replace("\udcff", "?")),
    )
    kind = rng.randrange(9)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[rng.choice(("x", "../x", "a\x1b[2J", name + "2"))] = array
    elif kind <= 6:
        arrays[name] = rng.choice(others)()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, one in arrays.items():
            is_odd = key == name and kind > 6
            archive.writestr(f"{key}.npy", _npy(one, path.parent, rng if is_odd else None))


def _cast(array: np.ndarray, kind: str) -> np.ndarray:
    """The array in another type; zeros where its texts are no numbers."""
    try:
        return array.astype(kind, casting="unsafe")
    except ValueError:
        return np.zeros(array.shape, kind)


def _npy(array: np.ndarray, folder: Path, rng: random.Random | None) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    content = buffer.getvalue()
    if rng is None:
        return content
    if rng.random() < 0.3:
        header, _, _ = content.partition(b"\n")
        return re.sub(rb"'descr': '[^']*'", b"'descr': '|O'    ", header) + b"\n" + evil_pickle(folder)
    large = rng.choice((b"(99999999999,)", b"(-1,)", b"(4611686018427387904, 4)", b"(10**9,)", b"(True,)"))
    return re.sub(rb"'shape': \([^)]*\)", b"'shape': " + large, content)


# Archives


def damage_archive(path: Path, rng: random.Random) -> None:
    """One part of an archive of torch is damaged, gone, added, renamed, or a pickle that leaves a mark."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    names = [name for name in parts if not name.endswith("/")]
    name, folder = rng.choice(names), path.parent
    top = name.partition("/")[0]
    kind = rng.randrange(8)
    if kind == 0:
        parts[name] = evil_pickle(folder)
    elif kind == 1:
        extra = rng.choice((
            "data/weights/model.pt", "data/constants/model.pt", "data/sample_inputs/model.pt", "data.pkl",
            "data/constants/opaque_obj_0", "code/__torch__.py", "extra/x", "data/aotinductor/model/a.so",
            "constants.pkl",
        ))  # fmt: skip
        parts[f"{top}/{extra}"] = evil_pickle(folder)
    elif kind == 2:
        del parts[name]
    elif kind == 3:
        parts[rng.choice(("../x", "/x", "other/x", f"{top}/{top}/x", f"{top}/\x1b[2J"))] = parts[name]
    elif kind == 4 and name.endswith((".json", ".py")):
        code = f"exec({payload(folder)!r})"
        text = parts[name].decode()
        places = list(re.finditer(r'(?<=")[\w.()\', =]+(?=")', text)) or [None]
        place = rng.choice(places)
        parts[name] = (
            (text[: place.start()] + code.replace('"', "'") + text[place.end() :]).encode() if place else b""
        )
    elif kind == 5 and name.endswith(".json"):
        parts[name] = _dumped(odd_value(json.loads(parts[name]), rng))
    else:
        one = folder / "part"
        one.write_bytes(parts[name])
        damage_bytes(one, rng)
        parts[name] = one.read_bytes()
        one.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for key, content in parts.items():
            archive.writestr(
                key, content, zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
            )


# Graphs


def damage_graph(path: Path, rng: random.Random) -> None:
    """One field of an ONNX graph says something else."""
    model = onnx.load(path, load_external_data=False)
    rng.choice((
        _dimensions, _names, _operators, _attributes, _initializers, _nodes, _external, _functions, _inputs,
        _loop, _versions,
    ))(model, rng)  # fmt: skip
    path.write_bytes(model.SerializeToString())


_NUMBERS = (-1, 0, -(2**63), 2**63 - 1, 2**31, 10**12, 7, 1)
_NAMES = (
    "",
    "image",
    "picture",
    "$a_{b",
    "a\rb",
    "\x1b[2J",
    "=x",
    "a" * 70_000,
    "../x",
    "qsens_x",
    "c0",
    "\u202e",
    "a/b:0",
)


def _dimensions(model: onnx.ModelProto, rng: random.Random) -> None:
    value = rng.choice([*model.graph.input, *model.graph.output])
    shape = value.type.tensor_type.shape
    if rng.random() < 0.2 or not shape.dim:
        shape.ClearField("dim")
    else:
        rng.choice(list(shape.dim)).dim_value = rng.choice(_NUMBERS)


def _names(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(list(model.graph.node))
    name = rng.choice(_NAMES)
    kind = rng.randrange(5)
    if kind == 0:
        node.name = name
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = name
    elif kind == 2 and node.output:
        node.output[rng.randrange(len(node.output))] = name
    elif kind == 3:
        rng.choice(list(model.graph.initializer)).name = name
    else:
        rng.choice([*model.graph.input, *model.graph.output]).name = name


def _operators(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(list(model.graph.node))
    if rng.random() < 0.3:
        node.domain = rng.choice(("x", "com.microsoft", "ai.onnx.ml"))
    else:
        node.op_type = rng.choice((
            "Tile", "Expand", "Range", "ConstantOfShape", "Loop", "If", "Scan", "Reshape", "Einsum", "Resize",
            "Gather", "NonZero", "SequenceEmpty", "Nope", "", "Pad", "StringConcat", "RegexFullMatch", "Gemm",
            "ConvTranspose",
        ))  # fmt: skip


def _attributes(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(list(model.graph.node))
    if node.attribute and rng.random() < 0.6:
        attribute = rng.choice(list(node.attribute))
        if attribute.ints and rng.random() < 0.7:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_NUMBERS)
        else:
            attribute.type = rng.randrange(15)
    else:
        name = rng.choice(("group", "strides", "dilations", "auto_pad", "kernel_shape", "pads", "x", "body"))
        node.attribute.append(
            helper.make_attribute(name, rng.choice((_NUMBERS[:4], "SAME", 3, 0.5, [2**40, 2**40])))
        )


def _initializers(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(list(model.graph.initializer))
    kind = rng.randrange(5)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_NUMBERS)
    elif kind == 1:
        tensor.data_type = rng.randrange(25)
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: rng.randrange(1 + len(tensor.raw_data))]
    elif kind == 3:
        tensor.dims.append(rng.choice(_NUMBERS))
    else:
        tensor.float_data.extend([float("nan")] * 3)


def _nodes(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    kind = rng.randrange(4)
    if kind == 0:
        del model.graph.node[rng.randrange(len(nodes))]
    elif kind == 1:
        model.graph.node.append(rng.choice(nodes))
    elif kind == 2:
        rng.shuffle(nodes)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    else:
        del model.graph.node[:]


def _external(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(list(model.graph.initializer))
    tensor.data_location = TensorProto.EXTERNAL
    location = rng.choice(("/etc/passwd", "../../etc/passwd", "x" * 5000, "absent", "", "/dev/zero", "."))
    for key, value in (
        ("location", location),
        ("offset", str(rng.choice(_NUMBERS))),
        ("length", rng.choice(("9" * 5000, "-1", "4"))),
    ):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _functions(model: onnx.ModelProto, rng: random.Random) -> None:
    calls = [helper.make_node("Again", ["x"], ["y"], domain="own")] * rng.choice((1, 2))
    model.functions.append(helper.make_function("own", "Again", ["x"], ["y"], calls, model.opset_import))
    model.opset_import.append(helper.make_opsetid("own", 1))
    node = rng.choice(list(model.graph.node))
    node.domain, node.op_type = "own", "Again"


def _inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        del model.graph.input[:]
    elif kind == 1:
        del model.graph.output[:]
    elif kind == 2:
        model.graph.input.append(rng.choice([*model.graph.input, *model.graph.output]))
    else:
        rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type.elem_type = rng.randrange(25)


def _loop(model: onnx.ModelProto, rng: random.Random) -> None:
    """A loop without end, or one so long that nobody would see it."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    first = model.graph.input[0].name
    trips = rng.choice((2**62, 10**10))
    model.graph.initializer.append(helper.make_tensor("trips", TensorProto.INT64, [], [trips]))
    model.graph.initializer.append(helper.make_tensor("go_on", TensorProto.BOOL, [], [True]))
    loop = helper.make_node("Loop", ["trips", "go_on", first], ["looped"], body=body)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == first:
                node.input[place] = "looped"
    model.graph.node.insert(0, loop)


def _versions(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5 and model.opset_import:
        model.opset_import[0].version = rng.choice(_NUMBERS)
    else:
        model.ir_version = rng.choice(_NUMBERS)


# Folders


def plant(folder: Path, rng: random.Random) -> None:
    """Put something beside the files that somebody may run, follow or trip over."""
    module = rng.choice((
        "json", "hashlib", "numpy", "argparse", "typing", "pathlib", "dataclasses", "qsens", "onnxruntime",
        "re", "csv", "sitecustomize", "usercustomize", "encodings", "time", "sys", "os", "zipfile", "onnx",
        "PIL", "tomllib",
    ))  # fmt: skip
    kind = rng.randrange(6)
    if kind <= 2:
        (folder / f"{module}.py").write_text(payload(folder.parent))
    elif kind == 3:
        (folder / module).mkdir(exist_ok=True)
        (folder / module / "__init__.py").write_text(payload(folder.parent))
    elif kind == 4:
        os.mkfifo(folder / rng.choice(("pipe.png", "pipe.npz", "pipe.json", "pipe")))
    else:
        (folder / rng.choice(("link.png", "link.npz", "link"))).symlink_to(
            rng.choice(("/dev/zero", "absent", ".", "/etc/passwd"))
        )


def link_inner_folder(folder: Path, rng: random.Random) -> None:
    """A folder inside becomes a link to a copy elsewhere, to which a file was added."""
    inner = sorted(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())
    if not inner:
        return
    chosen = rng.choice(inner)
    elsewhere = folder.parent / "elsewhere"
    shutil.copytree(chosen, elsewhere)
    (elsewhere / "__init__.py").write_text(payload(folder.parent))
    shutil.rmtree(chosen)
    chosen.symlink_to(elsewhere)


def sum_again(folder: Path) -> None:
    """Write `SHA256SUMS` anew, as somebody would who changed a bundle's file."""
    sums = folder / "SHA256SUMS"
    if not sums.is_file() or sums.is_symlink():
        return
    lines = []
    for line in sums.read_bytes().splitlines():
        _, _, name = line.partition(b"  ")
        path = Path(os.fsdecode(bytes(folder) + b"/" + name))
        if name and path.is_file() and not path.is_symlink():
            line = hashlib.sha256(path.read_bytes()).hexdigest().encode() + b"  " + name
        lines.append(line)
    sums.write_bytes(b"\n".join(lines) + b"\n")


def rename_file(folder: Path, rng: random.Random) -> None:
    """A file bears a name with bytes that are no text, steer a terminal, or mean something in a table."""
    path = rng.choice(sorted(entry for entry in folder.rglob("*") if entry.is_file()))
    odd = rng.choice(
        (
            b"a\xff.png",
            b"a\x1b[2J.png",
            b"a\rb.png",
            b"=1+1.png",
            b"-x.png",
            b"$a_{.png",
            b"a\nb.npz",
            b"n" * 250,
        )
    )
    path.rename(path.parent / os.fsdecode(odd))
