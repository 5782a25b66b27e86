"""The kernels under the robust rules: networks, order statistics, distances and combinations, block by block."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.merging import blocks
from gossip.merging.average import Average
from gossip.merging.robust import distances, models, networks, order_statistics
from gossip.protocols.base import Contribution
from tests.laws import tried
from tests.robust_harness import merge
from tests.strategies import vectors

# --- networks and order statistics ---


def ranks(rows, first, last):
    return np.stack(order_statistics._ranks(list(rows), first, last))


@pytest.mark.parametrize("n", range(1, 11))
def test_a_network_selects_every_window_of_ranks(n):
    """The zero-one principle: what is right for all zeros and ones is right for all values."""
    rows = np.array(list(itertools.product([0.0, 1.0], repeat=n)), dtype=np.float32).T.copy()
    ordered = np.sort(rows, axis=0)
    for first, last in itertools.combinations(range(n + 1), 2):
        assert np.array_equal(ranks(rows, first, last).sum(axis=0), ordered[first:last].sum(axis=0))


@given(st.integers(2, networks.NETWORK_ROWS_MAX), st.integers(0, 10**6), st.data())
@tried(0.3)
def test_networks_of_any_size_select_ranks(n, seed, data):
    rows = np.random.default_rng(seed).permutation(n * 16).reshape(n, 16).astype(np.float32)
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first + 1, n))
    selected = np.sort(ranks(rows, first, last), axis=0)
    assert np.array_equal(selected, np.sort(rows, axis=0)[first:last])


@pytest.mark.parametrize("n", [networks.NETWORK_ROWS_MAX + 1, 301])
def test_very_many_rows_are_sorted_in_columns_with_the_same_result(n):
    rows = np.random.default_rng(0).normal(size=(n, 50)).astype(np.float32)
    out = np.empty(50, np.float32)
    order_statistics.median(list(rows), out)
    assert np.array_equal(out, np.median(rows.astype(np.float64), axis=0).astype(np.float32))


@pytest.mark.parametrize("n", range(1, 11))
def test_where_order_is_wanted_ranks_come_in_order(n):
    rows = np.array(list(itertools.product([0.0, 1.0], repeat=n)), dtype=np.float32).T.copy()
    assert np.array_equal(
        np.stack(order_statistics._ranks(list(rows), 0, n, ordered=True)), np.sort(rows, axis=0)
    )


@given(st.integers(1, 9), st.data())
@tried(0.6)
def test_the_mean_around_the_median_is_that_of_the_nearest_values(count, data):
    rows = np.stack(data.draw(vectors(count=count))).astype(np.float64)
    f = data.draw(st.integers(0, (count - 1) // 2))
    out = np.empty(rows.shape[1])
    order_statistics.mean_around_median(list(rows), out, f=f)
    for column, value in zip(rows.T, out, strict=True):
        middle = np.median(column)
        nearest = sorted(column, key=lambda entry: (abs(entry - middle), entry))
        mirrored = sorted(column, key=lambda entry: (abs(entry - middle), -entry))
        sides = [np.mean(each[: count - f]) for each in (nearest, mirrored)]
        assert min(sides) - 1e-9 <= value <= max(sides) + 1e-9


def test_pruning_leaves_few_comparisons():
    """A median of ten takes 31 comparators, not all of which have two results that somebody reads."""
    assert len(networks.comparators(10)) == 31
    assert len(networks.selection(10, 4, 6).instructions) == 50
    assert len(networks.selection(10, 0, 10).instructions) == 0


@given(st.integers(1, 12), st.data())
@tried(0.6)
def test_the_median_is_the_mean_of_the_two_middle_values_rounded_once(count, data):
    rows = np.stack(data.draw(vectors(count=count)))
    out = np.empty(rows.shape[1], np.float32)
    order_statistics.median(list(rows), out)
    assert np.array_equal(out, np.median(rows.astype(np.float64), axis=0).astype(np.float32))


@given(st.integers(1, 12), st.data())
@tried(0.6)
def test_the_trimmed_mean_is_the_mean_of_the_middle_values_rounded_once(count, data):
    rows = np.stack(data.draw(vectors(count=count)))
    f = data.draw(st.integers(0, (count - 1) // 2))
    out = np.empty(rows.shape[1], np.float32)
    order_statistics.trimmed_mean(list(rows), out, f=f)
    middle = np.sort(rows.astype(np.float64), axis=0)[f : count - f]
    assert np.allclose(out, middle.mean(axis=0).astype(np.float32), rtol=1e-7, atol=1e-30)


def test_values_equally_far_from_the_median_share_the_last_place():
    out = np.empty(1)
    order_statistics.mean_around_median([np.array([v]) for v in (-1.0, 0.0, 1.0)], out, f=1)
    assert out == [0.0]
    order_statistics.mean_around_median([np.array([v]) for v in (-1.0, 0.0, 2.0)], out, f=1)
    assert out == [-0.5]


def test_blocks_join_without_a_seam():
    """A vector of several blocks and a bit, of every size that blocks could get wrong."""
    size = order_statistics.BLOCK_BYTES // (4 * 6) + 7
    rows = np.random.default_rng(1).normal(size=(5, size)).astype(np.float32)
    out = np.empty(size, np.float32)
    order_statistics.by_blocks(
        lambda here: [row[here] for row in rows], order_statistics.median, rows=5, out=out
    )
    assert np.array_equal(out, np.median(rows, axis=0))


# --- distances ---


def exact(rows):
    wide = np.stack(rows).astype(np.float64)
    return ((wide[:, None] - wide[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize(
    "n", [2, 5, distances.ROWS_BY_PRODUCTS_MAX + 1, distances.ROWS_BY_PRODUCTS_MAX + 2, 40]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_are_exact_to_many_digits(n, dtype):
    rows = list(np.random.default_rng(n).normal(size=(n, 3000)).astype(dtype))
    assert np.allclose(distances.squared_distances(rows), exact(rows), rtol=1e-12, atol=0)


@pytest.mark.parametrize("offset", [1.0, 1e3, 1e4])
def test_close_models_with_a_large_common_offset_keep_their_distances(offset):
    """In float32 a model of 1000 ± 0.01: products about the origin would keep no digit of the differences."""
    rng = np.random.default_rng(0)
    common = offset * rng.normal(size=20_000)
    rows = [(common + 1e-2 * rng.normal(size=20_000)).astype(np.float32) for _ in range(8)]
    squared, expected = distances.squared_distances(rows), exact(rows)
    off = ~np.eye(8, dtype=bool)
    assert (np.abs(squared - expected)[off] < 1e-6 * expected[off]).all()


def test_a_tight_group_far_from_the_reference_is_measured_from_within():
    """Sybils with almost the same model, 1e30 away, and twins among them."""
    rng = np.random.default_rng(0)
    honest = [rng.normal(size=500).astype(np.float32) for _ in range(3)]
    far = (1e30 * rng.normal(size=500)).astype(np.float32)
    near_far = np.nextafter(far, np.float32(np.inf))
    rows = [*honest, far, near_far, far.copy(), np.nextafter(near_far, np.float32(np.inf))]
    squared, expected = distances.squared_distances(rows), exact(rows)
    assert squared[3, 5] == 0
    off = expected > 0
    assert (np.abs(squared - expected)[off] < 1e-6 * expected[off]).all()


@given(st.integers(1, 6), st.data())
@tried(0.3)
def test_products_and_norms_about_a_reference(count, data):
    rows = data.draw(vectors(count=count + 1))
    reference, rows = rows[0], [*rows[1:], rows[0]]
    wide = np.stack(rows).astype(np.float64) - reference.astype(np.float64)
    products = distances.gram(rows, reference)
    assert np.allclose(products, wide @ wide.T, rtol=1e-12, atol=1e-6)
    assert (products[-1] == 0).all()
    assert np.allclose(distances.squared_norms(rows, reference), np.diagonal(wide @ wide.T), rtol=1e-12)


def test_distances_of_vectors_longer_than_a_block():
    size = distances.BLOCK_BYTES // (8 * 4) + 5
    rows = list(np.random.default_rng(2).normal(size=(3, size)).astype(np.float32))
    assert np.allclose(distances.squared_distances(rows), exact(rows), rtol=1e-12)


# --- combinations and averages ---


def test_a_combination_of_vectors_longer_than_a_block():
    size = models.BLOCK_BYTES // (8 * 2) + 5
    own, a, b = np.random.default_rng(3).normal(size=(3, size)).astype(np.float32)
    out = np.empty_like(own)
    models.combine(own, [(0.25, a), (0.5, b)], 0.25, out)
    assert np.allclose(out, 0.25 * own + 0.25 * a + 0.5 * b, atol=1e-6)


def test_what_has_no_share_is_not_read():
    own = np.full(4, np.nan, dtype=np.float32)
    out = np.empty_like(own)
    models.combine(own, [(1.0, np.ones(4, np.float32))], 0.0, out)
    assert (out == 1).all()


def test_the_average_of_long_models_is_the_same_in_blocks():
    size = blocks.AVERAGE_BLOCK + 3
    own, a, b = (
        torch.from_numpy(row) for row in np.random.default_rng(4).normal(size=(3, size)).astype("f4")
    )
    received = [Contribution("b", a, 0.3), Contribution("c", b, 0.2)]
    merged = Average()(own, 0.5, received)
    assert torch.allclose(merged, 0.5 * own + 0.3 * a + 0.2 * b, atol=1e-6)


@pytest.mark.parametrize("size", [0, 1, 10, 3 * 2**18])
def test_fresh_vectors_have_the_models_shape_and_type(size):
    for dtype in (torch.float32, torch.float64):
        fresh = blocks.fresh_like(torch.zeros(size, dtype=dtype))
        assert (fresh.shape, fresh.dtype) == ((size,), dtype)


def test_slices_cover_a_vector_once():
    assert [(here.start, here.stop) for here in blocks.slices(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(blocks.slices(0, 3)) == []


def test_working_space_is_used_again_and_never_handed_out():
    """Two merges of different sizes, the smaller last: the first result must not change under it."""
    rng = np.random.default_rng(5)
    large, small = rng.normal(size=(5, 300)), rng.normal(size=(4, 20))
    for kind in ("median", "trimmed-mean", "meamed", "krum", "geometric-median", "nnm+median", "nna"):
        first = merge({"kind": kind, "f": 1}, large)
        kept = first.value.copy()
        merge({"kind": kind, "f": 1}, small)
        assert np.array_equal(first.value, kept), kind
