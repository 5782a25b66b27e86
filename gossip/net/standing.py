"""How one peer stands with us, whatever connection it comes by: may it come in now, or is it held off for a while?
A peer is who has one key: another key in the peers file under the same name begins anew.

Two things hold a peer off. What it did wrong: each offence doubles the time, and a time of peace makes it short again.
And coming too often: a process that restarts, or two that were given one key and drive each other out, may do so at a
walking pace. Who is held off is refused before anything but its key has been looked at. No sockets, no clock here.
"""

from __future__ import annotations

from gossip.net.budget import Bucket

OFFENCES = frozenset({"garbage", "oversized", "checksum", "sender", "replay", "layout", "rejected", "slow"})
"""Reasons of a `PeerError` that hold a peer off. A message that was cut off is none, for so ends a peer that is killed;
nor is another run or model, which is put right and comes back."""

ARRIVALS_BURST = 16
ARRIVALS_PER_S = 1.0
"""Both sides may dial, a restart comes twice; nobody honest comes every second for long."""


class Standing:
    """One peer's."""

    def __init__(self, *, min_s: float, max_s: float, now_s: float) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._hold_s = 0.0
        self._until_s = float("-inf")
        self._arrivals = Bucket(ARRIVALS_PER_S, ARRIVALS_BURST, now_s)

    def held_off_s(self, now_s: float) -> float:
        """Return for how many seconds it is not let in."""
        return max(0.0, self._until_s - now_s, self._arrivals.spend(0, now_s))

    def note_arrival(self, now_s: float) -> None:
        """Note that it has come, and was let in."""
        self._arrivals.spend(1, now_s)

    def note_offence(self, now_s: float) -> None:
        """Note that it broke a rule: hold it off, twice as long as the last time unless it was quiet for longer."""
        quiet = now_s - self._until_s > 2 * self._hold_s
        self._hold_s = self._min_s if quiet else min(self._max_s, max(self._min_s, 2 * self._hold_s))
        self._until_s = now_s + self._hold_s
