"""What holds for every merge rule behind every pre-aggregation: names decide nothing, and own weight 0 is none.

Models are drawn with ties on purpose: equal ones, and small whole numbers, among which many distances are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gossip.merging.base import MergeContext
from gossip.merging.robust.settings import PRE_AGGREGATION_NAMES, RobustSettings
from gossip.merging.settings import MERGES
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep
from tests.laws import tried
from tests.robust_harness import build

CLASSES, FEATURES = 3, 4
SPACE = ParameterSpace.of(nn.Linear(FEATURES, CLASSES, bias=False))
OWN = "m"
"""Other peers' names stand before and behind it."""
NAMES = ("a", "b", "c", "d", "e", "f", "g", "p", "q", "r", "s", "t", "u", "v")
NEEDED = {
    "centered-clipping": {"tau": 1.5, "iterations": 2},
    "balance": {"horizon": 10, "gamma": 1.0},
    "bristle": {"budget": 3},
}
WITHOUT_F = ("ubar", "bristle", "average", "variance-corrected", "product", "lora-fair")
RULES = tuple(kind for kind in MERGES.kinds() if kind not in ("monna", "mozi"))
"""Without second names."""


@dataclass(frozen=True)
class Case:
    """One merge: models [n][CLASSES · FEATURES], own first, with the senders and weights of the others."""

    how: dict
    vectors: np.ndarray
    senders: tuple[str, ...]
    weights: tuple[float, ...]
    step: int = 0

    def merged(self, *, own=None, senders=None, order=None, said=None):
        """Return the result; with another own model, other names, or in another order."""
        senders = senders or self.senders
        tensors = [torch.from_numpy(vector.copy()) for vector in self.vectors]
        received = [
            Contribution(senders[k], tensors[1 + k], self.weights[1 + k])
            for k in order or range(len(senders))
        ]
        declared = {sender: frozenset({k % CLASSES, 1}) for k, sender in enumerate(senders)}
        x = torch.eye(FEATURES, dtype=tensors[0].dtype).repeat(2, 1)
        y = torch.arange(len(x)) % CLASSES
        context = MergeContext(
            peer=OWN,
            seed=3,
            at=GossipStep(2, step=self.step),
            space=SPACE,
            x=x,
            y=y,
            predict=lambda learned, x: x.to(learned.dtype) @ learned.view(CLASSES, FEATURES).T,
            x_validation=x,
            y_validation=y,
            declared=declared,
            judge=(lambda verdict: None) if said is None else said.append,
        )
        mine = tensors[0] if own is None else torch.from_numpy(own.copy())
        return build(**self.how)(mine, self.weights[0], received, context=context).numpy()


@st.composite
def stacks(draw, count):
    """Models (n, d) of whole numbers or of any, some of them equal to others."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    size = (count, CLASSES * FEATURES)
    whole = draw(st.booleans())
    vectors = rng.integers(-1, 2, size=size).astype(np.float64) if whole else rng.normal(size=size)
    if whole and draw(st.booleans()):
        vectors[:, 1:] = 0  # on one line
    for copy in range(draw(st.integers(0, count // 2))):
        vectors[rng.integers(count)] = vectors[copy]
    return vectors * draw(st.sampled_from([1e-3, 1.0, 1e3]))


@st.composite
def cases(draw, rule, *, own_weight=None):
    settings_for = MERGES.settings_for(rule)
    takes = settings_for.takes if issubclass(settings_for, RobustSettings) else ()
    names = draw(st.lists(st.sampled_from(takes), max_size=3)) if takes else []
    count = draw(st.integers(3, 8))
    f = draw(st.integers(0, (count - 2) // 2 // 2 ** names.count("bucketing")))
    how = {"kind": "+".join([*names, rule]), **NEEDED.get(rule, {})}
    if rule not in WITHOUT_F:
        how["f"] = f
    if "clipping" in names:
        how["clip_norm"] = draw(st.sampled_from([0.5, 1.5]))
    raw = draw(st.sampled_from([[1.0] * count, list(range(1, count + 1))]))
    if own_weight is not None:
        raw[0] = own_weight
    return Case(
        how,
        draw(stacks(count)),
        tuple(draw(st.permutations(NAMES))[: count - 1]),
        tuple(weight / sum(raw) for weight in raw),
        step=draw(st.integers(0, 1)),
    )


def close(a, b, case):
    return np.allclose(a, b, rtol=0, atol=1e-6 * max(1e-12, float(np.abs(case.vectors).max())))


some = tried(0.25)


@pytest.mark.parametrize("rule", RULES)
@some
@given(st.data())
def test_names_and_order_of_senders_decide_nothing(rule, data):
    case = data.draw(cases(rule))
    senders = tuple(data.draw(st.permutations(NAMES))[: len(case.senders)])
    order = data.draw(st.permutations(range(len(senders))))
    assert close(case.merged(), case.merged(senders=senders, order=order), case)


@pytest.mark.parametrize("rule", RULES)
@some
@given(st.data())
def test_an_own_model_without_weight_is_not_looked_at(rule, data):
    case = data.draw(cases(rule, own_weight=0.0))
    said = []
    result = case.merged(said=said)
    if "too few" in {verdict.reason for verdict in said}:
        assert np.array_equal(result, case.vectors[0])  # nothing is merged
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    assert np.array_equal(result, case.merged(own=1e3 * rng.normal(size=len(result))))
    assert np.array_equal(result, case.merged(own=np.full(len(result), np.nan)))
    # It has no share either: the others' common shift is the result's.
    if rule not in ("bristle", "ubar", "balance"):
        shifted = Case(case.how, case.vectors + 7.0, case.senders, case.weights, case.step)
        assert np.allclose(
            shifted.merged(), result + 7.0, rtol=0, atol=1e-5 * (7 + np.abs(case.vectors).max())
        )


def test_groups_of_models_are_drawn_anew_in_every_gossip_step():
    """Of one round; and the first step's are what they are in a round of one step."""
    vectors = np.arange(8.0)[:, None] ** 2 * np.ones((8, CLASSES * FEATURES))
    how = {"kind": "bucketing+krum", "f": 0}
    drawn = [float(Case(how, vectors, NAMES[:7], (1 / 8,) * 8, step=step).merged()[0]) for step in range(6)]
    assert len(set(drawn)) > 2


def test_what_a_clipping_made_equally_far_stays_in_its_order_for_those_that_take_the_nearest():
    """Two of seven are far. ARC makes them as near as the third farthest, and NNA is to leave them out all the same."""
    vectors = np.zeros((7, CLASSES * FEATURES))
    vectors[:, 0] = [0, 1, 2, 3, 4, 50, 60]
    for senders in (NAMES[:6], NAMES[:6][::-1]):
        said = []
        Case({"kind": "arc+nna", "f": 2}, vectors, senders, (1 / 7,) * 7).merged(said=said)
        shares = {verdict.sender: verdict.weight for verdict in said}
        assert [shares[sender] > 0 for sender in senders] == [True] * 4 + [False] * 2


def test_every_pre_aggregation_stands_before_some_rule():
    """Or the laws above would say nothing of it."""
    taken = {
        name
        for rule in RULES
        if issubclass(MERGES.settings_for(rule), RobustSettings)
        for name in MERGES.settings_for(rule).takes
    }
    assert taken == set(PRE_AGGREGATION_NAMES)
