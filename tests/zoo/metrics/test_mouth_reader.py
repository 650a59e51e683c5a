import json

import numpy as np
import pytest
from annotated_sets import pictures

from qsens.core.errors import LoadError, ScoreError
from qsens.zoo.metrics.mouth_reader import (
    SHIPPED,
    MouthReader,
    load_reader,
    mouth_input,
    save_reader,
    shipped_reader,
)


def tiny_reader(seed=0):
    generator = np.random.default_rng(seed)
    half = np.float16
    kernels = [
        (generator.normal(0, 0.3, shape).astype(half), generator.normal(0, 0.3, shape[3]).astype(half))
        for shape in ((3, 3, 3, 4), (3, 3, 4, 5))
    ]
    dense = [
        (generator.normal(0, 0.1, shape).astype(half), generator.normal(size=shape[1]).astype(half))
        for shape in ((12 * 16 * 5, 6), (6, 3))
    ]

    def widened(pairs):
        return tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in pairs)

    return MouthReader(widened(kernels), widened(dense), {"frames": 1})


def torch_reading(reader, images):
    """The same network in torch, from the definition."""
    torch = pytest.importorskip("torch")
    features = torch.from_numpy(mouth_input(images)).permute(0, 3, 1, 2)
    for kernel, bias in reader.kernels:
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1)
        features = torch.relu(
            torch.nn.functional.conv2d(features, weight, torch.from_numpy(bias), stride=2, padding=1)
        )
    flat = features.permute(0, 2, 3, 1).flatten(1)
    (first, first_bias), (last, last_bias) = (
        tuple(torch.from_numpy(array) for array in pair) for pair in reader.dense
    )
    return (torch.relu(flat @ first + first_bias) @ last + last_bias).numpy()


def test_is_the_network_it_says():
    reader, images = tiny_reader(), pictures(5)
    assert np.allclose(reader.read(images), torch_reading(reader, images), atol=1e-4)


def test_reads_any_number_of_pictures_alike():
    reader, images = tiny_reader(), pictures(130)
    assert np.allclose(reader.read(images)[100:103], reader.read(images[100:103]), atol=1e-5)
    assert reader.read(images[:0]).shape == (0, 3)


def test_light_and_contrast_count_little():
    image = pictures(1) // 4 + 60
    brighter = image + 40
    assert np.allclose(mouth_input(image), mouth_input(brighter), atol=1e-5)
    flat = mouth_input(np.full((1, 3, 96, 96), 77, np.uint8))
    assert not flat.any()


def test_the_file_keeps_reader_and_facts(tmp_path):
    reader = tiny_reader()
    save_reader(tmp_path / "reader.npz", reader)
    kept = load_reader(tmp_path / "reader.npz")
    assert kept.identity == reader.identity
    assert kept.facts == {"frames": 1}
    assert np.array_equal(kept.read(pictures(3)), reader.read(pictures(3)))
    first = (tmp_path / "reader.npz").read_bytes()
    save_reader(tmp_path / "reader.npz", kept)
    assert (tmp_path / "reader.npz").read_bytes() == first


def test_other_weights_have_another_identity():
    assert tiny_reader(0).identity != tiny_reader(1).identity


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn", b"no archive"])
def test_a_file_that_is_no_reader_is_refused(tmp_path, content):
    path = tmp_path / "reader.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LoadError, match="holds no mouth reader"):
        load_reader(path)


@pytest.mark.parametrize("shape", [(1, 3, 48, 48), (1, 1, 96, 96), (3, 96, 96)])
def test_refuses_pictures_it_was_not_made_for(shape):
    with pytest.raises(ScoreError, match="the mouth reader reads"):
        tiny_reader().read(np.zeros(shape, np.uint8))


def test_the_shipped_reader_is_small_and_says_how_well_it_reads():
    assert SHIPPED.stat().st_size < 300_000
    facts = shipped_reader().facts
    assert facts["held_out_correlations"]["open"] > 0.97
    assert json.dumps(dict(facts))
