"""Laws of the weighted average (I5 of mixing): fixed point, linearity, permutation, and no input changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import ProtocolMisuse
from gossip.merging.average import Average
from gossip.merging.settings import MERGES
from gossip.protocols.base import Contribution
from tests.strategies import vectors, weights


def average(models, row):
    own, *others = (torch.from_numpy(np.array(model)) for model in models)
    received = [
        Contribution(f"p{k}", model, w) for k, (model, w) in enumerate(zip(others, row[1:], strict=True))
    ]
    return Average()(own, row[0], received).numpy()


@st.composite
def rows(draw, count_max=6):
    count = draw(st.integers(1, count_max))
    return draw(vectors(count=count)), draw(weights(count=count))


def close(a, b, models):
    scale = max(1.0, *(float(np.abs(model).max()) for model in models))
    return np.allclose(a, b, rtol=0, atol=2e-6 * scale)


@given(rows())
def test_the_average_is_the_weighted_sum(row):
    models, w = row
    expected = sum(weight * model.astype(np.float64) for weight, model in zip(w, models, strict=True))
    assert close(average(models, w), expected, models)


@given(vectors(count=1), weights(count=5))
def test_equal_models_stay_equal_to_the_last_bit(models, w):
    assert np.array_equal(average(models * 5, w), models[0])


@given(rows(), st.floats(-4, 4), st.floats(-100, 100))
def test_the_average_is_linear(row, a, b):
    models, w = row
    mapped = [np.float32(a) * model + np.float32(b) for model in models]
    assert close(average(mapped, w), np.float32(a) * average(models, w) + np.float32(b), [*mapped, *models])


@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_received_models_does_not_matter(row, random):
    models, w = row
    order = list(range(1, len(models)))
    random.shuffle(order)
    order = [0, *order]
    shuffled = average([models[k] for k in order], [w[k] for k in order])
    assert close(shuffled, average(models, w), models)


@given(rows())
def test_the_average_stays_in_the_models_range_and_changes_no_input(row):
    models, w = row
    before = [model.copy() for model in models]
    result = average(models, w)
    ulp = np.spacing(np.abs(models).max(axis=0)) * len(models)
    assert (result <= np.max(models, axis=0) + ulp).all()
    assert (result >= np.min(models, axis=0) - ulp).all()
    assert all(np.array_equal(a, b) for a, b in zip(models, before, strict=True))


def test_the_result_is_a_fresh_vector_even_where_nothing_was_received():
    own = torch.ones(3)
    result = Average()(own, 1.0, [])
    result.add_(1)
    assert torch.equal(own, torch.ones(3))


def test_weight_zero_ignores_a_model():
    assert np.array_equal(average([np.float32([1.0]), np.float32([np.nan])], [1.0, 0.0]), [1.0])
    assert np.array_equal(average([np.float32([5.0]), np.float32([7.0])], [0.0, 1.0]), [7.0])


@pytest.mark.parametrize(
    ("own_weight", "others", "word"),
    [(0.5, [0.4], "sum to"), (1.5, [-0.5], "negative"), (float("nan"), [1.0], "sum")],
)
def test_weights_that_are_no_row_of_a_mixing_matrix_are_refused(own_weight, others, word):
    received = [Contribution("b", torch.zeros(2), w) for w in others]
    with pytest.raises(ProtocolMisuse, match=word):
        Average()(torch.zeros(2), own_weight, received)


def test_models_of_another_size_are_refused():
    with pytest.raises(ProtocolMisuse, match="merge of b's"):
        Average()(torch.zeros(2), 0.5, [Contribution("b", torch.zeros(1), 0.5)])


def test_the_registry_builds_it_from_settings():
    choice = MERGES.validate({"kind": "average"})
    assert isinstance(choice.load()(choice), Average)
