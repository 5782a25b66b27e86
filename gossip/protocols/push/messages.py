"""What gossip learning's peers say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gossip.protocols.base import Message, Model, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class PushMessage(Message):
    """The sender's present model, or one part of it."""

    kind: ClassVar[str] = "push"
    carries_model: ClassVar[bool] = True
    round: int
    """Own updates that the sender has done: which of its models is the newest."""
    age: int
    """Local updates on the longest way that led to what has come, through whichever peers; a liar says anything up to
    `AGE_MAX`, beyond which it is refused."""
    part: int = 0
    parts: int = 1
    """Into so many a model is divided; 1: all of it has come."""
    model: Model

    @property
    def piece(self) -> Part | None:
        """Return the part that has come, None for all."""
        return None if self.parts == 1 else Part(self.part, self.parts)

    @property
    def number(self) -> int:
        """Return another number for each part; two pushes of one update are the same model."""
        return self.round * self.parts + self.part


MESSAGES: tuple[type[Message], ...] = (PushMessage,)
