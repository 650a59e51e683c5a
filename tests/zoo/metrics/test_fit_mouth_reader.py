from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qsens.core.errors import DataError
from qsens.zoo.metrics import fit_mouth_reader
from qsens.zoo.metrics.fit_mouth_reader import FitOptions, fit_reader
from qsens.zoo.metrics.mouth_reader import mouth_input


def drawn_clips(speakers=8, frames=40, *, has_mouth=True):
    """Skin of any colour with a dark ellipse: open is its height, width its width, round is noise."""
    generator = np.random.default_rng(0)
    mouth = generator.random((speakers * frames, 3)).astype(np.float32)
    skin = np.repeat(generator.integers(90, 220, (speakers, 1, 1, 3)), frames, axis=0)
    rows, columns = np.mgrid[0:96, 0:96]
    tall, wide = 1 + 12 * mouth[:, 0, None, None], 5 + 12 * mouth[:, 1, None, None]
    inside = ((columns - 48) / wide) ** 2 + ((rows - 70) / tall) ** 2 < 1
    pictures = np.where(inside[..., None], 30, skin).astype(np.uint8)
    return SimpleNamespace(
        frames=pictures,
        mouth=mouth if has_mouth else None,
        speaker_of=np.repeat(np.arange(speakers), frames),
    )


@pytest.mark.slow
def test_learns_to_read_speakers_it_has_not_seen():
    reader = fit_reader(drawn_clips(), FitOptions(epochs=12, seed=0))
    assert reader.facts["frames"] == 280
    assert reader.facts["held_out_frames"] == 40
    assert reader.facts["held_out_correlations"]["open"] > 0.9
    assert reader.facts["held_out_correlations"]["width"] > 0.8
    assert abs(reader.facts["held_out_correlations"]["round"]) < 0.5


def test_the_same_seed_gives_the_same_reader_and_another_seed_another():
    clips = drawn_clips(frames=10)
    first, again, other = (fit_reader(clips, FitOptions(1, seed)).identity for seed in (0, 0, 1))
    assert first == again != other


def test_the_folded_reader_is_the_trained_network():
    torch.manual_seed(0)
    network = fit_mouth_reader._Network()
    images = np.random.default_rng(0).integers(0, 256, (32, 3, 96, 96), dtype=np.uint8)
    features = torch.from_numpy(mouth_input(images)).permute(0, 3, 1, 2)
    for _ in range(3):
        network(features)  # moves the running statistics
    for norm in network.norms:
        torch.nn.init.normal_(norm.weight, 1.0, 0.2)
        torch.nn.init.normal_(norm.bias)
    expected = network.eval()(features).detach().numpy()
    read = fit_mouth_reader._folded(network, {}).read(images)
    assert np.allclose(read, expected, atol=2e-2 * expected.std())


def test_needs_the_mouth_and_enough_speakers():
    with pytest.raises(DataError, match="states no mouth"):
        fit_reader(drawn_clips(frames=2, has_mouth=False), FitOptions())
    with pytest.raises(DataError, match="7 speakers, at least 8"):
        fit_reader(drawn_clips(7, 2), FitOptions())
