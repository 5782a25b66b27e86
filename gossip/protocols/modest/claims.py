"""Which round it is: what a peer knows for certain, and what others say of it.

Certain is what this peer has itself had a part in: an order of a round's rightful aggregator that it followed, or an
average that it made of enough models. Of everything else there are claims: each peer's highest, from pings, answers,
adverts and models alike. A round is believed that f + 1 distinct peers claim, for one of these is honest:

    believed = max(certain, the (f + 1)-th largest claim)

So f liars, whatever they say, make nobody believe in a round that no honest peer believes in; and because an order is
followed for the round after the believed one at most, no honest peer comes to be more than one round ahead of all the
others. Claims of crashed peers still count: rounds are never undone.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from gossip.protocols.base import PeerId


def liars_max(wanted: int, *, peers: int, sample_size: int) -> int:
    """Return f, the liars and silent peers that are put up with: `wanted`, as far as the numbers allow.

    The f may be silent, and the others of the n - 1 must still be f + 1: f ≤ (n - 2)/2. And they must be the lesser
    part of a sample, the only ones who know for certain that its round has begun: f ≤ (s - 1)/2. So it takes four
    peers, and samples of three, to put up with one.
    """
    sample = min(peers, sample_size)
    return max(0, min(wanted, (peers - 2) // 2, (sample - 1) // 2))


class Claims:
    """One peer's knowledge of the round.

    Args:
        certain: the round known for certain, from a checkpoint.
        liars: f.
    """

    def __init__(self, *, certain: int, liars: int) -> None:
        self._liars = liars
        self._of: dict[PeerId, int] = {}
        self.certain = certain
        self.witnessed = 0
        """The highest round that f + 1 distinct peers claim."""

    @property
    def round(self) -> int:
        """The round that is believed."""
        return max(self.certain, self.witnessed)

    def of(self, peer: PeerId) -> int:
        """Return a peer's highest claim, -1 where there is none."""
        return self._of.get(peer, -1)

    def note(self, peer: PeerId, round: int) -> None:
        """Note what a peer says itself, over its own connection."""
        if round > self._of.get(peer, -1):
            self._of[peer] = round
            if round > self.witnessed:
                self._count()

    def prove(self, round: int) -> None:
        """Note a round that this peer has had a part in."""
        self.certain = max(self.certain, round)

    def replace_population(self, peers: Collection[PeerId], *, liars: int) -> None:
        """Forget what those have said who are no longer on the list; what is believed stays."""
        self._liars = liars
        for peer in [peer for peer in self._of if peer not in peers]:
            del self._of[peer]
        self._count()

    def _count(self) -> None:
        if len(self._of) > self._liars:
            found = heapq.nlargest(self._liars + 1, self._of.values())[-1]
            self.witnessed = max(self.witnessed, found)
