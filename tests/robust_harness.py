"""Robust rules as tests call them: one merge of plain arrays, and what was said about each model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from gossip.merging.base import Verdict
from gossip.merging.robust.settings import PRE_AGGREGATION_NAMES, RobustSettings
from gossip.merging.settings import MERGES
from gossip.protocols.base import Contribution, GossipStep

OWN = "p00"


def first_names():
    """Return every kind once: without those that are another's second name."""
    of = {kind: MERGES.settings_for(kind) for kind in MERGES.kinds()}
    return tuple(
        kind
        for kind, own in of.items()
        if not any(own is not other and issubclass(own, other) for other in of.values())
    )


ROBUST = tuple(kind for kind in first_names() if issubclass(MERGES.settings_for(kind), RobustSettings))
"""Every robust rule there is."""


def taken(rule, of=PRE_AGGREGATION_NAMES):
    """Return which of some pre-aggregations may stand before a rule."""
    return [name for name in of if name in MERGES.settings_for(rule).takes]


def compositions(rule, *, of=PRE_AGGREGATION_NAMES, most=2):
    """Draw a rule behind none, one or several pre-aggregations."""
    names = taken(rule, of)
    before = st.lists(st.sampled_from(names), max_size=most) if names else st.just([])
    return before.map(lambda before: "+".join([*before, rule]))


SINGLE = tuple(f"{name}+{rule}" for rule in ROBUST for name in taken(rule))
"""Every pre-aggregation before every rule that takes it."""


@dataclass
class PlainContext:
    """What a rule asks of a `MergeContext`, with an identity for a network."""

    peer: str = OWN
    rejected: int = 0
    seed: int = 0
    round: int = 0
    step: int = 0
    spent: frozenset[str] = frozenset()
    x: torch.Tensor = field(default_factory=lambda: torch.eye(2, dtype=torch.float64))
    y: torch.Tensor = field(default_factory=lambda: torch.tensor([0, 1]))
    verdicts: list[Verdict] = field(default_factory=list)
    loss = staticmethod(cross_entropy)

    @property
    def at(self):
        return GossipStep(self.round, step=self.step)

    def judge(self, verdict):
        self.verdicts.append(verdict)

    def rng(self, purpose):
        return np.random.default_rng([self.seed, *purpose.encode()])

    def predict(self, learned, x):
        """Class 0 for the first sample and class 1 for the second, the surer the larger the first parameter."""
        return x.to(learned.dtype) * learned[0]


@dataclass(frozen=True)
class Merged:
    value: np.ndarray
    verdicts: dict[str, Verdict]


def names(count):
    return [f"p{index:02d}" for index in range(count)]


def settings_for(kind, f):
    """The least that a rule of this kind must be told."""
    settings = {"kind": kind} if kind == "ubar" else {"kind": kind, "f": f}
    if kind == "balance":
        settings |= {"horizon": 10, "gamma": 1.0}
    if kind.endswith("centered-clipping") and not kind.endswith("self-centered-clipping"):
        settings |= {"tau": 1.5, "iterations": 3}
    if "clipping+" in kind:
        settings["clip_norm"] = 1.5
    return settings


def build(**settings):
    choice = MERGES.validate(settings)
    return choice.load()(choice)


def merge(settings, vectors, *, weights=None, senders=None, order=None, own_is_input=True, context=None):
    """Merge `vectors` [n][d], the first of which is own, received in `order`."""
    tensors = [torch.from_numpy(np.array(vector)) for vector in vectors]
    count = len(tensors)
    senders = senders or names(count)
    if weights is None:
        weights = [1 / count] * count if own_is_input else [0.0, *([1 / (count - 1)] * (count - 1))]
    received = [Contribution(senders[k], tensors[k], weights[k]) for k in order or range(1, count)]
    context = context or PlainContext(peer=senders[0])
    result = build(**settings)(tensors[0], weights[0], received, context=context)
    assert all(np.array_equal(a.numpy(), b, equal_nan=True) for a, b in zip(tensors, vectors, strict=True))
    assert all(result.data_ptr() != tensor.data_ptr() for tensor in tensors)
    return Merged(result.numpy(), {verdict.sender: verdict for verdict in context.verdicts})
