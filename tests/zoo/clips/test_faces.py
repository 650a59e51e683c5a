import numpy as np
import pytest

from qsens.zoo.clips.faces import Box, Margins, crop, smooth_boxes


def test_margins_may_lie_outside_until_cut():
    box = Margins(5, 10, 15, 20).around(Box(2, 90, 30, 80))
    assert box == Box(-3, 100, 15, 100)
    assert box.inside(95, 90) == Box(0, 95, 15, 90)
    assert Margins(bottom=-90).around(Box(2, 90, 30, 80)).is_empty


def test_a_crop_is_rows_then_columns():
    frame = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(crop(frame, Box(1, 3, 2, 5)), frame[1:3, 2:5])


def test_boxes_are_averaged_with_the_four_that_follow():
    boxes = [Box(top, top + 10, 0, 10) for top in (0, 10, 20, 30, 40, 100, 100)]
    tops = [box.top for box in smooth_boxes(boxes)]
    assert tops == [20, 40, 58, 58, 58, 58, 58]


def test_smoothing_stops_at_gaps():
    boxes = [Box(0, 10, 0, 10), Box(10, 20, 0, 10), None, Box(50, 60, 0, 10), None]
    smoothed = smooth_boxes(boxes)
    assert [box and box.top for box in smoothed] == [5, 5, None, 50, None]
    assert smooth_boxes([None, None]) == [None, None]
    assert smooth_boxes([]) == []


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("dlib", reason="dlib-bin is not installed")
    from qsens.zoo.clips.faces import DlibFaces

    return DlibFaces()


@pytest.fixture(scope="module")
def photograph():
    return pytest.importorskip("skimage.data", reason="scikit-image is not installed").astronaut()


def test_the_astronaut_is_framed_from_hairline_to_chin(detector, photograph):
    box = detector.detect(photograph)
    # Read off the photograph: hairline at row 65, chin at 180, cheeks at columns 175 and 265.
    np.testing.assert_allclose([box.top, box.bottom, box.left, box.right], [65, 180, 175, 265], atol=14)


def test_a_small_face_and_a_large_picture_are_found(detector, photograph):
    small = photograph[::2, ::2]
    large = photograph.repeat(3, axis=0).repeat(3, axis=1)
    expected = np.array([65, 180, 175, 265])
    for picture, scale in ((small, 0.5), (large, 3.0)):
        box = detector.detect(np.ascontiguousarray(picture))
        sides = np.array([box.top, box.bottom, box.left, box.right])
        np.testing.assert_allclose(sides / scale, expected, atol=18)


def test_a_face_at_the_edge_stays_inside(detector, photograph):
    box = detector.detect(np.ascontiguousarray(photograph[75:300, 150:400]))
    assert box == box.inside(225, 250)
    assert box.top == 0


def test_no_face_is_no_box(detector):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert detector.detect(noise) is None
    assert "dlib" in detector.name
