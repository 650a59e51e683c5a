"""FLIP against its authors' package on the same files."""

import numpy as np
import pytest
from PIL import Image

from qsens.core.interfaces import ScoredBatch, ScoringContext
from qsens.testing import check_metric

flip_evaluator = pytest.importorskip("flip_evaluator", reason="pip install 'qsens[flip]'")
from qsens.scoring.flip import Flip, difference_map  # noqa: E402

CONTEXT = ScoringContext(2, None, None, None, None, "e" * 16, None)
BEFORE = np.random.default_rng(0).integers(20, 230, (2, 3, 40, 56), dtype=np.uint8)
AFTER = BEFORE + np.random.default_rng(1).integers(0, 20, BEFORE.shape, dtype=np.uint8)


def score_of(images):
    accumulator = Flip().start(CONTEXT)
    accumulator.update(ScoredBatch(0, images, BEFORE, None))
    return accumulator.compute().score


def test_the_score_is_what_the_package_says_of_the_files(tmp_path):
    paths = []
    for name, images in (("before", BEFORE), ("after", AFTER)):
        for index, image in enumerate(images):
            paths.append(tmp_path / f"{name}{index}.png")
            Image.fromarray(image.transpose(1, 2, 0)).save(paths[-1])
    files = [str(path) for path in paths]
    of_files = [flip_evaluator.evaluate(files[i], files[i + 2], "LDR", applyMagma=False) for i in range(2)]
    score = score_of(AFTER)
    assert score.value == pytest.approx(np.mean([mean for _, mean, _ in of_files]), rel=1e-5)
    assert score.difference == score.value > 0
    np.testing.assert_allclose(difference_map(AFTER[0], BEFORE[0]), of_files[0][0][..., 0], atol=1e-6)


def test_equal_pictures_score_zero():
    assert score_of(BEFORE).value == 0.0


def test_it_keeps_the_contract_of_metrics():
    check_metric(Flip)
