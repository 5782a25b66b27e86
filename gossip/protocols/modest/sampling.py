"""Who is in a sample: candidates in the order of a keyed hash of peer and round, asked whether they are there.

Whoever has the same candidates and gets the same answers draws the same sample. A peer that comes or goes changes
nothing in the order of the others (rendezvous hashing).

The hash alone is the paper's sampler: every round draws anew, so of those that wait some wait long – (1 - s/n)^(3n/s),
one in 22, for more than 3·n/s rounds. With turns (regularized participation, Malinovsky et al. 2023, arXiv 2302.03662)
each peer of the list comes first in one round of every ⌈n/s⌉, at a place that a hash of peer and epoch gives, so nobody
who is there waits for 2·⌈n/s⌉. Turns depend on the list of peers alone and not on views: who takes a peer for dead
that others count on still gives all others the turns that they have.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache

from gossip.protocols.base import Context, PeerId
from gossip.protocols.modest.messages import PingMessage

DIGEST_BYTES = 16

HASHES_KEPT = 1 << 15
"""Of recent rounds: a round's order is asked for again and again, in a simulation by all peers."""

CLOCK_S = 1e-6
"""A time that is nearer than this has come: sums of floats do not meet exactly."""


def order(round: int, candidates: Iterable[PeerId], *, first: Collection[PeerId] = ()) -> list[PeerId]:
    """Sort candidates by BLAKE2b of the peer's name, keyed with the round; those in `first` come before the others."""
    return sorted(candidates, key=lambda peer: (peer not in first, _keyed_hash(round, peer)))


@lru_cache(maxsize=HASHES_KEPT)
def _keyed_hash(round: int, peer: PeerId) -> bytes:
    return hashlib.blake2b(peer.encode(), digest_size=DIGEST_BYTES, key=round.to_bytes(8, "big")).digest()


def epoch_rounds(peers: int, sample_size: int) -> int:
    """Return ⌈n/s⌉, the rounds in which each of n peers has one turn."""
    return -(-peers // sample_size)


def turn(round: int, peers: Sequence[PeerId], *, sample_size: int) -> frozenset[PeerId]:
    """Return the at most `sample_size` peers whose turn `round` (from 1) is: they come first in its order.

    Args:
        round: k.
        peers: all peers of the run, alive or not; the same for everybody.
        sample_size: s.
    """
    epoch, place = divmod(round - 1, epoch_rounds(len(peers), sample_size))
    return _turns(tuple(peers), sample_size, epoch)[place]


@lru_cache(maxsize=16)
def _turns(peers: tuple[PeerId, ...], sample_size: int, epoch: int) -> tuple[frozenset[PeerId], ...]:
    """Deal one epoch's turns: equal parts of the list, shuffled by a hash."""
    key, blake2b = epoch.to_bytes(8, "big"), hashlib.blake2b
    shuffled = sorted(
        peers,
        key=lambda peer: blake2b(peer.encode(), digest_size=DIGEST_BYTES, key=key, person=b"turn").digest(),
    )
    rounds, count = epoch_rounds(len(peers), sample_size), len(peers)
    return tuple(
        frozenset(shuffled[place * count // rounds : (place + 1) * count // rounds])
        for place in range(rounds)
    )


class Sampling:
    """One procedure ``sample(k, m)``: find the first m living peers of a list.

    Bare (`in_order` false), at most m peers are asked or have answered at any time, and the first m to answer are the
    sample. With `in_order`, `width` peers are asked at once, and the sample is the first m *of the list* that answer:
    slower, because an earlier peer is waited for, and the same for everybody.

    Args:
        ordered: candidates in their order.
        me: is there without being asked.
        wanted: m.
        width: how many may be under way or have answered.
        in_order: see above.
        nonce: of the first ping; each peer asked gets the next one.
        timeout_s: Δt, after which a peer is taken for dead.
        again_s: after which a ping is repeated, once.
        failed: called with each peer that did not answer, its nonce, how long it was waited for, and the time; nothing
            was waited for where there was no connection.
    """

    def __init__(
        self,
        ordered: Sequence[PeerId],
        *,
        me: PeerId,
        wanted: int,
        width: int,
        in_order: bool,
        nonce: int,
        timeout_s: float,
        again_s: float,
        failed: Callable[[PeerId, int, float, float], None] = lambda peer, nonce, waited_s, now_s: None,
    ) -> None:
        self._ordered = ordered
        self._me = me
        self._wanted = wanted
        self._width = max(width, wanted)
        self._in_order = in_order
        self._nonce = nonce
        self._timeout_s = timeout_s
        self._again_s = again_s
        self._failed = failed
        self._next = 0
        # Peer -> [nonce, when it was first asked, how often].
        self._asked: dict[PeerId, list[float]] = {}
        self._answered: dict[PeerId, None] = {}
        self.pings = 0

    @property
    def outstanding(self) -> int:
        """How many peers have been asked and have neither answered nor failed."""
        return len(self._asked)

    @property
    def done(self) -> bool:
        """Whether the sample is found, or nobody is left to ask."""
        if not self._asked and self._next == len(self._ordered):
            return True
        if not self._in_order:
            return len(self._answered) >= self._wanted
        found = 0
        for peer in self._ordered[: self._next]:
            if peer in self._asked:
                return False
            found += peer in self._answered
            if found >= self._wanted:
                return True
        return False

    @property
    def sample(self) -> list[PeerId]:
        """The peers found, in the order of the list."""
        if not self._in_order:
            first = set(list(self._answered)[: self._wanted])
            return [peer for peer in self._ordered if peer in first]
        return [peer for peer in self._ordered[: self._next] if peer in self._answered][: self._wanted]

    def hurry(self, timeout_s: float, *, at_most_s: float) -> None:
        """Wait for answers only so long where half of those asked have answered; else it may be the network's fault.

        Args:
            timeout_s: what answers take, as far as is known.
            at_most_s: the wait where few have answered.
        """
        asked = len(self._answered) + len(self._asked)
        self._timeout_s = timeout_s if 2 * len(self._answered) >= asked else at_most_s

    def ask(self, ctx: Context, round: int) -> None:
        """Ask as many as may be under way; `round` is the newest that this peer knows."""
        while self._next < len(self._ordered) and len(self._asked) + len(self._answered) < self._width:
            if self.done:
                return
            peer = self._ordered[self._next]
            self._next += 1
            if peer == self._me:
                self._answered[peer] = None
            elif self._in_order and not ctx.is_up(peer):
                self._failed(peer, -1, 0.0, ctx.now())  # there is no connection, so nothing could be asked
            else:
                self._asked[peer] = [self._nonce, ctx.now(), 1]
                self._nonce += 1
                self._ping(ctx, peer, round)

    def asked_s(self, peer: PeerId) -> float:
        """Return when a peer that has not answered yet was first asked; infinite where it was not."""
        asked = self._asked.get(peer)
        return math.inf if asked is None else asked[1]

    def answered(self, ctx: Context, peer: PeerId, nonce: int, round: int) -> bool:
        """Note a pong; return whether it belongs here. One that is late or made up does not."""
        asked = self._asked.get(peer)
        if asked is None or asked[0] != nonce:
            return False
        del self._asked[peer]
        self._answered[peer] = None
        self.ask(ctx, round)
        return True

    def lost(self, ctx: Context, peer: PeerId, round: int) -> None:
        """The connection to a peer is gone; without it no answer comes."""
        if self._in_order and self._asked.pop(peer, None) is not None:
            self._failed(peer, -1, 0.0, ctx.now())
            self.ask(ctx, round)

    def look(self, ctx: Context, round: int) -> float | None:
        """Repeat and give up what is due; return in how many seconds to look again, or None."""
        now_s = ctx.now()
        for peer, (_, began_s, pings) in list(self._asked.items()):
            waited_s = now_s - began_s + CLOCK_S
            if waited_s >= self._timeout_s:
                nonce = int(self._asked.pop(peer)[0])
                self._failed(peer, nonce, waited_s, now_s)
            elif pings < 2 and waited_s >= min(self._again_s, self._timeout_s):
                self._asked[peer][2] = 2
                self._ping(ctx, peer, round)
        self.ask(ctx, round)
        due_s = [
            began_s + (self._timeout_s if pings > 1 else min(self._again_s, self._timeout_s))
            for _, began_s, pings in self._asked.values()
        ]
        return max(0.0, min(due_s) - now_s) if due_s else None

    def _ping(self, ctx: Context, peer: PeerId, round: int) -> None:
        self.pings += 1
        ctx.send(peer, PingMessage(nonce=int(self._asked[peer][0]), round=round))
