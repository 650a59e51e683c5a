import numpy as np
import onnx
import pytest
from flavours import lowered, run_plainly
from lowered_models import INT8, images, prepared, residual_generator
from onnx import helper
from tiny_models import normal, onnx_model

from qsens.core.errors import BuildError
from qsens.graph.static_batch import static_batch


def sides(value: onnx.ValueInfoProto) -> list[int | str]:
    return [
        side.dim_value if side.HasField("dim_value") else side.dim_param
        for side in value.type.tensor_type.shape.dim
    ]


def test_every_free_batch_is_fixed_and_the_pictures_stay_the_same():
    model = lowered(prepared(residual_generator()), INT8, "u8").model
    fixed = static_batch(model, 3)
    assert sides(fixed.graph.input[0]) == [3, 3, 8, 8]
    assert sides(fixed.graph.output[0]) == [3, 3, 16, 16]
    assert sides(model.graph.input[0]) == ["n", 3, 8, 8]
    onnx.checker.check_model(fixed, full_check=True)
    expected = run_plainly(model, images(3))["picture"]
    np.testing.assert_array_equal(run_plainly(fixed, images(3))["picture"], expected)


def fixed_generator(batch: int | None) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="layer")
    return onnx_model(
        [node],
        inputs={"x": [batch, 3, 4, 4]},
        outputs={"y": [batch, 2, 4, 4]},
        weights={"w": normal(2, 3, 1, 1)},
    )


def test_a_side_without_a_name_is_fixed_too():
    assert sides(static_batch(fixed_generator(None), 2).graph.input[0]) == [2, 3, 4, 4]


def test_another_batch_than_the_fixed_one_is_refused():
    assert static_batch(fixed_generator(1), 1) == fixed_generator(1)
    with pytest.raises(BuildError, match="fixes its batch at 1, not 4"):
        static_batch(fixed_generator(1), 4)
    with pytest.raises(BuildError, match="a batch of 0"):
        static_batch(fixed_generator(None), 0)
