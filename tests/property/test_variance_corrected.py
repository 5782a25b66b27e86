"""Laws of variance-corrected averaging, each with what would break it (arXiv 2404.04616)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gossip.errors import ProtocolMisuse
from gossip.merging import moments as moments_module
from gossip.merging.average import Average
from gossip.merging.base import MergeContext
from gossip.merging.moments import BLOCK_ELEMENTS, Scratch, moments
from gossip.merging.settings import MERGES, VarianceCorrectedSettings
from gossip.merging.variance_corrected import VarianceCorrected
from gossip.parameters import ParameterSpace, Role, Slot
from gossip.protocols.base import WHOLE, Contribution, GossipStep, Part
from tests.strategies import weights
from topologies import Topology

SHAPES = ((3, 5), (5,), (4, 4), ())
"""Two weight matrices, a bias and a scalar."""
MATRICES = (slice(0, 15), slice(20, 36))
REST = (slice(15, 20), slice(36, 37))

FLAT = {"ndim_min": 1, "numel_min": 2}


def space_of(*shapes: tuple[int, ...]) -> ParameterSpace:
    slots, offset = [], 0
    for number, shape in enumerate(shapes):
        slot = Slot(name=f"t{number}", shape=shape, dtype=torch.float32, offset=offset, role=Role.LEARNED)
        slots.append(slot)
        offset = slot.end
    return ParameterSpace(tuple(slots), "id")


class Peer:
    """One peer's rule, fed with rows of numbers; the first is its own."""

    def __init__(self, *shapes: tuple[int, ...], **settings) -> None:
        self.rule = VarianceCorrected(VarianceCorrectedSettings(**settings))
        self.space = space_of(*(shapes or SHAPES))

    def merge(self, models, row, *, round=0, step=0, last=True, part=WHOLE) -> np.ndarray:
        own, *others = (torch.from_numpy(np.array(model, dtype=np.float32)) for model in models)
        received = [
            Contribution(f"p{k}", model, w) for k, (model, w) in enumerate(zip(others, row[1:], strict=True))
        ]
        context = MergeContext(
            peer="own",
            seed=0,
            at=GossipStep(round, step=step, last=last, part=part),
            space=self.space,
            x=torch.zeros(0),
            y=torch.zeros(0),
            predict=lambda learned, x: x,
        )
        return self.rule(own, row[0], received, context=context).numpy()


def corrected(models, row, *shapes, **settings) -> np.ndarray:
    return Peer(*shapes, **settings).merge(models, row)


def plain(models, row) -> np.ndarray:
    own, *others = (torch.from_numpy(np.array(model, dtype=np.float32)) for model in models)
    received = [Contribution("p", model, w) for model, w in zip(others, row[1:], strict=True)]
    return Average()(own, row[0], received).numpy()


def var(values, ddof=0) -> float:
    return float(np.var(np.asarray(values, dtype=np.float64), ddof=ddof))


@st.composite
def cases(draw, *, count_min=1, count_max=6):
    """Models of `SHAPES` with their own scales and means, and a row of weights."""
    count = draw(st.integers(count_min, count_max))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    models = rng.normal(size=(count, 37))
    for tensor in (*MATRICES, *REST):
        models[:, tensor] *= draw(st.sampled_from([1e-3, 1.0, 50.0]))
        models[:, tensor] += draw(st.sampled_from([0.0, 0.5, 30.0])) * rng.normal()
    models *= np.array(draw(st.lists(st.floats(0.3, 3), min_size=count, max_size=count)))[:, None]
    return list(models.astype(np.float32)), draw(weights(count=count))


def orthogonal(count: int, size: int, seed: int = 0) -> np.ndarray:
    """`count` rows of mean 0 and variance 1 that are uncorrelated to rounding."""
    noise = np.random.default_rng(seed).normal(size=(size, count))
    basis, _ = np.linalg.qr(noise - noise.mean(0))
    return np.sqrt(size) * basis.T


# --- exactness -------------------------------------------------------------------------------------


@given(cases(), st.sampled_from(["conservative", "others", "self"]))
def test_each_weight_tensor_has_exactly_the_target_variance_and_the_averages_mean(case, target):
    models, row = case
    result, average = corrected(models, row, target=target, scale_max=1e6), plain(models, row)
    received = sum(row[1:])
    for tensor in MATRICES:
        variances = [var(model[tensor]) for model in models]
        expected = np.dot(row, variances)
        if (target == "self" and row[0]) or (target == "others" and not received):
            expected = variances[0]
        elif target == "others":
            expected = np.dot(row[1:], variances[1:]) / received
        size = max(float(np.abs(model[tensor]).max()) for model in models)
        # float32 rounds every element to 6e-8 of the largest.
        rounding = 4e-7 * size * math.sqrt(expected)
        assert var(result[tensor]) == pytest.approx(expected, rel=1e-5, abs=rounding + 1e-12 * size**2)
        assert result[tensor].mean(dtype=np.float64) == pytest.approx(
            float(np.dot(row, [model[tensor].mean(dtype=np.float64) for model in models])), abs=1e-6 * size
        )
    for tensor in REST:
        assert np.array_equal(result[tensor], average[tensor])


@given(cases(count_max=1), weights(count=4))
def test_equal_models_are_left_as_they_are_to_the_last_bit(case, row):
    models, _ = case
    assert np.array_equal(corrected(models * 4, row), models[0])


@given(cases(count_min=2, count_max=2))
def test_a_single_received_model_without_own_weight_is_taken_to_the_last_bit(case):
    models, _ = case
    for target in ("conservative", "others"):
        assert np.array_equal(corrected(models, [0.0, 1.0], target=target), models[1])


@given(cases(count_min=2))
def test_a_sample_variance_would_give_the_same(case):
    models, row = case
    average = plain(models, row)
    result = corrected(models, row, scale_max=1e6)
    for tensor in MATRICES:
        for ddof in (0, 1):
            goal = np.dot(row, [var(model[tensor], ddof) for model in models])
            middle = average[tensor].mean(dtype=np.float64)
            expected = (average[tensor] - middle) * math.sqrt(goal / var(average[tensor], ddof)) + middle
            size = max(float(np.abs(model[tensor]).max()) for model in models)
            assert np.allclose(result[tensor], expected, rtol=0, atol=2e-5 * size)


# --- symmetries ------------------------------------------------------------------------------------


@given(cases(count_min=2), st.randoms(use_true_random=False))
def test_the_order_of_received_models_does_not_matter(case, random):
    models, row = case
    order = list(range(1, len(models)))
    random.shuffle(order)
    order = [0, *order]
    for over in ("mean", "median"):
        one = corrected(models, row, over=over)
        other = corrected([models[k] for k in order], [row[k] for k in order], over=over)
        assert np.allclose(one, other, rtol=0, atol=1e-5 * max(np.abs(model).max() for model in models))


@given(cases(count_min=2), st.permutations(range(15)), st.sampled_from([-2.0, 0.5, 3.0]), st.floats(-5, 5))
def test_it_goes_along_with_permuted_neurons_and_affine_maps(case, order, a, b):
    models, row = case
    models = [model[MATRICES[0]] for model in models]
    result = corrected(models, row, (3, 5))
    size = max(float(np.abs(model).max()) for model in models) * 3 + 5
    permuted = corrected([model[list(order)] for model in models], row, (3, 5))
    assert np.allclose(permuted, result[list(order)], rtol=0, atol=1e-5 * size)
    mapped = corrected([np.float32(a) * model + np.float32(b) for model in models], row, (3, 5))
    # Rounding of small spreads about a large mean becomes a larger share of the spread.
    assume(min(map(var, models)) > 1e-4 * size**2)
    assert np.allclose(mapped, a * result + b, rtol=0, atol=1e-3 * size)


@given(cases())
def test_no_input_is_changed_and_the_result_is_fresh(case):
    models, row = case
    tensors = [torch.from_numpy(model.copy()) for model in models]
    received = [Contribution("p", model, w) for model, w in zip(tensors[1:], row[1:], strict=True)]
    peer = Peer()
    context = MergeContext(
        peer="own",
        seed=0,
        at=GossipStep(0),
        space=peer.space,
        x=tensors[0],
        y=tensors[0],
        predict=lambda v, x: x,
    )
    peer.rule(tensors[0], row[0], received, context=context).zero_()
    assert all(np.array_equal(tensor.numpy(), model) for tensor, model in zip(tensors, models, strict=True))


# --- golden numbers --------------------------------------------------------------------------------


def scale(models, row, **settings) -> float:
    shape = (1, len(models[0]))
    return math.sqrt(var(corrected(models, row, shape, **settings)) / var(plain(models, row)))


@pytest.mark.parametrize("count", [2, 8, 50])
def test_uncorrelated_models_of_one_variance_are_scaled_by_the_root_of_their_number(count):
    models = orthogonal(count, 400)
    assert scale(models, [1 / count] * count) == pytest.approx(math.sqrt(count), rel=1e-5)
    with_own = [models[0], *models]
    assert scale(with_own, [0.0] + [1 / count] * count) == pytest.approx(math.sqrt(count), rel=1e-5)


def test_half_of_ones_own_and_eight_others_are_scaled_by_1_886():
    models = orthogonal(9, 400)
    row = [0.5] + [0.5 / 8] * 8
    assert var(plain(models, row)) == pytest.approx(0.28125, rel=1e-5)
    for target in ("conservative", "others", "self"):
        assert scale(models, row, target=target) == pytest.approx(1.8856, abs=1e-4)


@given(cases(count_min=2))
def test_a_target_with_the_averages_weights_never_scales_down(case):
    models, row = case
    average, result = plain(models, row), corrected(models, row)
    for tensor in MATRICES:
        size = max(float(np.abs(model[tensor]).max()) for model in models)
        assert var(result[tensor]) >= var(average[tensor]) * (1 - 1e-5) - 1e-12 * size**2


def test_the_received_models_target_does_scale_down_where_the_own_variance_is_far_larger():
    models = orthogonal(2, 400) * [[30.0], [1.0]]
    others = scale(models, [0.5, 0.5], target="others", scale_max=100.0)
    assert others == pytest.approx(2 / math.sqrt(901), rel=1e-4)
    assert scale(models, [0.5, 0.5]) == pytest.approx(math.sqrt(2), rel=1e-4)


def test_two_elements_as_worked_out_by_hand():
    models = [[-1, 1], [-3, 3], [-5, 5]]
    assert np.allclose(plain(models, [1 / 3] * 3), [-3, 3])
    others = corrected(models, [1 / 3] * 3, (2,), target="others", **FLAT)
    assert np.allclose(others, [-math.sqrt(17), math.sqrt(17)])
    conservative = corrected(models[:2], [0.5, 0.5], (2,), **FLAT)
    assert var(conservative, ddof=1) == pytest.approx(10)


# --- what it is for, and what it is not ------------------------------------------------------------


def mixed(rule_of, models: np.ndarray, W: np.ndarray, steps: int) -> np.ndarray:
    peers = [rule_of() for _ in models]
    for step in range(steps):
        models = np.stack(
            [
                peer.merge(
                    [models[i], *(models[j] for j in range(len(models)) if j != i and W[i, j])],
                    [W[i, i], *(W[i, j] for j in range(len(models)) if j != i and W[i, j])],
                    round=step,
                )
                for i, peer in enumerate(peers)
            ]
        )
    return models


class Plain:
    def merge(self, models, row, *, round):
        return plain(models, row)


@pytest.mark.parametrize(("kind", "degree"), [("regular", 4), ("ring", None)])
def test_without_training_averages_lose_variance_down_to_one_in_n_and_the_corrected_keep_it(kind, degree):
    peers, size, steps = 10, 10_000, 60
    W = Topology(kind, peers, degree=degree, seed=0).matrix(0)
    assert np.allclose(W.sum(0), 1)
    assert np.allclose(W.sum(1), 1)
    models = np.random.default_rng(0).normal(0.1, 2.0, size=(peers, size)).astype(np.float32)
    before = np.mean([var(model) for model in models])
    lost = np.mean([var(model) for model in mixed(Plain, models, W, steps)])
    assert lost / before == pytest.approx(1 / peers, rel=0.05)
    for quiet_merges in (0, 20):
        rule = lambda: Peer((200, 100), quiet_merges=quiet_merges)  # noqa: B023, E731
        kept = [var(model) for model in mixed(rule, models, W, steps)]
        assert np.mean(kept) / before == pytest.approx(1, abs=0.01)
        assert np.ptp(kept) / before < 0.05


def test_the_mean_of_each_tensor_is_kept_over_the_network_but_not_the_mean_of_the_models():
    W = Topology("ring", 6).matrix(0)
    models = np.random.default_rng(1).normal(size=(6, 36)).astype(np.float32)
    after = mixed(lambda: Peer((6, 6)), models, W, 3)
    assert after.mean() == pytest.approx(models.mean(), abs=1e-6)
    assert np.abs(after.mean(0) - models.mean(0)).max() > 0.1
    assert np.allclose(mixed(Plain, models, W, 3).mean(0), models.mean(0), atol=1e-6)


def test_corrections_do_not_associate():
    a, b, c, d = np.random.default_rng(2).normal(size=(4, 36)) * [[1], [2], [3], [4]]
    half = [0.5, 0.5]
    in_pairs = corrected([corrected([a, b], half, (6, 6)), corrected([c, d], half, (6, 6))], half, (6, 6))
    at_once = corrected([a, b, c, d], [0.25] * 4, (6, 6))
    assert np.abs(in_pairs - at_once).max() > 0.1
    pairs = plain([plain([a, b], half), plain([c, d], half)], half)
    assert np.allclose(pairs, plain([a, b, c, d], [0.25] * 4), atol=1e-6)


# --- what is left alone ----------------------------------------------------------------------------


def test_tensors_without_variance_or_with_few_elements_are_only_averaged():
    shapes = ((3, 3), (3, 3), (9,), (2, 4), (1, 1), (), (3, 3))
    rng = np.random.default_rng(3)
    models = rng.normal(size=(3, sum(math.prod(shape) for shape in shapes))).astype(np.float32)
    models[:, :9] = [[1.0], [2.0], [4.0]]  # equal elements in each model
    models[:, 9:18] = 0.0
    models[1, -9:] = -models[0, -9:]  # cancel to nothing
    models[2, -9:] = 0.0
    row = [0.25, 0.25, 0.5]
    everything = {"ndim_min": 0, "numel_min": 2}
    assert np.array_equal(corrected(models, row, *shapes), plain(models, row))
    changed = corrected(models, row, *shapes, **everything) != plain(models, row)
    assert np.isfinite(corrected(models, row, *shapes, **everything)).all()
    starts = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    parts = [bool(changed[a:b].any()) for a, b in itertools.pairwise(starts)]
    assert parts == [False, False, True, True, False, False, False]


def test_a_spread_that_float32_cannot_tell_from_the_mean_is_none():
    models = 1000 + np.random.default_rng(4).normal(scale=1e-4, size=(2, 9)).astype(np.float32)
    assert np.array_equal(corrected(models, [0.5, 0.5], (3, 3)), plain(models, [0.5, 0.5]))
    models = 1000 + np.random.default_rng(4).normal(scale=10, size=(2, 9)).astype(np.float32)
    assert not np.array_equal(corrected(models, [0.5, 0.5], (3, 3)), plain(models, [0.5, 0.5]))


def test_models_whose_squares_overflow_are_only_averaged():
    models = np.random.default_rng(5).normal(size=(3, 36)).astype(np.float32)
    models[2, 0] = 3e30
    row = [0.5, 0.25, 0.25]
    assert np.array_equal(corrected(models, row, (6, 6)), plain(models, row))


def test_with_nothing_received_or_nothing_that_counts_a_model_stays_as_it_is():
    models = np.random.default_rng(6).normal(size=(3, 37)).astype(np.float32)
    for target in ("conservative", "others", "self"):
        for over in ("mean", "median"):
            settings = {"target": target, "over": over}
            assert np.array_equal(corrected(models[:1], [1.0], **settings), models[0])
            assert np.array_equal(corrected(models, [1.0, 0.0, 0.0], **settings), models[0])
    models[1] = np.nan
    assert np.isfinite(corrected(models, [0.5, 0.0, 0.5])).all()


def test_without_own_weight_the_own_model_has_no_say():
    models = np.random.default_rng(7).normal(size=(3, 37)).astype(np.float32)
    others = [models[0] * 1000, *models[1:]]
    for over in ("mean", "median"):
        one, other = (corrected(each, [0.0, 0.5, 0.5], over=over) for each in (models, others))
        assert np.array_equal(one, other)


# --- settings --------------------------------------------------------------------------------------


def test_scales_stay_within_their_bounds_and_the_ratio_weakens_them():
    models = orthogonal(100, 400)
    row = [0.01] * 100
    assert scale(models, row) == pytest.approx(10, rel=1e-4)
    assert scale(models, row, scale_max=4.0) == pytest.approx(4, rel=1e-4)
    assert scale(models, row, scale_max=4.0, ratio=0.5) == pytest.approx(2.5, rel=1e-4)
    wide = orthogonal(2, 400) * [[1000.0], [1.0]]
    assert scale(wide, [0.5, 0.5], target="others") == pytest.approx(0.1, rel=1e-4)


def test_the_median_withstands_a_peer_that_lies_about_its_scale_and_the_mean_does_not():
    honest = np.random.default_rng(8).normal(size=(5, 400))
    liar = 0.9 * honest[4] / np.abs(honest[4]).max()
    models, row = [*honest[:4], 5 * liar], [0.2] * 5
    variances = [var(model) for model in models]
    assert var(corrected(models, row, (20, 20), over="median")) == pytest.approx(
        np.median(variances), rel=1e-5
    )
    models[4] = 100 * liar
    variances[4] = var(models[4])
    assert var(corrected(models, row, (20, 20), over="median")) == pytest.approx(
        np.median(variances), rel=1e-5
    )
    assert var(corrected(models, row, (20, 20))) == pytest.approx(np.mean(variances), rel=1e-5)
    assert np.mean(variances) > 50 * np.median(variances)
    others = corrected(models, row, (20, 20), over="median", target="others")
    assert var(others) == pytest.approx(np.median(variances[1:]), rel=1e-5)


def test_it_goes_off_when_models_agree_and_on_again_when_they_do_not():
    rng = np.random.default_rng(9)
    base = rng.normal(size=36)
    agreeing = [base, base + 0.1 * rng.normal(size=36)]
    apart = [base, rng.normal(size=36)]
    half = [0.5, 0.5]
    peer = Peer((6, 6), quiet_merges=3)
    acts = lambda models: not np.array_equal(peer.merge(models, half), plain(models, half))  # noqa: E731
    assert [acts(agreeing) for _ in range(5)] == [True, True, True, False, False]
    # Off. It looks at every third merge, the sixth and the ninth from here on.
    assert [acts(apart) for _ in range(3)] == [False, True, True]
    assert [acts(agreeing) for _ in range(4)] == [True, True, True, False]
    never = Peer((6, 6), quiet_merges=0)
    for _ in range(10):
        assert not np.array_equal(never.merge(agreeing, half), plain(agreeing, half))


def test_several_gossip_steps_are_corrected_once_to_the_variances_before_the_first():
    models = orthogonal(4, 400).astype(np.float32)
    peer = Peer((20, 20))
    row = [0.25] * 4
    first = peer.merge(models, row, round=5, step=0, last=False)
    assert np.array_equal(first, plain(models, row))
    second = peer.merge([first, *models[:3] / 2], row, round=5, step=1, last=False)
    assert np.array_equal(second, plain([first, *models[:3] / 2], row))
    last = peer.merge([second, *models[1:] / 3], row, round=5, step=2, last=True)
    assert var(last) == pytest.approx(1, rel=1e-5)
    # The next round begins anew; a round whose first step was missed makes do with what its last one sees.
    alone = peer.merge([models[0] * 2], [1.0], round=6, step=2, last=True)
    assert np.array_equal(alone, models[0] * 2)
    peer.merge(models, row, round=7, step=0, last=False)
    kept = peer.merge([0.5 * models[0]], [1.0], round=7, step=1, last=True)
    assert var(kept) == pytest.approx(1, rel=1e-5)


def test_the_registry_builds_it_from_settings_and_wrong_ones_are_refused():
    choice = MERGES.validate({"kind": "variance-corrected", "target": "others", "ratio": 0.5})
    rule = choice.load()(choice)
    assert isinstance(rule, VarianceCorrected)
    assert not rule.linear
    assert rule.settings.target == "others"
    for key, value, word in (
        ("target", "mine", "target"),
        ("ratio", 1.5, "ratio"),
        ("scale_max", 1.0, "scale_max"),
    ):
        with pytest.raises(ValueError, match=word):
            MERGES.validate({"kind": "variance-corrected", key: value})


def test_weights_and_sizes_that_do_not_fit_are_refused():
    models = np.zeros((2, 37))
    with pytest.raises(ProtocolMisuse, match="sum to"):
        corrected(models, [0.5, 0.4])
    peer = Peer()
    with pytest.raises(ProtocolMisuse, match="merge of p0's"):
        peer.merge([np.zeros(37), np.zeros(36)], [0.5, 0.5])


# --- parts -----------------------------------------------------------------------------------------


def parts_of(size: int, of: int) -> list[tuple[Part, slice]]:
    return [(part, slice(*part.bounds(size))) for part in (Part(place, of) for place in range(of))]


@given(
    cases(), st.integers(1, 6), st.sampled_from([2, 9]), st.sampled_from(["conservative", "others", "self"])
)
def test_what_a_part_has_of_a_tensor_is_scaled_to_the_variances_there_and_all_else_is_only_averaged(
    case, of, numel_min, target
):
    models, row = case
    for part, span in parts_of(37, of):
        of_part = [models[0].copy() for _ in models]
        for model, source in zip(of_part, models, strict=True):
            model[span] = source[span]
        peer = Peer(target=target, scale_max=1e6, numel_min=numel_min)
        result, average = peer.merge(of_part, row, part=part), plain(of_part, row)
        untouched = np.ones(37, dtype=bool)
        for tensor in MATRICES:
            here = slice(max(tensor.start, span.start), min(tensor.stop, span.stop))
            if here.stop - here.start < numel_min:
                continue
            untouched[here] = False
            variances = [var(model[here]) for model in models]
            received = sum(row[1:])
            expected = np.dot(row, variances)
            if (target == "self" and row[0]) or (target == "others" and not received):
                expected = variances[0]
            elif target == "others":
                expected = np.dot(row[1:], variances[1:]) / received
            # Where nearly everything cancels, rounding is a larger share of what is scaled up.
            assume(var(average[here]) > 1e-4 * expected)
            size = max(float(np.abs(model[here]).max()) for model in models)
            assume(expected > 1e-6 * size**2)
            assert var(result[here]) == pytest.approx(expected, rel=1e-3)
        assert np.array_equal(result[untouched], average[untouched])


@pytest.mark.parametrize("of", [1, 2, 5, 10, 20, 50])
def test_uncorrelated_models_merged_part_by_part_keep_their_variance_in_every_part(of):
    size = 128 * 128
    own, *others = np.random.default_rng(12).normal(size=(9, size)).astype(np.float32)
    peer, row = Peer((128, 128)), [0.5] + [0.5 / 8] * 8
    merged = own.copy()
    for number, (part, span) in enumerate(parts_of(size, of)):
        models = [merged]
        for other in others:
            models.append(merged.copy())
            models[-1][span] = other[span]
        average = plain(models, row)[span]
        assert var(average) < 0.4, "there is much to correct"
        merged = merged.copy()
        merged[span] = peer.merge(models, row, round=number, part=part)[span]
        target = np.dot(row, [var(model[span]) for model in models])
        assert var(merged[span]) == pytest.approx(target, rel=1e-5)
        assert merged[span].mean() == pytest.approx(average.mean(), abs=1e-6)
    assert var(merged) == pytest.approx(1, rel=0.02)


def test_each_part_goes_off_and_on_by_itself():
    rng = np.random.default_rng(13)
    base = rng.normal(size=72)
    half, peer = [0.5, 0.5], Peer((12, 6), quiet_merges=2)
    first, second = (part for part, _ in parts_of(72, 2))

    def acts(part: Part, other: np.ndarray) -> bool:
        start, stop = part.bounds(72)
        received = base.copy()
        received[start:stop] = other[start:stop]
        models = [base, received]
        return not np.array_equal(peer.merge(models, half, part=part), plain(models, half))

    agreeing, apart = base + 0.1 * rng.normal(size=72), rng.normal(size=72)
    assert [acts(first, agreeing) for _ in range(4)] == [True, True, False, False]
    assert acts(second, apart), "what the first part's models are says nothing of the second's"
    assert not acts(first, agreeing)
    assert [acts(second, agreeing) for _ in range(3)] == [True, True, False]


def test_a_part_without_anything_to_correct_is_only_averaged_again_and_again():
    models = np.random.default_rng(14).normal(size=(2, 37)).astype(np.float32)
    peer, bias = Peer(quiet_merges=2), Part(9, 19)  # elements 17 and 18, of the bias
    for round in range(5):
        merged = peer.merge(models, [0.5, 0.5], round=round, part=bias)
        assert np.array_equal(merged, plain(models, [0.5, 0.5]))


# --- measuring -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 0.5, 300.0])
def test_blocks_and_stacks_have_the_moments_of_the_whole(mean):
    rng = np.random.default_rng(10)
    tensors = rng.normal(mean, 1.0, size=(2, 2 * BLOCK_ELEMENTS + 77)).astype(np.float32)
    tensors[:, :BLOCK_ELEMENTS] += 0.5  # blocks of different means
    found = moments(torch.from_numpy(tensors), Scratch())
    for row, values in enumerate(tensors):
        assert float(found.mean[row]) == pytest.approx(values.mean(dtype=np.float64), rel=1e-6, abs=1e-6)
        assert float(found.variance[row]) == pytest.approx(var(values), rel=2e-6)
    one = corrected(tensors, [0.5, 0.5], (1, tensors.shape[1]))
    assert var(one) == pytest.approx((var(tensors[0]) + var(tensors[1])) / 2, rel=1e-5)


def test_without_centring_a_large_mean_would_drown_the_variance(monkeypatch):
    monkeypatch.setattr(
        moments_module.BlockSums, "_centred", lambda self, block: 2 * (torch.tensor([float("nan")]).double(),)
    )
    far = torch.from_numpy(np.random.default_rng(11).normal(300, 1, size=(1, 1000)).astype(np.float32))
    assert moments(far, Scratch()).variance.isnan().all()
    assert moments(far - 300, Scratch()).variance.isfinite().all()
