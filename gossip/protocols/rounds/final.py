"""Gossip steps that follow the last round's own: a merge at the end, on a graph of its own (`[final]`).

The last of T rounds has Q + F gossip steps, tags (T - 1, 0) to (T - 1, Q + F - 1); the last F take their rows from the
final topology. Deadlines, missing models and their weights are those of any step. A restart there repeats the round.

Little is sent while peers learn, and once all have learnt, a few steps on a graph that averages exactly bring every
peer to what a server would have had: "A Single Merging Suffices" (arXiv 2507.06542).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gossip.protocols.base import Message, Model, ModelMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalMessage(ModelMessage):
    """A model as it stands before gossip step `step` of the last round, which is one of its final steps."""

    kind: ClassVar[str] = "final"

    @property
    def whole(self) -> bool:
        """Return True: what is averaged exactly is not to be rounded on the way."""
        return True


class FinalSteps:
    """Those of one peer.

    Args:
        usual: Q, the gossip steps of every round.
    """

    __slots__ = ("any_round", "before", "count", "exact", "usual")

    def __init__(self, usual: int) -> None:
        self.usual = usual
        self.count = 0
        """F."""
        self.exact = True
        """Whether models of these steps travel as they are."""
        self.any_round = False
        """Whether peers may agree upon an earlier end, of which others may know first."""
        self.before: Model | None = None
        """The own model as it was before the first of them."""

    def steps(self, round: int, *, rounds: int) -> int:
        """Return how many gossip steps `round` of `rounds` has."""
        return self.usual + self.count if round + 1 >= rounds else self.usual

    def told(self, step: int) -> Mapping[str, int | str]:
        """Return what the status says while a gossip step is one of them."""
        if step < self.usual:
            return {}
        said = f"{step - self.usual + 1} of {self.count}"
        return {"final step": f"{said}; models end equal unless peers go or the peers file changes"}

    def type_of(self, step: int) -> type[ModelMessage]:
        """Return which message carries the models of a step."""
        return FinalMessage if self.count and step >= self.usual and self.exact else ModelMessage

    def let_in(self, message: Message, *, last: int) -> bool:
        """Return whether a message may be one of a final step, where runs end after `last` rounds."""
        if not self.count or not isinstance(message, ModelMessage):
            return False
        step = message.step - self.usual
        right = 0 <= step < self.count and type(message) is self.type_of(message.step)
        return right and (message.round + 1 == last or (self.any_round and 0 <= message.round < last))
