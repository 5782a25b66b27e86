"""What an attacker sent before, to be sent again."""

from __future__ import annotations

from typing import Any

from gossip import plugins
from gossip.protocols.base import Message
from scenarios.attacks.base import Attack

SENT_MAX = 1024
"""Old messages kept; of longer ago than any usual age."""


class OldMessages:
    """One attacker's messages that carry models, by type and gossip step, the oldest first."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, int], dict[int, Message]] = {}

    def note(self, message: Message) -> None:
        """Remember what an honest peer would send."""
        kind, round, step = _tag(message)
        sent = self._sent.setdefault((kind, step), {})
        sent.setdefault(round, message)
        if len(sent) > SENT_MAX:
            del sent[next(iter(sent))]

    def again(self, message: Message, attack: Attack[Any]) -> Message:
        """Return the newest message of the round that `attack` repeats, or before; `message` where there is none.

        Under MoDeST nobody trains in every round. Older ones than that are forgotten.
        """
        kind, round, step = _tag(message)
        with plugins.blamed(attack, f"[attack] in round {round}: old"):
            oldest = attack.old(round)
            if not (oldest is None or isinstance(oldest, int)):
                raise plugins.Wrong(f"returns {type(oldest).__name__}; it must be a round's number or None")
        sent = self._sent.get((kind, step), {})
        before = [number for number in sent if oldest is not None and number <= oldest]
        if not before:
            return message
        newest = max(before)
        for number in before:
            if number != newest:
                del sent[number]
        return sent[newest]


def _tag(message: Message) -> tuple[str, int, int]:
    return message.kind, int(getattr(message, "round", 0)), int(getattr(message, "step", 0))
