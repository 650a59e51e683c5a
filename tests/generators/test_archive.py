import io
import os
import zipfile

import numpy as np
import pytest
from crafted_archives import two_directories, write_archive
from tiny_torch import torch

from qsens.core.errors import LoadError
from qsens.generators.archive import open_archive, written_anew
from qsens.generators.checkpoint import read_weights

GOOD = {"data.pkl": b"good", "version": b"3\n"}
EVIL = {"data.pkl": b"evil" * 30, "version": b"3\n"}


def test_torch_reads_the_parts_that_were_looked_at_even_of_a_file_with_two_directories(tmp_path):
    path = two_directories(tmp_path / "two.pt", GOOD, EVIL)
    assert torch._C.PyTorchFileReader(str(path)).get_record("data.pkl") == EVIL["data.pkl"]
    with open_archive(path) as archive:
        parts = [(name, archive.read(name)) for name in sorted(archive.names)]
    with written_anew(parts) as file:
        assert torch._C.PyTorchFileReader(file).get_record("data.pkl") == GOOD["data.pkl"]


def _overlapping(path):
    write_archive(path, {"a": bytes(5000), "b": b"x"})
    with zipfile.ZipFile(path, "a") as archive:
        one = archive.getinfo("p/a")
        for number in range(20):
            copy = zipfile.ZipInfo(f"p/copy{number}")
            copy.header_offset, copy.CRC = one.header_offset, one.CRC
            copy.file_size = copy.compress_size = one.file_size
            archive.filelist.append(copy)
        archive._didModify = True


def _doubled(path):
    write_archive(path, {"a": b"1"})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("p/a", b"2")


def _named(name):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("p/data.pkl", b"")
            archive.writestr(name, b"")

    return make


def _flipped(path):
    write_archive(path, {"data.pkl": b"0123456789"})
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780"))


def _bomb(path):
    write_archive(path, {"data.pkl": bytes(2**27)}, packed=["data.pkl"])


CRAFTED = {
    "its parts overlap": _overlapping,
    "a part is named 'p/a'": _doubled,
    "a part is named 'p/../a'": _named("p/../a"),
    "a part is named '/a'": _named("/a"),
    "more than one top folder": _named("q/a"),
    "Bad CRC-32": _flipped,
    "unpacks to 134,217,728 bytes": _bomb,
}


@pytest.mark.parametrize("reason", CRAFTED)
def test_crafted_archives_are_refused_with_the_reason(reason, tmp_path):
    path = tmp_path / "crafted.pt"
    CRAFTED[reason](path)
    with pytest.raises(LoadError) as caught:
        read_weights(path)
    assert "is damaged or no checkpoint" in caught.value.message
    assert reason in caught.value.message


def _saved_with(change):
    """A checkpoint of four numbers whose pickle was changed."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(4.0)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    return {**parts, "data.pkl": change(parts["data.pkl"])}


@pytest.mark.parametrize(
    "change",
    [
        lambda pickled: pickled.replace(b"K\x04tq", b"J\xff\xff\xff\x0ftq"),  # numbers in the storage
        lambda pickled: pickled.replace(b"K\x04\x85", b"J\x00\x00\x00\x7f\x85"),  # the shape
        lambda pickled: pickled.replace(b"K\x04\x85", b"K\x40\x85"),
    ],
)
def test_tensors_that_say_they_are_larger_than_their_file_are_refused(change, tmp_path):
    parts = _saved_with(change)
    assert parts != _saved_with(lambda pickled: pickled)
    path = write_archive(tmp_path / "large.pt", parts)
    with pytest.raises(LoadError, match="is damaged or no checkpoint"):
        read_weights(path)


def test_a_tensor_that_repeats_one_number_without_end_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1).expand(2**40)}, tmp_path / "expanded.pt")
    with pytest.raises(LoadError, match="'weight' says it is 1099511627776"):
        read_weights(tmp_path / "expanded.pt")


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx", ".safetensors"])
def test_a_pipe_is_not_read(suffix, tmp_path):
    from qsens.run.open import open_generator

    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises(LoadError, match="is a pipe, not a file"):
        open_generator(path, model="tiny_torch:small" if suffix in (".pt", ".safetensors") else None)


def test_no_bit_flip_in_a_checkpoint_is_a_traceback_or_a_silent_change(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.arange(12.0).reshape(3, 4)}, path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(content), 150):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(flipped))
        try:
            assert torch.equal(read_weights(path)["weight"], torch.arange(12.0).reshape(3, 4))
        except LoadError:
            refused += 1
    assert refused > 30
