"""What one connection may bring: messages, bytes and rejected messages a second. No sockets, no clock of its own.

A budget is a token bucket: it fills steadily up to a burst, may be overdrawn once, and then reading pauses until it is
level again. A neighbour that is paused notices nothing but a slow link. However long it goes on, that is no offence: on
a stream nobody brings more than is read, so one that means harm looks like one with small models and much to say, and
does no more. What was of no use, none of the honest send so much of: it is counted apart, and ends the connection.
"""

from __future__ import annotations

from gossip.errors import PeerError
from gossip.net.settings import NetSettings

MESSAGES_BURST_S = 4.0
"""Seconds' worth of messages that may come at once: a round in which everybody is asked at the same time."""

BYTES_BURST_S = 1.0

REJECTED_BURST_S = 10.0
"""A straggler catches up with a burst of messages that are out of date, and means no harm."""

BYTES_PER_MESSAGE = 4096
"""A long message costs as much as several short ones, for it takes as long to unpack (64 KiB: some 1 ms)."""

STEPS_PER_MESSAGE = 64
"""Pieces that the stream was read in which cost as much as a message: only who cuts a model into crumbs is charged."""


class Bucket:
    """Tokens, `per_s` of them a second and at most `burst`."""

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def spend(self, amount: float, now_s: float) -> float:
        """Take `amount`, which may be more than there is; return in how many seconds the bucket is level again."""
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._per_s) - amount
        self._at_s = now_s
        return max(0.0, -self._level / self._per_s)


class Budget:
    """One connection's."""

    def __init__(self, settings: NetSettings, now_s: float) -> None:
        self._settings = settings
        self._messages = _bucket(settings.messages_per_s, MESSAGES_BURST_S, now_s)
        self._bytes = _bucket(settings.receive_bytes_per_s, BYTES_BURST_S, now_s)
        self._rejected = _bucket(settings.rejected_per_s, REJECTED_BURST_S, now_s)

    def spend(self, *, messages: float, nbytes: int, now_s: float) -> float:
        """Note what has come; return for how many seconds nothing more should be read."""
        return max(self._messages.spend(messages, now_s), self._bytes.spend(nbytes, now_s))

    def note_rejected(self, now_s: float) -> None:
        """Note a message that was of no use.

        Raises:
            PeerError: there were too many of them.
        """
        if self._rejected.spend(1, now_s):
            raise PeerError(
                "rejected",
                f"more than {self._settings.rejected_per_s:g} of its messages a second were rejected",
            )


def message_cost(frame_bytes: int, payload_bytes: int) -> float:
    """Return how many messages one counts as, by what is left of it without tensors."""
    return 1 + (frame_bytes - payload_bytes) // BYTES_PER_MESSAGE


def _bucket(per_s: float, burst_s: float, now_s: float) -> Bucket:
    # A whole message must fit, however slow the pace.
    return Bucket(per_s, max(1.0, per_s * burst_s), now_s)
