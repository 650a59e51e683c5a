"""A tiny corpus, small stand-ins for large networks, and specs of a few steps."""

import pytest
import torch
from safetensors.torch import save_file
from small_networks import SmallDiscriminator, SmallExpert, small_expert, small_extractor
from small_specs import small_spec
from tiny_clips import write_tiny_corpus

from qsens.zoo.training import expert, student, windowed
from qsens.zoo.training import windowed as teacher
from qsens.zoo.wav2lip.generator import Wav2Lip


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_tiny_corpus(tmp_path_factory.mktemp("corpus"), clips=2)


@pytest.fixture
def small_networks(monkeypatch):
    """Small networks wherever a training would make or open a large one; how many experts were opened."""
    opened = []

    def open_small(path):
        opened.append(path)
        return small_expert()

    monkeypatch.setattr(teacher, "QualityDiscriminator", SmallDiscriminator)
    monkeypatch.setattr(student, "QualityDiscriminator", SmallDiscriminator)
    monkeypatch.setattr(expert, "LipSyncExpert", SmallExpert)
    monkeypatch.setattr(windowed, "open_frozen_expert", open_small)
    monkeypatch.setattr(student, "open_extractor", lambda *_: small_extractor())
    return opened


@pytest.fixture
def make_spec(corpus, tmp_path):
    """A spec of a few steps: `make_spec(kind, out="run", key=value)`."""

    def make(kind, out="run", **values):
        return small_spec(kind, corpus, tmp_path / out, **values)

    return make


@pytest.fixture
def teacher_file(tmp_path):
    """Random weights of a teacher twice as wide as the students."""
    torch.manual_seed(3)
    path = tmp_path / "teacher.safetensors"
    save_file(Wav2Lip(0.125, residual=False).state_dict(), path)
    return path
