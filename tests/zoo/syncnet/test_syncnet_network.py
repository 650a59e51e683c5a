import pytest
import torch

from qsens.core.errors import LoadError
from qsens.zoo.syncnet.network import SyncNet, open_syncnet


@pytest.fixture(scope="module")
def syncnet():
    torch.manual_seed(0)
    return SyncNet().eval()


def test_has_the_published_size_and_names(syncnet):
    assert sum(parameter.numel() for parameter in syncnet.parameters()) == 13_631_616
    state = syncnet.state_dict()
    assert len(state) == 102
    shapes = {key: tuple(value.shape) for key, value in state.items() if value.dim() > 1}
    assert shapes == {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3),
        "netcnnaud.11.weight": (256, 384, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netfcaud.0.weight": (512, 512),
        "netfcaud.3.weight": (1024, 512),
        "netfclip.0.weight": (512, 512),
        "netfclip.3.weight": (1024, 512),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.8.weight": (256, 256, 1, 3, 3),
        "netcnnlip.11.weight": (256, 256, 1, 3, 3),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    }


@torch.no_grad()
def test_sizes_inside_are_the_published_ones(syncnet):
    def sizes(branch, given):
        seen = []
        for part in branch:
            given = part(given)
            seen.append(tuple(given.shape[2:]))
        return list(dict.fromkeys(seen))

    inputs = syncnet.example_inputs()
    assert sizes(syncnet.netcnnaud, inputs["mfcc"]) == [(13, 20), (11, 9), (5, 4), (1, 1)]
    assert sizes(syncnet.netcnnlip, inputs["faces"]) == [
        (1, 109, 109), (1, 54, 54), (1, 26, 26), (1, 13, 13), (1, 6, 6), (1, 1, 1)
    ]  # fmt: skip


@torch.no_grad()
def test_features_are_not_normalised(syncnet):
    sound, faces = syncnet(**syncnet.example_inputs())
    assert sound.shape == faces.shape == (1, 1024)
    assert sound.min() < 0
    assert abs(float(sound.norm()) - 1) > 0.05


def test_loads_the_published_file(syncnet, tmp_path):
    path = tmp_path / "syncnet_v2.model"
    torch.save(syncnet.state_dict(), path)
    opened = open_syncnet(path)
    assert not opened.training
    assert all(torch.equal(value, syncnet.state_dict()[key]) for key, value in opened.state_dict().items())


def test_other_files_are_refused(syncnet, tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"face_encoder.0.weight": torch.zeros(1), "audio_encoder.0.weight": torch.zeros(1)}, path)
    with pytest.raises(LoadError, match=r"holds the lip-sync expert .*, not the SyncNet of LSE-D"):
        open_syncnet(path)
    state = syncnet.state_dict()
    state["netfcaud.3.weight"] = torch.zeros(512, 512)
    torch.save(state, path)
    with pytest.raises(LoadError, match=r"'netfcaud.3.weight', 512x512 in the file and 1024x512"):
        open_syncnet(path)
