"""What the event engine asks of others: models of whoever computes them, and somebody to tell of rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from typing import Protocol as StructuralType

from gossip.protocols.base import Contribution, GossipStep, Message, Model, Part, RoundCompleted
from gossip.wire.wholes import Turn

if TYPE_CHECKING:
    from scenarios.virtual.events.peer import VirtualPeer

State: TypeAlias = Mapping[str, int | float | str]
"""What a checkpoint holds of a protocol."""


class Learning(StructuralType):
    """What computes models; values may come much later than their handles."""

    def initial(self, peer: int) -> Model:
        """Return the model of round 0."""

    def train(self, model: Model, peer: int, *, round: int, steps: int | None = None) -> Model:
        """Return the handle of the model after one local update, of so many steps if they are given."""

    def begin_anew(self, peer: int) -> None:
        """Forget what the peer's updates and merges have left beside models: its process has ended."""

    def merge(
        self,
        own: Model,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        peer: int,
        at: GossipStep,
    ) -> Model:
        """Return the handle of the merged model."""

    remembers: bool
    """Whether peers remember anything beside their models; else the next two are not asked."""

    def remember(self, peer: int) -> Any:
        """Return what the peer remembers now, for its checkpoint."""

    def restore(self, peer: int, memory: Any) -> None:
        """Take over what `remember` returned."""

    codes: bool
    """Whether receivers hold anything else of a model than its sender has; else the next are not asked."""

    reference: str
    """What receivers must hold to use what comes: "none", a model of their "own", or what a "link" has brought."""

    sends_each: bool
    """Whether each neighbour is sent another model, for which `shaped` is told whom it is `to`."""

    def shaped(self, model: Model, peer: int, message: Message, *, to: Any = None) -> Model:
        """Return the handle of the model that the peer's message is about, before it is coded."""

    def coded(self, shaped: Model, peer: int, message: Message, turn: Turn) -> Model:
        """Return the handle of what comes of it to those who get it coded."""

    def graft(self, base: Model, source: Model, part: Part) -> Model:
        """Return the handle of `base` with `part` taken from `source`."""

    def moved(self, base: Model, before: Model, after: Model) -> Model:
        """Return the handle of base + (after - before)."""

    def adopt(self, own: Model, received: Sequence[Contribution]) -> Model:
        """Return the handle of a received model with own slots that never travel."""

    def agreed(self, own: Model, received: Sequence[Contribution]) -> Model:
        """Return the handle of what most received models agree on, with own slots that never travel."""


class Measure(StructuralType):
    """What is told of the run as it goes."""

    def round_completed(self, peer: VirtualPeer, event: RoundCompleted, now_s: float) -> bool:
        """Note a finished round; return whether the run has reached what it was for."""
