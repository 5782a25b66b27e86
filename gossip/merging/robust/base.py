"""What all robust rules have in common: which models count, how many may lie, and what to tell about each.

Before any rule: models with a value that is not finite are left out and counted against f, as are those that
were rejected before, since whoever sent one is Byzantine (f becomes max(0, f - dropped)); a second model of one
sender replaces its first; weight 0 is not a neighbour. The own model is never dropped. It is an input where its
weight W_ii is positive, and then also the point from which rules measure. At an aggregator that did not train it is
neither: rules measure from the coordinate-wise median of what came.

A model that did not come lowers n but not f: those that lie are never late. Where 2f ≥ n then, no rule can tell
the honest from the others: the own model is kept as it is and every received one is judged "too few". It is
counted, the node goes on, and f is never lowered to fit. Where n is known beforehand, such an f is refused with
the settings.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from gossip.merging.base import Merge, MergeContext, Verdict, check_sizes, check_weights
from gossip.merging.blocks import fresh_like
from gossip.merging.reference import median_of
from gossip.merging.robust.distances import Matrix, Vector
from gossip.merging.robust.models import Models
from gossip.merging.robust.pre_aggregations import PRE_AGGREGATIONS
from gossip.merging.robust.settings import RobustSettings
from gossip.protocols.base import Contribution, PeerId

NOT_FINITE = "not finite"
DUPLICATE = "duplicate"
TOO_FEW = "too few"
PULLED = "clipped"
OWN_NOT_FINITE = "own not finite"

Rng = Callable[[str], np.random.Generator]


class CannotMerge(ValueError):
    """The rule can say nothing of what came: the own model is kept."""

    reason: ClassVar[str]


class TooFewModels(CannotMerge):
    """2f ≥ n: as many may lie as speak the truth."""

    reason: ClassVar[str] = TOO_FEW


class Outcome(NamedTuple):
    """What a rule decided."""

    coefficients: Matrix  # (m,) of the rows
    """The result is own + Σ_i c_i (y_i - own); of a coordinate-wise rule the share of coordinates a row decided."""
    pulled: frozenset[int] = frozenset()
    """Rows that were pulled towards the centre before they counted."""
    reasons: Mapping[int, str] = MappingProxyType({})
    """Why rows were left out, where it is not the rule's usual reason."""


class RobustMerge(Merge):
    """A robust rule behind its pre-aggregations. Keeps nothing between merges."""

    retains = False
    left_out: ClassVar[str] = "far"
    """The reason told for a model without any share."""
    measures: ClassVar[bool] = True
    """It measures from the own model, or from what stands in its place."""

    def __init__(self, settings: RobustSettings) -> None:
        self.settings = settings
        self.pre_aggregations = [PRE_AGGREGATIONS[name](settings) for name in settings.pre_aggregations]

    def __call__(
        self, own: Tensor, own_weight: float, received: Sequence[Contribution], *, context: MergeContext
    ) -> Tensor:
        """Return the rule's outcome as a fresh vector; see `Merge` and this module's head."""
        check_weights(own_weight, received)
        check_sizes(own, received)
        judge = context.judge
        unique = {each.sender: each for each in received if each.weight > 0 and each.sender != context.peer}
        for each in received:
            if each.weight > 0 and unique.get(each.sender) is not each:
                judge(Verdict(each.sender, 0.0, DUPLICATE))
        finite = {
            sender: vector for sender, each in unique.items() if is_finite(vector := as_array(each.model))
        }
        origin = self._origin(own, own_weight, list(finite.values()))
        unusable = None if is_finite(origin) else OWN_NOT_FINITE
        f = self._f(context.rejected + len(unique) - len(finite))
        models = _models(origin, own_weight, context.peer, finite, unique, f)
        for sender in sorted(unique.keys() - finite.keys()):
            judge(Verdict(sender, 0.0, NOT_FINITE))
        result = fresh_like(own.cpu())
        try:
            if unusable or not finite:
                raise TooFewModels
            after, outcome = self.apply(models, result.numpy(), rng=_by_step(context), context=context)
        except CannotMerge as error:
            for sender in sorted(finite):
                judge(Verdict(sender, 0.0, unusable or error.reason))
            return own.clone()
        self._tell(after, outcome, context)
        return result.to(own.device)

    def apply(
        self, models: Models, out: Vector, *, rng: Rng, context: MergeContext | None = None
    ) -> tuple[Models, Outcome]:
        """Write the merged model to `out` [P]; return the rows after pre-aggregation and what was decided.

        Raises:
            CannotMerge: 2f ≥ n, of the models or of the rows that a pre-aggregation left; or what the rule itself says.
        """
        self._check_enough(models)
        for pre_aggregation in self.pre_aggregations:
            models = pre_aggregation(models, rng=rng)
            self._check_enough(models)
        return models, self.decide(models, out, context)

    @abc.abstractmethod
    def decide(self, models: Models, out: Vector, context: MergeContext | None) -> Outcome:
        """Apply the rule itself; write the result to `out` [P]."""

    def _origin(self, own: Tensor, own_weight: float, finite: Sequence[Vector]) -> Vector:
        """Return the point to measure from [P]; of an own model without weight nothing is read."""
        if own_weight > 0 or not finite:
            return as_array(own)
        return median_of(finite) if self.measures or self.pre_aggregations else finite[0]

    def _f(self, dropped: int) -> int:
        return max(0, (self.settings.f or 0) - dropped)

    def _check_enough(self, models: Models) -> None:
        if 2 * models.f >= len(models):
            raise TooFewModels(f"f = {models.f} of n = {len(models)} models: 2f must be below n")

    def _tell(self, models: Models, outcome: Outcome, context: MergeContext) -> None:
        shares = models.shares(outcome.coefficients)
        for index, sender in enumerate(models.senders):
            if sender == context.peer:
                continue
            row = models.row_of[index] if models.row_of else index
            reason = outcome.reasons.get(row, "")
            if not reason and (row in outcome.pulled or index in models.pulled):
                reason = PULLED
            if not reason and shares[index] == 0:
                reason = self.left_out
            context.judge(Verdict(sender, float(shares[index]), reason))


class Combining(RobustMerge):
    """A rule whose outcome is a combination of the rows."""

    def decide(self, models: Models, out: Vector, context: MergeContext | None) -> Outcome:
        """Find the coefficients and combine the rows."""
        outcome = self.coefficients(models)
        models.combine(outcome.coefficients, out)
        return outcome

    @abc.abstractmethod
    def coefficients(self, models: Models) -> Outcome:
        """Return what each row contributes to the result."""


def _by_step(context: MergeContext) -> Rng:
    """Return the generators of a round's gossip step: each draws anew."""
    if not context.at.step:
        return context.rng
    return lambda purpose: context.rng(f"{purpose}, step {context.at.step}")


def as_array(model: Tensor) -> Vector:
    """Return `model` [P] as numpy sees it; a copy only where it lies on another device."""
    array: Vector = model.detach().cpu().numpy()
    return array


def is_finite(vector: Vector) -> bool:
    """Return whether no entry is NaN or infinite."""
    # A finite sum of squares says so at the speed of memory; one that is not may be an overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = float(vector @ vector)
    return math.isfinite(squares) or bool(np.isfinite(vector).all())


def _models(
    origin: Vector,
    own_weight: float,
    peer: PeerId,
    finite: dict[PeerId, Vector],
    contributions: dict[PeerId, Contribution],
    f: int,
) -> Models:
    vectors = dict(finite)
    weights = {sender: contributions[sender].weight for sender in finite}
    if own_weight > 0:
        vectors[peer] = origin
        weights[peer] = own_weight
    senders = tuple(sorted(vectors))
    return Models(
        senders=senders,
        vectors=[vectors[sender] for sender in senders],
        weights=np.array([weights[sender] for sender in senders]),
        own=origin,
        own_index=senders.index(peer) if own_weight > 0 else None,
        f=f,
    )
