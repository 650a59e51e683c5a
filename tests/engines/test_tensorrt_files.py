"""Calibration caches and trtexec command lines: what TensorRT 10 and older are given besides the graph."""

import shlex

import numpy as np
import pytest
from lowered_models import FP16, FP32, INT8, prepared, residual_generator
from tiny_models import conv_model

from qsens.calibration.ranges import Ranges, TensorRange
from qsens.core.errors import BuildError, DataError
from qsens.core.precision import PrecisionMap
from qsens.engines.lowering.lower import lower_graph
from qsens.engines.lowering.plan import LoweringOptions
from qsens.engines.tensorrt_files import (
    calibration_cache_text,
    read_calibration_cache,
    trtexec_lines,
    version_number,
)

MIXED = (INT8, FP16, FP32, INT8, FP16)


def ranges(**amaxes):
    entries = [TensorRange(name, -amax, amax, float(np.float32(amax))) for name, amax in amaxes.items()]
    return Ranges("entropy", 1, "digest", tuple(entries))


def test_a_scale_is_written_as_the_hex_of_its_float32():
    # 127 / 127 is 1.0, which is 3f800000; 254 / 127 is 2.0.
    text = calibration_cache_text(ranges(image=127.0, features=254.0), version="8.6.1")
    assert text == "TRT-8601-EntropyCalibration2\nimage: 3f800000\nfeatures: 40000000\n"


def test_a_cache_reads_back_bit_for_bit():
    amaxes = {"a": 4.0, "block.0/Conv: sum": 0.013, "tiny": 1e-30}
    cache = read_calibration_cache(calibration_cache_text(ranges(**amaxes), version="10.3"))
    assert cache.header == "TRT-100300-EntropyCalibration2"
    assert cache.scales == {name: np.float32(amax) / np.float32(127) for name, amax in amaxes.items()}


@pytest.mark.parametrize(
    ("version", "number"),
    [("8.5.2", "8502"), ("8.6.1.6", "8601"), ("8.6", "8600"), ("10.3.0", "100300"), ("10.16.1", "101601")],
)
def test_versions_are_numbers_in_the_header(version, number):
    assert version_number(version) == number


def test_what_is_no_cache_is_refused():
    with pytest.raises(DataError, match="begins with 'scales'"):
        read_calibration_cache("scales\na: 3f800000\n")
    for line in ("a 3f800000", "a: xyz", "a: 3f80"):
        with pytest.raises(DataError, match="no line of a calibration cache"):
            read_calibration_cache(f"TRT-8601-EntropyCalibration2\n{line}\n")
    with pytest.raises(DataError, match="no TensorRT version"):
        version_number("eight")
    with pytest.raises(DataError, match="cannot be written"):
        calibration_cache_text(ranges(**{"two\nlines": 1.0}), version="8.6.1")


def lowered(flavour, precisions=MIXED, model=None):
    setup = prepared(model or residual_generator())
    wanted = PrecisionMap.over(dict(zip(setup.names, precisions, strict=True)))
    return lower_graph(setup.plan, wanted, setup.ranges, LoweringOptions(), flavour=flavour)


def commands(text):
    """The arguments of every command, by their flag."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(line) for line in lines if line.startswith("trtexec")]
    return [
        dict(
            (argument + "=").rstrip("=").split("=", 1) if "=" in argument else (argument, None)
            for argument in line[1:]
        )
        for line in found
    ]


def test_strong_graphs_need_no_precision_flags():
    older, newer = commands(trtexec_lines(lowered("strong")))
    assert "--stronglyTyped" in older
    assert "--stronglyTyped" not in newer
    for command in (older, newer):
        assert not {"--int8", "--fp16", "--layerPrecisions", "--calib"} & set(command)
        assert command["--maxShapes"] == "image:16x3x8x8"
        assert command["--saveEngine"] == "model.plan"


def test_weak_graphs_name_every_layer_that_stays_in_float():
    graph = lowered("weak")
    (command,) = commands(trtexec_lines(graph, batches=(1, 2, 4)))
    pins = dict(pair.rsplit(":", 1) for pair in command["--layerPrecisions"].split(","))
    assert pins == dict(graph.float_pins)
    assert pins["middle"] == "fp16"
    assert pins["inner"] == "fp32"
    assert "first" not in pins
    assert command["--layerOutputTypes"] == command["--layerPrecisions"]
    assert command["--precisionConstraints"] == "obey"
    assert {"--int8", "--fp16"} <= set(command)
    assert (command["--minShapes"], command["--optShapes"]) == ("image:1x3x8x8", "image:2x3x8x8")


def test_the_implicit_form_names_the_int8_layers_too_and_reads_the_cache():
    _, command = commands(trtexec_lines(lowered("weak"), plain_model="fp32.onnx", calibration="ours.cache"))
    pins = dict(pair.rsplit(":", 1) for pair in command["--layerPrecisions"].split(","))
    layers = {name: pins[name] for name in ("first", "middle", "inner", "up", "last")}
    assert layers == {"first": "int8", "middle": "fp16", "inner": "fp32", "up": "int8", "last": "fp16"}
    assert "int8" not in command["--layerOutputTypes"]
    assert command["--calib"] == "ours.cache"
    assert (command["--onnx"], command["--saveEngine"]) == ("fp32.onnx", "fp32.plan")


def test_only_what_the_map_uses_is_allowed():
    (command,) = commands(trtexec_lines(lowered("weak", [FP32] * 5)))
    assert not {"--int8", "--fp16"} & set(command)


def test_a_fixed_batch_takes_no_shapes():
    (command,) = commands(trtexec_lines(lowered("weak", [INT8, FP16], conv_model(batch=1))))
    assert "--minShapes" not in command


def test_names_that_trtexec_cannot_write_are_listed():
    model = conv_model()
    model.graph.node[2].name = "out,*"
    text = trtexec_lines(lowered("weak", [INT8, FP16], model))
    assert "#   out,*" in text
    assert "out,*" not in commands(text)[0].get("--layerPrecisions", "")


def test_other_flavours_are_refused():
    with pytest.raises(BuildError, match="cannot build flavour 'u8'"):
        trtexec_lines(lowered("u8"))
