"""Samples that are calibrated on and scored: found by content, with the rest of their clips."""

import numpy as np
import pytest

from qsens.calibration.shared_samples import read_shared_samples, save_shared_samples, shared_samples


class Numbers:
    """One number a sample, with the labels of its clips."""

    def __init__(self, values, clusters=None):
        self.values, self.clusters, self.digest = values, clusters, str((values, clusters))

    def __len__(self):
        return len(self.values)

    def sample(self, index):
        return {"picture": np.full((3, 2, 2), self.values[index], np.float32)}

    def annotation(self, index):
        return {} if self.clusters is None else {"clip": self.clusters[index], "frame": index}


def found(calibration, evaluation, **more):
    return shared_samples(
        calibration, evaluation, **{"are_of_one_set": False, **more}, progress=lambda *_: None
    )


def test_equal_samples_are_found_by_what_they_hold():
    shared = found(Numbers([1, 2, 3, 4]), Numbers([9, 4, 2]))
    assert shared.places == (1, 3)
    assert shared.names == ("sample 1", "sample 3")
    assert shared.text().startswith("2 of 4 calibration samples are")
    assert not found(Numbers([1, 2]), Numbers([3])).text()


def test_a_shared_frame_takes_its_clip_along():
    calibration = Numbers([1, 2, 3, 4], ("a", "a", "b", "b"))
    shared = found(calibration, Numbers([7, 2], ("x", "y")))
    assert shared.places == (0, 1)
    assert shared.names == ("a 0", "a 1")


@pytest.mark.parametrize(("is_one_set", "places"), [(True, (2, 3)), (False, ())])
def test_a_clip_of_one_set_is_shared_by_its_name(is_one_set, places):
    calibration = Numbers([1, 2, 3, 4], ("a", "a", "b", "b"))
    assert found(calibration, Numbers([7], ("b",)), are_of_one_set=is_one_set).places == places


def test_what_was_found_is_kept(tmp_path):
    shared, path = found(Numbers([1, 2]), Numbers([2])), tmp_path / "shared.json"
    save_shared_samples(path, shared)
    assert read_shared_samples(path) == shared
    path.write_text("{")
    assert read_shared_samples(path) is None
