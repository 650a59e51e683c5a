import sys

import pytest
from calibration_sets import LATENT, opened

from qsens.core.errors import DataError, PluginError

PLUGIN = """
import numpy as np

class Frames:
    name = "frames"
    digest = "d1"
    clusters = None
    def __init__(self, inputs, seed, count):
        self.count, self.seed = count or 5, seed
    def __len__(self):
        return self.count
    def sample(self, index):
        return {"z": np.full(4, index + self.seed, np.float32)}
    def describe(self):
        return {"colour": "none"}

class Short(Frames):
    def __len__(self): return 2

class Empty(Frames):
    def __len__(self): return 0

class Nameless(Frames):
    name = ""

class Clustered(Frames):
    clusters = ("a",)

class Wide(Frames):
    def sample(self, index): return {"z": np.ones(5, np.float32)}

class Double(Frames):
    def sample(self, index): return {"z": np.ones(4)}

class Other(Frames):
    def sample(self, index): return {"y": np.ones(4, np.float32)}

class Failing(Frames):
    def sample(self, index): raise KeyError("boom")

def nothing(inputs, seed, count): return None
def failing(inputs, seed, count): raise RuntimeError("boom")
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_frames_set.py").write_text(PLUGIN)
    (tmp_path / "my_broken_set.py").write_text("import absent_module_of_mine")
    yield "my_frames_set"
    sys.modules.pop("my_frames_set", None)


def test_a_plugin_set_is_opened_from_the_working_folder(plugin):
    samples = opened(f"{plugin}:Frames", [LATENT], seed=10, count=3)
    assert (len(samples), samples.digest, samples.clusters) == (3, "d1", None)
    assert samples.sample(2)["z"].tolist() == [12, 12, 12, 12]
    described = samples.describe()
    assert described["source"] == "plug-in my_frames_set:Frames"
    assert described["colour"] == "none"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nothing", "NoneType without sample"),
        ("failing", "RuntimeError: boom"),
        ("absent", "no function 'absent'"),
        ("Empty", "0 samples"),
        ("Nameless", "name is ''"),
        ("Clustered", "1 clusters for 5 samples"),
    ],
)
def test_a_plugin_that_breaks_its_contract_is_refused(plugin, factory, message):
    with pytest.raises(PluginError, match=message):
        opened(f"{plugin}:{factory}", [LATENT])


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Wide", r"\(5,\) float32 for input 'z'"),
        ("Double", "float64"),
        ("Other", r"gave \['y'\]"),
        ("Failing", "KeyError: 'boom'"),
    ],
)
def test_a_plugin_sample_that_does_not_fit_is_refused(plugin, factory, message):
    samples = opened(f"{plugin}:{factory}", [LATENT])
    with pytest.raises(PluginError, match=message):
        samples.sample(0)


def test_a_plugin_with_too_few_samples_or_a_broken_module_is_refused(plugin):
    with pytest.raises(DataError, match="3 samples asked for"):
        opened(f"{plugin}:Short", [LATENT], count=3)
    with pytest.raises(PluginError, match="absent_module_of_mine"):
        opened("my_broken_set:Frames", [LATENT])
