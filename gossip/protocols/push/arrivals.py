"""When enough has come for a merge: what counts is how many models came, of each sender as many as an honest one sends.

Whoever pushes a hundred times in a period would otherwise have others merge a hundred times, with its model in each.
"""

from __future__ import annotations

from gossip.protocols.base import PeerId
from gossip.protocols.push.settings import PushSettings

SAVED_MAX = 4
"""Arrivals that a sender has in reserve: periods vary, so that its pushes run ahead of the own wake-ups at times.

With the default jitter, 2 refuse one honest model in a hundred, 4 one in five hundred.
"""


class Arrivals:
    """How many models came since the last merge, replaced ones included.

    An honest peer pushes once a period in the long run, but for what its tokens paid for (`tokens.py`). So each own
    wake-up, one a period too, allows each sender one arrival more; up to a burst, what is not used is saved.

    Args:
        settings: with tokens, an account of which is a burst.
    """

    __slots__ = ("_allowed", "_burst", "count")

    def __init__(self, settings: PushSettings) -> None:
        self._burst = SAVED_MAX + (settings.token_capacity if settings.tokens != "proactive" else 0)
        self._allowed: dict[PeerId, tuple[int, int]] = {}
        """Sender -> what was left to it at its last arrival, and own wake-ups until then."""
        self.count = 0

    def came(self, sender: PeerId, wake_ups: int) -> bool:
        """Count a model, unless so many of its sender came that no honest one sends them; return whether it counts.

        Args:
            sender: a contact, whose connections do not matter here: none is given anew what it has used.
            wake_ups: own ones so far.
        """
        left, before = self._allowed.get(sender, (self._burst, wake_ups))
        left = min(self._burst, left + wake_ups - before)
        self._allowed[sender] = (max(0, left - 1), wake_ups)
        self.count += left > 0
        return left > 0

    def begin_anew(self) -> None:
        """Note that all that came is merged."""
        self.count = 0
