"""Evidence of a trial: saved whole, damaged means absent."""

import errno
import os

import numpy as np
import pytest

from qsens.core.errors import RunFolderError
from qsens.run.evidence import Evidence, evidence_path, load_evidence, save_evidence

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
INFLUENCES = {"fid[lite0]": np.linspace(-1, 1, 4), "a/b c": np.zeros(4)}


def test_evidence_survives_its_file(tmp_path):
    save_evidence(tmp_path, 3, Evidence(FEATURES, INFLUENCES))
    found = load_evidence(tmp_path, 3)
    np.testing.assert_array_equal(found.features, FEATURES)
    assert found.features.dtype == np.float32
    assert list(found.influences) == list(INFLUENCES)
    for label, values in INFLUENCES.items():
        np.testing.assert_array_equal(found.influences[label], values)


def test_features_may_be_absent(tmp_path):
    save_evidence(tmp_path, 0, Evidence(None, {}))
    found = load_evidence(tmp_path, 0)
    assert found.features is None
    assert found.influences == {}


def test_clips_are_kept_where_there_are_any(tmp_path):
    save_evidence(tmp_path, 0, Evidence(None, INFLUENCES, np.array([0, 0, 1, 1])))
    np.testing.assert_array_equal(load_evidence(tmp_path, 0).clusters, [0, 0, 1, 1])
    save_evidence(tmp_path, 0, Evidence(None, INFLUENCES))
    assert load_evidence(tmp_path, 0).clusters is None


def test_files_without_clips_are_read(tmp_path):
    np.savez(
        evidence_path(tmp_path, 0), labels=np.array('["fid"]'), influence_0=np.ones(4), features=FEATURES
    )
    found = load_evidence(tmp_path, 0)
    assert found.clusters is None
    np.testing.assert_array_equal(found.influences["fid"], np.ones(4))


def test_absent_evidence_is_none(tmp_path):
    assert load_evidence(tmp_path, 7) is None


def test_evidence_torn_anywhere_is_none(tmp_path):
    save_evidence(tmp_path, 0, Evidence(FEATURES, INFLUENCES))
    path = evidence_path(tmp_path, 0)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        assert load_evidence(tmp_path, 0) is None


def test_evidence_with_a_flipped_byte_is_none_or_the_same_labels(tmp_path):
    save_evidence(tmp_path, 0, Evidence(FEATURES, INFLUENCES))
    path = evidence_path(tmp_path, 0)
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        found = load_evidence(tmp_path, 0)
        assert found is None or set(found.influences) == set(INFLUENCES)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError("55296 requested and 12160 written")],
)
def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch, error):
    save_evidence(tmp_path, 0, Evidence(FEATURES, {}))

    def full(*_, **__):
        raise error

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(RunFolderError, match="no space left"):
        save_evidence(tmp_path, 0, Evidence(FEATURES + 1, {}))
    np.testing.assert_array_equal(load_evidence(tmp_path, 0).features, FEATURES)
    assert len(list(tmp_path.iterdir())) == 1


DAMAGE = {
    "text as features": {"features": np.array([["a", "b"]])},
    "features of one axis": {"features": np.zeros(4)},
    "features that are NaN": {"features": np.full((4, 3), np.nan)},
    "no features": {"features": np.zeros((0, 3))},
    "a lone influence": {"influence_0": np.array(3.0)},
    "influence of two axes": {"influence_1": np.zeros((4, 2))},
    "influence of texts": {"influence_0": np.array(list("abcd"))},
    "clips of texts": {"clusters": np.array(list("abcd"))},
    "labels that are deep": {"labels": np.array("[" * 100_000)},
    "labels that are none": {"labels": np.array("null")},
    "labels that are numbers": {"labels": np.array("[1, 2]")},
    "labels of no array": {"labels": np.array('["a", "b", "c"]')},
    "labels of another type": {"labels": np.zeros(3)},
}


@pytest.mark.parametrize("changes", DAMAGE.values(), ids=DAMAGE.keys())
def test_evidence_of_another_type_or_shape_is_none(tmp_path, changes):
    save_evidence(tmp_path, 0, Evidence(FEATURES, INFLUENCES, np.arange(4)))
    path = evidence_path(tmp_path, 0)
    np.savez(path, **{**np.load(path), **changes})
    assert load_evidence(tmp_path, 0) is None


def test_a_pipe_is_no_evidence(tmp_path):
    os.mkfifo(evidence_path(tmp_path, 0))
    assert load_evidence(tmp_path, 0) is None
