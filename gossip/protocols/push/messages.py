"""What gossip learning's peers say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gossip.protocols.base import Message, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class PushMessage(Message):
    """The sender's present model."""

    kind: ClassVar[str] = "push"
    carries_model: ClassVar[bool] = True
    age: int
    """Local updates on the longest way that led to it, through whichever peers; what a liar says may be anything."""
    model: Model


MESSAGES: tuple[type[Message], ...] = (PushMessage,)
