import numpy as np
import pytest
from calibration_sets import IMAGE, LATENT, STYLE, opened, write_images

from qsens.core.errors import SpecError
from qsens.core.interfaces import InputRule, InputSpec


def test_noise_depends_on_seed_name_and_index_alone():
    twin = InputSpec("w", (4,), "float32", True)
    long = opened("noise", [LATENT, twin], seed=3, count=50)
    short = opened("noise", [LATENT], seed=3, count=5)
    backwards = [short.sample(index)["z"] for index in reversed(range(5))][::-1]
    for index in range(5):
        np.testing.assert_array_equal(long.sample(index)["z"], backwards[index])
    values = {long.sample(index)[name].tobytes() for index in range(50) for name in ("z", "w")}
    values.add(opened("noise", [LATENT], seed=4, count=1).sample(0)["z"].tobytes())
    assert len(values) == 101


def test_noise_is_normal_or_uniform():
    wide = InputSpec("z", (1000,), "float32", True)
    normal = np.concatenate([opened("noise", [wide], count=40).sample(index)["z"] for index in range(40)])
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.03
    rule = {"z": InputRule(source="uniform", value_range=(-1, 1))}
    uniform = opened("noise", [wide], rule, count=1).sample(0)["z"]
    assert uniform.dtype == np.float32
    assert -1 <= uniform.min() < -0.9
    assert 0.9 < uniform.max() <= 1


def test_noise_needs_a_count_a_size_and_float_inputs():
    with pytest.raises(SpecError, match="no end"):
        opened("noise", [LATENT])
    with pytest.raises(SpecError, match=r"\(3, \?, \?\)"):
        opened("noise", [IMAGE], count=2)
    got = opened("noise", [IMAGE], {"*": InputRule(resize=(4, 6))}, count=2).sample(0)["image"]
    assert got.shape == (3, 4, 6)
    with pytest.raises(SpecError, match="int64"):
        opened("noise", [InputSpec("label", (), "int64", True)], count=2)
    with pytest.raises(SpecError, match="-1"):
        opened("noise", [LATENT], seed=-1, count=2)
    with pytest.raises(SpecError, match="seeded noise"):
        opened("noise", [IMAGE], {"image": InputRule()}, count=2)


def test_noise_of_a_part_is_that_of_the_whole_set(tmp_path):
    write_images(tmp_path, 10)
    rules = {"z": InputRule(source="normal")}
    whole = opened(tmp_path, [IMAGE, LATENT], rules)
    part = opened(tmp_path, [IMAGE, LATENT], rules, count=3)
    pairs = {whole.sample(i)["image"].tobytes(): whole.sample(i)["z"].tobytes() for i in range(10)}
    for index in range(3):
        sample = part.sample(index)
        assert pairs[sample["image"].tobytes()] == sample["z"].tobytes()


@pytest.mark.parametrize(
    ("spec", "value", "wanted"),
    [
        (STYLE, (0.5,), [0.5, 0.5, 0.5]),
        (STYLE, (1, 2, 3), [1, 2, 3]),
        (InputSpec("style", (None,), "float32", False), (1, 2), [1, 2]),
        (InputSpec("style", (), "int64", False), (7,), 7),
        (InputSpec("style", (2, 2), "float32", True), (1, 2, 3, 4), [[1, 2], [3, 4]]),
    ],
)
def test_constants_fill_the_input(spec, value, wanted):
    got = opened("noise", [spec], {"style": InputRule(source="constant", value=value)}, count=1).sample(0)
    assert got["style"].tolist() == wanted
    assert got["style"].dtype == spec.dtype


def test_constants_that_do_not_fit_are_refused():
    with pytest.raises(SpecError, match="2 values"):
        opened("noise", [STYLE], {"style": InputRule(source="constant", value=(1, 2))}, count=1)
    label = InputSpec("style", (), "int64", False)
    with pytest.raises(SpecError, match="int64"):
        opened("noise", [label], {"style": InputRule(source="constant", value=(0.5,))}, count=1)
