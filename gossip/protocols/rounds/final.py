"""Gossip steps that follow the last round's own: a merge at the end, on a graph of its own (`[final]`).

Little is sent while peers learn, and once all have learnt, a few steps on a graph that averages exactly bring every
peer to what a server would have had: "A Single Merging Suffices" (arXiv 2507.06542).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gossip.protocols.base import ModelMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalMessage(ModelMessage):
    """A model as it stands before gossip step `step` of the last round, which is one of its final steps."""

    kind: ClassVar[str] = "final"

    @property
    def whole(self) -> bool:
        """Return True: what is averaged exactly is not to be rounded on the way."""
        return True
