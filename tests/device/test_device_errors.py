"""What messages say of errors of the system: words, neither numbers nor paths."""

import urllib.error

import pytest

from qsens.calibration.manifest import read_manifest
from qsens.core.errors import DataError
from qsens.device.errors import reason_of
from qsens.run.folder import RunFolderError, read_provenance


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/run/trials.npz"), "No space left on device"),
        (urllib.error.URLError(OSError(111, "Connection refused")), "Connection refused"),
        (OSError("cannot identify image file"), "cannot identify image file"),
        (ValueError("row 3 is short"), "row 3 is short"),
    ],
)
def test_a_reason_is_words(error, words):
    assert reason_of(error) == words


def test_a_file_that_cannot_be_read_is_named_once_and_without_a_number(tmp_path):
    (tmp_path / "manifest.toml").mkdir()
    (tmp_path / "provenance.json").mkdir()
    for read, kind in ((read_manifest, DataError), (read_provenance, RunFolderError)):
        with pytest.raises(kind) as caught:
            read(tmp_path)
        assert caught.value.message.endswith(": Is a directory")
        assert "Errno" not in caught.value.message
        assert caught.value.message.count(str(tmp_path)) == 1
