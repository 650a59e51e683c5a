"""Bad input: checkpoints that are something else, graphs that cannot be swept."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
from bad_case import Bad, case, swept
from onnx import TensorProto, helper
from tiny_models import onnx_model
from tiny_runs import chain, write_generator


@case
def no_such_checkpoint(bench):
    return Bad(swept(bench, checkpoint="absent.onnx"), "absent.onnx", "check the path")


@case
def corrupt_onnx(bench):
    (bench.folder / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(4000))
    return Bad(swept(bench, checkpoint="noise.onnx"), "noise.onnx", "fetch it again")


@case
def truncated_onnx(bench):
    whole = bench.generator.read_bytes()
    (bench.folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    return Bad(swept(bench, checkpoint="cut.onnx"), "cut.onnx", "fetch it again")


@case
def truncated_torch_file(bench):
    import torch

    torch.save({"weight": torch.zeros(64, 64)}, bench.folder / "whole.pth")
    content = (bench.folder / "whole.pth").read_bytes()
    (bench.folder / "cut.pth").write_bytes(content[: len(content) // 2])
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="cut.pth")
    return Bad(arguments, "cut.pth", "fetch it again")


@case
def web_page_as_onnx(bench):
    (bench.folder / "page.onnx").write_text("<!DOCTYPE html><html><body>quota exceeded</body></html>")
    return Bad(swept(bench, checkpoint="page.onnx"), "page.onnx is a web page", "fetch the file itself")


@case
def web_page_as_torch_file(bench):
    (bench.folder / "page.pth").write_text("\n<html><body>sign in</body></html>")
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="page.pth")
    return Bad(arguments, "page.pth is a web page", "fetch the file itself")


class _Runs:
    """Runs code when it is read from a pickle."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "the pickle ran code")


@case
def torch_pickle_that_runs_code(bench):
    import torch

    torch.save({"state_dict": _Runs(bench.folder / "ran.txt")}, bench.folder / "evil.pth")
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="evil.pth")
    return Bad(arguments, "evil.pth wants to run code", "--trust-checkpoint")


@case
def plain_pickle_that_runs_code(bench):
    (bench.folder / "evil.pkl").write_bytes(pickle.dumps(_Runs(bench.folder / "ran.txt"), protocol=4))
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="evil.pkl")
    return Bad(arguments, "evil.pkl is a plain pickle", "state_dict")


@case
def zipped_pickle_that_runs_code(bench):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps(_Runs(bench.folder / "ran.txt"), protocol=2))
        archive.writestr("evil/version", "3\n")
        archive.writestr("evil/byteorder", "little")
    (bench.folder / "evil.pth").write_bytes(content.getvalue())
    arguments = swept(bench, "--model", "tiny_torch:small", checkpoint="evil.pth")
    return Bad(arguments, "evil.pth wants to run code", "--trust-checkpoint")


@case
def weights_without_a_network(bench):
    (bench.folder / "weights.pth").write_bytes(b"PK\x03\x04")
    return Bad(swept(bench, checkpoint="weights.pth"), "weights.pth", "--model", exit_code=2)


@case
def factory_that_is_not_there(bench):
    arguments = swept(bench, "--model", "tiny_torch:smoll", checkpoint="weights.pth")
    return Bad(arguments, "'smoll'", "did you mean 'small'?", exit_code=2)


@case
def graph_without_a_layer(bench):
    node = helper.make_node("Sigmoid", ["image"], ["picture"], "squash")
    shape = ["n", 3, 16, 16]
    model = onnx_model([node], inputs={"image": shape}, outputs={"picture": shape})
    write_generator(bench.folder / "nothing.onnx", model)
    return Bad(swept(bench, checkpoint="nothing.onnx"), "no layer", "")


@case
def quantized_graph(bench):
    model = onnx.load(bench.generator)
    scale = {"scale": np.float32(0.1), "zero": np.int8(0)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in scale.items())
    quantize = helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["codes"], "q")
    back = helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["image_q"], "dq")
    first = model.graph.node[0]
    first.input[0] = "image_q"
    nodes = [quantize, back, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    write_generator(bench.folder / "quantized.onnx", model)
    value = "already quantized: it holds 1 DequantizeLinear, 1 QuantizeLinear"
    return Bad(swept(bench, checkpoint="quantized.onnx"), value, "FP32 graph")


@case
def half_precision_graph(bench):
    model = chain()
    for tensor in model.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    write_generator(bench.folder / "half.onnx", model)
    return Bad(swept(bench, checkpoint="half.onnx"), "float16", "float32")


@case
def old_operator_set(bench):
    model = chain()
    model.opset_import[0].version = 11
    write_generator(bench.folder / "old.onnx", model)
    return Bad(swept(bench, checkpoint="old.onnx"), "operator set 11", "opset_version=17")
