"""What MoDeST's peers say. Rounds count from 1 here: the sample of round k trains what round k - 1 has left.

A model trained in round k travels as `AggregateMessage` of round k + 1, since the sample of round k + 1 averages it;
the average starts round k + 1 as `TrainMessage` (numbering as in arXiv 2302.13837).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gossip.protocols.base import Message, Model
from gossip.protocols.modest.view import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class PingMessage(Message):
    """Are you there?"""

    kind: ClassVar[str] = "modest-ping"
    nonce: int
    round: int
    """The newest round that the sender knows of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PongMessage(Message):
    """I am. And so much of your view I have: what comes next need only be newer."""

    kind: ClassVar[str] = "modest-pong"
    nonce: int
    round: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberMessage(Message):
    """The sender is there (again), leaves, or has not been asked anything for long: joined, left, hello."""

    kind: ClassVar[str] = "modest-member"
    change: str
    round: int
    counter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusMessage(Message):
    """What the sender of a `MemberMessage` seems not to know."""

    kind: ClassVar[str] = "modest-status"
    round: int
    newest: int
    """Rounds that the sender's newest average contains."""
    counter: int
    """The last event of the other's that the sender knows, and whether it was its leaving."""
    left: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchMessage(Message):
    """Send me your newest average, if it contains more than `round` rounds."""

    kind: ClassVar[str] = "modest-fetch"
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AckMessage(Message):
    """The models for round `round` are averaged and sent on; nobody needs to keep his."""

    kind: ClassVar[str] = "modest-ack"
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkMessage(Message):
    """What carries a model carries news of the view, too."""

    carries_model: ClassVar[bool] = True
    round: int
    expected: int
    """How many peers were addressed when the round began. What one message says of it counts for nothing."""
    view: tuple[Entry, ...]
    version: int
    """Who merges `view` knows all that the sender's view said up to here."""
    model: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateMessage(BulkMessage):
    """A model trained in round `round` - 1, for the aggregators of round `round`."""

    kind: ClassVar[str] = "modest-aggregate"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainMessage(BulkMessage):
    """The average that starts round `round`, for its sample."""

    kind: ClassVar[str] = "modest-train"

    @property
    def whole(self) -> bool:
        """Return yes: whoever gets it may hold nothing like it."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestMessage(BulkMessage):
    """The sender's newest average, of `round` rounds: to keep, not to train."""

    kind: ClassVar[str] = "modest-newest"

    @property
    def whole(self) -> bool:
        """Return yes: whoever gets it may hold nothing like it."""
        return True


MESSAGES: tuple[type[Message], ...] = (
    PingMessage,
    PongMessage,
    MemberMessage,
    StatusMessage,
    FetchMessage,
    AckMessage,
    AggregateMessage,
    TrainMessage,
    NewestMessage,
)
