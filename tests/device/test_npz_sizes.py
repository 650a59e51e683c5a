"""Archives of arrays: what they unpack to is known before, and damage is one kind of error."""

import io
import os
import zipfile

import numpy as np
import pytest

from qsens.device.npz_sizes import read_arrays, unpacked_bytes

HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


def npy(shape, content=b""):
    """The bytes of an `.npy` whose header says `shape`, whatever follows."""
    text = (HEADER % (shape,)).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + content


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "arrays.npz"


def test_arrays_are_read(path):
    np.savez_compressed(path, a=np.arange(3), b=np.array("text"))
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    assert set(read_arrays(path, ["b"])) == {"b"}
    assert unpacked_bytes(path) == 3 * 8 + 4 * 4 + 2 * 128


@pytest.mark.parametrize(
    "content",
    [npy("(1000,)", bytes(4000)), npy("(1000, 1000, 1000, 1000)"), npy("(10000000000000,)")],
    ids=["unpacks", "says", "says more than there is"],
)
def test_an_array_that_is_too_large_is_refused_before_it_is_unpacked(path, content, monkeypatch):
    archive(path, a=content)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match="would unpack to"):
        read_arrays(path, largest_bytes=3000)


def test_an_archive_may_hold_as_much_as_it_takes_on_disk(path):
    np.savez(path, a=np.zeros(1000))
    assert len(read_arrays(path, largest_bytes=10)["a"]) == 1000


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([print], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        npy("(4,)", b"short"),
        npy("(-4,)"),
        npy("((((("),
        npy("(" * 60),
        npy("('x',)"),
        pickled(),
        npy("(4,)")[:20],
        b"\x93NUMPY\x09\x00" + bytes(100),
    ],
)
def test_damage_is_a_value_error(path, content):
    archive(path, a=content)
    with pytest.raises(ValueError, match="it is damaged"):
        read_arrays(path, ["a"])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_torn_archive_is_a_value_error(path, share):
    np.savez(path, a=np.zeros(100))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="it is damaged"):
        read_arrays(path)


def test_an_absent_array_a_pipe_and_an_absent_file(path, tmp_path):
    np.savez(path, a=np.zeros(1))
    with pytest.raises(ValueError, match="b"):
        read_arrays(path, ["b"])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="it is a pipe"):
        read_arrays(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")
