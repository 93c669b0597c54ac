"""Inception score: the two-class oracle, its bounds, splits."""

import numpy as np
import pytest

from genjax.errors import UserError
from genjax.metrics.inception_score import inception_score

TWO = np.log(np.tile([[0.9, 0.1], [0.1, 0.9]], (10, 1)))


def test_two_classes():
    mean, std = inception_score(TWO + 5.0, 10)  # logits are known up to a constant
    assert mean == pytest.approx(1.4449348112, abs=1e-9) and std == pytest.approx(0, abs=1e-9)


def test_bounds():
    sure = np.where(np.arange(30)[:, None] % 5 == np.arange(5), 1000.0, -1000.0)
    assert inception_score(sure, 1)[0] == pytest.approx(5.0)
    assert inception_score(sure[::5], 1)[0] == pytest.approx(1.0)
    assert inception_score(np.zeros((30, 5)), 3)[0] == pytest.approx(1.0)


def test_splits_are_scored_by_themselves():
    logits = np.random.default_rng(0).normal(size=(35, 4)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    by_hand = []
    for part in (p[:11], p[11:23], p[23:]):
        by_hand.append(np.exp(np.mean([np.sum(q * np.log(q / part.mean(0))) for q in part])))
    assert inception_score(logits.astype(np.float32), 3) == (pytest.approx(np.mean(by_hand), rel=1e-6),
                                                             pytest.approx(np.std(by_hand), rel=1e-5))
    with pytest.raises(UserError, match="do not fill 36 splits"):
        inception_score(logits, 36)
