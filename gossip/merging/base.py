"""The seam where own and received models become one.

A merge sees learned slots only, [L]; statistics, counters and private slots stay with the peer. Each peer has
its own instance, so what a rule must remember between rounds (targets from before the first gossip step, a
clipping radius, a neighbour's record) is an attribute of it.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossip import seeding
from gossip.errors import ProtocolMisuse
from gossip.parameters import ParameterSpace
from gossip.protocols.base import Contribution, GossipStep, Part, PeerId

if TYPE_CHECKING:
    from gossip.learning.data.mapped import Samples

WEIGHT_TOLERANCE = 1e-6
"""How far from one the weights may sum: rounding of a row of the mixing matrix, not a missing neighbour."""


class Verdict(NamedTuple):
    """What a rule made of one received model."""

    sender: PeerId
    weight: float
    """The share it got, where the rule has such a thing; 0 where the model was left out."""
    reason: str = ""
    """One of a few words, for counting: why it was left out or pulled back; empty where it was taken as it is."""


def _ignore(verdict: Verdict) -> None:
    """Nobody asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeContext:
    """What a rule may know beside the models."""

    peer: PeerId
    seed: int
    """The run's seed; draw from `rng`."""
    at: GossipStep
    """All models are whole; outside its part they are the own one, for rules that measure them."""
    space: ParameterSpace
    """Names, shapes and offsets of the slots in [L], for rules per tensor or per class."""
    x: Samples  # (n, *input_shape) own training samples; mapped ones are read by ``x[places]``
    y: Tensor  # (n,)
    predict: Callable[[Tensor, Tensor], Tensor]
    """``predict(learned [L], x) -> outputs (n, …)`` with the rest of the model taken from own."""
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    """The objective's mean loss (), of outputs (n, …) and targets (n, …)."""
    rejected: int = 0
    """Received models that were left out before the rule saw any; where a rule is told of f attackers, each of them
    is one whom it need not fear any more."""
    x_validation: Tensor | None = None  # (m, *input_shape)
    """Own samples that no peer trains on, where the task sets some aside: what received models may be judged by."""
    y_validation: Tensor | None = None  # (m,)
    declared: Mapping[PeerId, frozenset[int]] = field(default_factory=dict)
    """The classes of which a sender says that it has training samples; empty unless the rule `declares_classes`."""
    spent: frozenset[PeerId] = frozenset()
    """Senders whose models nobody needs after this merge: a rule may write its result over one of them."""
    judge: Callable[[Verdict], None] = _ignore
    """Where a rule tells what it made of each received model; reports show it over time."""

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of this peer and round for `purpose`; the same in every gossip step.

        What is to be drawn anew in each of them says so in its purpose.
        """
        return seeding.generator(self.seed, f"merge {purpose}", peer=self.peer, round=self.at.round)


class Correction(abc.ABC):
    """What a rule makes of the average of models that it has measured, for many merges at once.

    It holds nothing of any peer: whoever calls has a `memory()` for each, and shows it a peer's merges in their order.
    """

    @abc.abstractmethod
    def memory(self) -> Any:
        """Return what a peer remembers before its first merge; the calls below change it."""

    @abc.abstractmethod
    def needs(self, memory: Any, at: GossipStep) -> bool:
        """Return whether this merge will want its inputs measured."""

    @abc.abstractmethod
    def measure(self, models: Tensor, part: Part) -> Tensor:
        """Return what the rule has to know of a part of each of `models` (n, L): numbers (n, m_part) float64."""

    @abc.abstractmethod
    def change(
        self,
        averages: Tensor,
        measured: Tensor,
        weights: Tensor,
        memories: Sequence[Any],
        steps: Sequence[GossipStep],
    ) -> None:
        """Turn averages into merged models, in place.

        Args:
            averages: Σ_j W_ij x_j of each merge (n, L).
            measured: of own and received models (n, k, m_part), own first; anything where not needed or not there.
            weights: W_ii and W_ij (n, k) float64; 0 where there is no model.
            memories: of the n peers, no peer twice.
            steps: of the n merges, all of the same part.
        """


class Merge(abc.ABC):
    """HOW models become one. Built from its settings: ``choice.load()(choice)``."""

    linear: ClassVar[bool] = False
    """The result is Σ_j W_ij x_j and nothing else, so an engine may merge all peers by one matrix product."""
    retains: ClassVar[bool] = True
    """It may keep vectors it was given beyond the call, so an engine must hand out copies of what it writes again."""

    needs_validation: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    """Whether it judges models by classes, which not every objective has."""
    """It judges models by own samples that nobody trains on: `[data] validation_per_class`."""
    declares_classes: bool = False
    """Model messages are to say of which classes the sender has samples. A peer says what it likes."""

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    def check(self, space: ParameterSpace) -> None:  # noqa: B027 - most rules merge any model
        """Raise `SettingError` where the rule cannot merge such models; asked before anything is learned."""

    @classmethod
    def correction(cls, settings: Any, space: ParameterSpace) -> Correction | None:
        """Return what the rule does to an average where it does nothing else, or `None`.

        An engine may then average all peers by one product. Each gets what the peer's own instance would make of it.
        """
        return None

    @abc.abstractmethod
    def __call__(
        self, own: Tensor, own_weight: float, received: Sequence[Contribution], *, context: MergeContext
    ) -> Tensor:
        """Return the merged learned slots [L]: a fresh vector, the inputs unchanged; or one that is spent.

        Args:
            own: own learned slots [L].
            own_weight: W_ii. 0: the own model is none of the round, as at an aggregator that did not train. Then no
                rule looks at it; those that begin at the own model begin at `reference.reference` of the others. It
                is only what is returned where nothing can be merged.
            received: models [L] with their weights W_ij, finite and of the right size; may be empty. No name of a
                sender and no place among them decides anything.
            context: everything else.
        """


def check_weights(own_weight: float, received: Sequence[Contribution]) -> None:
    """Raise `ProtocolMisuse` unless the weights are a row of a mixing matrix: not negative, sum one."""
    weights = [own_weight, *(contribution.weight for contribution in received)]
    total = math.fsum(weights)
    if not abs(total - 1) <= WEIGHT_TOLERANCE:
        raise ProtocolMisuse(f"merge weights sum to {total}, not to one: {weights}")
    if min(weights) < 0:
        raise ProtocolMisuse(f"a merge weight is negative: {weights}")


def check_sizes(own: Tensor, received: Sequence[Contribution]) -> None:
    """Raise `ProtocolMisuse` where a received vector has another shape or type than own."""
    for contribution in received:
        model = contribution.model
        if model.shape != own.shape or model.dtype != own.dtype:
            raise ProtocolMisuse(
                f"merge of {contribution.sender}'s {tuple(model.shape)} {model.dtype} "
                f"into {tuple(own.shape)} {own.dtype}"
            )
