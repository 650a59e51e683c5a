"""An extractor from anybody's ONNX file, with the preprocessing that a TOML file beside it states."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qsens.core.errors import LoadError, ScoreError, SpecError
from qsens.core.interfaces import Extractor
from qsens.core.schema import parse_toml
from qsens.device.errors import reason_of
from qsens.device.special_files import read_file
from qsens.generators.onnx_file import external_tensors, read_onnx
from qsens.scoring.convolution_graph import IR_VERSION, OPSET, ConvolutionGraph
from qsens.scoring.feature_session import IMAGES_PER_RUN, check_images, open_session
from qsens.scoring.weights import file_digest

RESIZES = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
COLOUR_ORDERS = ("rgb", "bgr")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Names of which scores mean a certain network with certain weights.
TAKEN = ("inception", "lite0", "dinov2", "clip")


@dataclass(frozen=True)
class Preprocessing:
    """The steps that uint8 RGB pictures of any size go through before the network reads them.

    They are resized to `size` (height, width) with half-pixel centres, divided by 255, put into
    `colour_order`, and `mean` (3 values) is taken off before dividing by `std` (3 values).
    """

    size: tuple[int, int]
    resize: str = "bilinear"
    antialias: bool = True
    colour_order: str = "rgb"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def text(self) -> str:
        """All of it in one word: scores with different words are not compared."""
        filtering = f"{self.resize}-antialias" if self.antialias else self.resize
        numbers = "-".join(f"{value:g}" for value in (*self.mean, *self.std))
        return f"{self.colour_order}-{filtering}-{self.size[0]}x{self.size[1]}-{numbers}"


@dataclass(frozen=True)
class FileStatement:
    """The statements of the TOML file beside an extractor's ONNX file."""

    name: str
    input: str
    output: str
    preprocessing: Preprocessing


class FileFeatures:
    """Callable: uint8 (N, 3, H, W) RGB images to float32 (N, D) features; opened again when unpickled."""

    def __init__(self, path: Path, statement: FileStatement, threads: int) -> None:
        self._made_of = (path, statement, threads)
        self._prepare = open_session(
            preprocessing_model(statement.preprocessing).SerializeToString(), threads
        )
        self._session = open_session(str(path), threads)
        (declared,) = (entry for entry in self._session.get_inputs() if entry.name == statement.input)
        self._batch = declared.shape[0] if isinstance(declared.shape[0], int) else None

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        check_images(images)
        step = self._batch or IMAGES_PER_RUN
        return np.concatenate([self._of(images[at : at + step]) for at in range(0, len(images), step)])

    def _of(self, images: NDArray[Any]) -> NDArray[np.float32]:
        path, statement, _ = self._made_of
        # A network for batches of one size is fed the last image again where there are fewer.
        batch = images[np.minimum(np.arange(self._batch or len(images)), len(images) - 1)]
        (prepared,) = self._prepare.run(None, {"images": batch})
        (found,) = self._session.run([statement.output], {statement.input: prepared})
        if found.ndim < 2 or found.shape[0] != len(batch) or found.size != found.shape[0] * found.shape[1]:
            raise LoadError(
                f"output {statement.output!r} of {path.name} has shape {found.shape} for {len(batch)} images",
                "an extractor has one vector an image: name another output, or pool inside the graph",
            )
        features: NDArray[np.float32] = found.reshape(len(batch), -1)[: len(images)].astype(np.float32)
        if not np.isfinite(features).all():
            raise ScoreError(
                f"{path.name} makes features that are NaN or infinite",
                "check mean, std and size in the TOML file beside it",
            )
        return features

    def __reduce__(self) -> tuple[Any, ...]:
        return FileFeatures, self._made_of


def is_onnx_file(name: str) -> bool:
    """Whether the name of an extractor is the path of an ONNX file."""
    return name.endswith(".onnx")


def open_onnx_extractor(path: Path, *, threads: int = 0) -> Extractor:
    """The network of `path`, preprocessed as `path` with the ending `.toml` says; run once to see its size.

    Raises:
        LoadError: if the file cannot be read, or does not make one vector an image.
        SpecError: if its preprocessing is not stated, or states what the file does not have.
        ScoreError: if it makes NaN or infinite features.
    """
    model = _read_model(path)
    statement = read_statement(path.with_suffix(".toml"), model)
    try:
        run = FileFeatures(path, statement, threads)
        seen = run(np.zeros((1, 3, *statement.preprocessing.size), np.uint8))
    except (LoadError, ScoreError):
        raise
    except Exception as error:  # a runtime raises types of its own
        raise LoadError(
            f"{path} cannot be run: {reason_of(error)}", "check size and input in the TOML file beside it"
        ) from None
    return Extractor(
        name=statement.name,
        dimension=seen.shape[1],
        input_size=max(statement.preprocessing.size),
        preprocessing=statement.preprocessing.text,
        weights_sha256=file_digest(path),
        run=run,
    )


def preprocessing_model(rules: Preprocessing) -> onnx.ModelProto:
    """A graph from `images`, uint8 (N, 3, H, W), to float32 (N, 3, height, width) as the network reads it."""
    graph = ConvolutionGraph()
    resized = graph.resized(rules.size, antialias=rules.antialias, mode=RESIZES[rules.resize])
    if rules.colour_order == "bgr":
        resized = graph.add("Gather", [resized, graph.constant(np.array([2, 1, 0]))], axis=1)
    shape = (1, 3, 1, 1)
    mean = graph.constant(np.array(rules.mean, np.float32).reshape(shape) * np.float32(255))
    std = graph.constant(np.array(rules.std, np.float32).reshape(shape) * np.float32(255))
    prepared = graph.add("Div", [graph.add("Sub", [resized, mean]), std])
    information = onnx.helper.make_tensor_value_info
    images = information("images", onnx.TensorProto.UINT8, ["n", 3, "h", "w"])
    out = information(prepared, onnx.TensorProto.FLOAT, ["n", 3, *rules.size])
    made = onnx.helper.make_graph(graph.nodes, "preprocessing", [images], [out], graph.constants)
    opset = onnx.helper.make_opsetid("", OPSET)
    return onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION)


def read_statement(path: Path, model: onnx.ModelProto) -> FileStatement:
    """The statements of the TOML file at `path`; input, output and size may be left to a plain model.

    Raises:
        SpecError: if the file is missing, says what the model does not have, or leaves a choice open.
    """
    example = _example(model)
    if not path.is_file():
        raise SpecError(
            f"nothing says how pictures are prepared for {path.with_suffix('.onnx')}",
            f"write {path.name} beside it, for instance:\n{example}",
        )
    try:
        values = parse_toml(read_file(path))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} cannot be read: {reason_of(error)}", f"write:\n{example}") from None
    try:
        return _checked(values, model)
    except SpecError as error:
        raise SpecError(f"{path}: {error.message}", error.hint or f"write:\n{example}") from None


def _checked(values: dict[str, Any], model: onnx.ModelProto) -> FileStatement:
    known = {"name", "input", "output", "size", "resize", "antialias", "colour_order", "mean", "std"}
    for key in values.keys() - known:
        raise SpecError(f"no key named {key!r}", f"keys: {', '.join(sorted(known))}")
    name = values.get("name")
    if not isinstance(name, str) or NAME.fullmatch(name) is None or name in TAKEN:
        raise SpecError(
            f"name is {name!r}",
            "a name of your own, of letters, digits, dots and dashes: scores show it, as in fid[name]",
        )
    input_name = _one_of(values, "input", _inputs(model))
    rules = Preprocessing(
        size=_size(values, _inputs(model)[input_name]),
        resize=_choice(values, "resize", "bilinear", tuple(RESIZES)),
        antialias=_choice(values, "antialias", default=True, offered=(True, False)),
        colour_order=_choice(values, "colour_order", "rgb", COLOUR_ORDERS),
        mean=_three(values, "mean", 0.0),
        std=_three(values, "std", 1.0),
    )
    if any(value <= 0 for value in rules.std):
        raise SpecError(f"std is {list(rules.std)}", "three numbers above 0, for pictures from 0 to 1")
    outputs: dict[str, tuple[int | None, ...]] = {output.name: () for output in model.graph.output}
    return FileStatement(name, input_name, _one_of(values, "output", outputs), rules)


def _one_of(values: dict[str, Any], key: str, offered: dict[str, tuple[int | None, ...]]) -> str:
    if key not in values and len(offered) == 1:
        return next(iter(offered))
    if values.get(key) not in offered:
        said = (
            f"no {key} named {values[key]!r}" if key in values else f"the network has {len(offered)} {key}s"
        )
        raise SpecError(said, f'{key} = "..." names one of {", ".join(offered)}')
    return str(values[key])


def _choice(values: dict[str, Any], key: str, default: Any, offered: tuple[Any, ...]) -> Any:
    value = values.get(key, default)
    if value not in offered:
        raise SpecError(f"{key} is {value!r}", f"one of {', '.join(str(entry) for entry in offered)}")
    return value


def _three(values: dict[str, Any], key: str, default: float) -> tuple[float, ...]:
    numbers = values.get(key, [default] * 3)
    is_three = isinstance(numbers, list) and len(numbers) == 3
    if not is_three or not all(isinstance(value, int | float) for value in numbers):
        raise SpecError(f"{key} is {numbers!r}", f"{key} = [R, G, B], for pictures from 0 to 1")
    return tuple(float(value) for value in numbers)


def _size(values: dict[str, Any], shape: tuple[int | None, ...]) -> tuple[int, int]:
    fixed = shape[2:] if len(shape) == 4 else (None, None)
    size = values.get("size", list(fixed))
    pair = [size, size] if isinstance(size, int) else size
    is_pair = isinstance(pair, list) and len(pair) == 2
    if not is_pair or not all(isinstance(side, int) and side > 0 for side in pair):
        raise SpecError(f"size is {size!r}", "size = 224, or size = [height, width], in pixels")
    if any(side not in (None, own) for side, own in zip(fixed, pair, strict=True)):
        raise SpecError(f"size is {pair}", f"the network reads pictures of {fixed[0]} by {fixed[1]} pixels")
    return pair[0], pair[1]


def _inputs(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the inputs that are no weights, by name; `None` for a free dimension."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: tuple(
            dimension.dim_value if dimension.HasField("dim_value") else None
            for dimension in value.type.tensor_type.shape.dim
        )
        for value in model.graph.input
        if value.name not in weights
    }


def _read_model(path: Path) -> onnx.ModelProto:
    model = read_onnx(path)
    if external_tensors(model):
        raise LoadError(
            f"{path} keeps weights in another file, which its digest does not cover",
            "save it as one file: onnx.save(onnx.load(PATH), PATH)",
        )
    return model


def _example(model: onnx.ModelProto) -> str:
    """A TOML file with the model's own names; mean and standard deviation are those of ImageNet."""
    inputs = _inputs(model)
    name, shape = next(iter(inputs.items()), ("images", ()))
    side = shape[2] if len(shape) == 4 and shape[2] else 224
    output = model.graph.output[0].name if model.graph.output else "features"
    return "\n".join(
        (
            'name = "mine"                      # scores show it: fid[mine]',
            f'input = "{name}"',
            f'output = "{output}"',
            f"size = {side}                         # or [height, width]",
            'resize = "bilinear"                # or bicubic, nearest',
            "antialias = true",
            'colour_order = "rgb"               # or bgr',
            "mean = [0.485, 0.456, 0.406]       # of pictures from 0 to 1",
            "std = [0.229, 0.224, 0.225]",
        )
    )
