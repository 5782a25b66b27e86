"""Who is passed over for a while: peers that did not answer (H6), and peers that did not deliver.

Answering pings proves that a peer is there, not that it works; so there are two suspicions. One, for lack of an
answer, ends with a sign of life the first time; after that only an answer to a ping ends it early, for whoever only
reconnects or speaks, and never answers, would make everybody wait again and again. The other, for lack of a model
that was waited for, ends with a delivered model of the same kind alone: starting rounds is no excuse for not training.

Idle are few: f, or one part in `IDLE_SHARE` of the peers. Whoever suspects more is more likely to be at fault itself,
and would be left alone with those that it trusts; so the suspicion with the fewest reasons is dropped then.

Each failure in a row doubles how long a peer is passed over, and no wait costs more than one part in `WAITS_APART` of
the time: a peer that keeps silent on purpose is waited for less and less often, and one that was mended is tried again.
"""

from __future__ import annotations

from typing import NamedTuple

from gossip.protocols.base import PeerId

WAITS_APART = 100.0
"""A peer is passed over for at least so many times as long as it was waited for in vain."""

IDLE_SHARE = 10

TRAINING, AVERAGING = "training", "averaging"
"""What a peer may fail to do."""

LATE_EXCUSED_MAX = 2
"""So often in a row a peer may be late, and is waited for again."""

DOUBLINGS_MAX = 6
"""After so many the time no longer grows, so that whoever is mended is heard again within a run."""


class _Failed(NamedTuple):
    failures: int
    """In a row."""
    until_s: float
    round: int
    """What was believed when it failed, and its last membership event."""
    counter: int
    excused: bool = False
    """It has shown a sign of life since; the failure still counts when there is another."""


class Suspicions:
    """One peer's.

    Args:
        rounds: whoever did not answer is passed over for so many rounds.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._silent: dict[PeerId, _Failed] = {}
        self._idle: dict[tuple[PeerId, str], _Failed] = {}
        self.idle_max = 1

    def __bool__(self) -> bool:
        return bool(self._silent or self._idle)

    def unreachable(self, peer: PeerId, *, round: int, counter: int) -> None:
        """There is no connection: that was no failure of the peer's, and cost nothing."""
        before = self._silent.get(peer)
        if before is None or before.excused:
            failures = 0 if before is None else before.failures
            self._silent[peer] = _Failed(failures, 0.0, round, counter)

    def unanswered(self, peer: PeerId, waited_s: float, *, now_s: float, round: int, counter: int) -> None:
        """A ping was not answered."""
        self._silent[peer] = _next(self._silent.get(peer), waited_s, now_s, round, counter)

    def answered(self, peer: PeerId) -> None:
        """A ping was answered, however late."""
        self._silent.pop(peer, None)

    def alive(self, peer: PeerId) -> None:
        """It has spoken, or connected."""
        failed = self._silent.get(peer)
        if failed is not None and failed.failures <= 1:
            self._silent[peer] = failed._replace(excused=True)

    def undelivered(self, peer: PeerId, task: str, waited_s: float, *, now_s: float, round: int) -> None:
        """A model was waited for in vain."""
        self._idle[peer, task] = _next(self._idle.get((peer, task)), waited_s, now_s, round, 0)
        suspected = [key for key, failed in self._idle.items() if now_s < failed.until_s]
        while len({suspect for suspect, _ in suspected}) > self.idle_max:
            least = min(suspected, key=lambda key: (self._idle[key].failures, self._idle[key].until_s, key))
            suspected.remove(least)
            self._idle[least] = self._idle[least]._replace(until_s=now_s)

    def delivered(self, peer: PeerId, task: str) -> None:
        """A model of use has come."""
        self._idle.pop((peer, task), None)

    def delivered_late(self, peer: PeerId, task: str, *, now_s: float) -> None:
        """A model has come that nobody waits for any more: the peer works, unless it is late every time."""
        idle = self._idle.get((peer, task))
        if idle is not None and idle.failures <= LATE_EXCUSED_MAX:
            self._idle[peer, task] = idle._replace(until_s=now_s)

    def is_suspect(self, peer: PeerId, *, now_s: float, round: int, counter: int, active: int) -> bool:
        """Return whether to pass `peer` over; the last two are what the view knows of it."""
        for task in (TRAINING, AVERAGING):
            idle = self._idle.get((peer, task))
            if idle is not None and now_s < idle.until_s:
                return True
        failed = self._silent.get(peer)
        if failed is None or failed.excused:
            return False
        if failed.failures <= 1 and (counter > failed.counter or active > failed.round):
            return False
        return round < failed.round + self._rounds or (failed.failures > 1 and now_s < failed.until_s)


def _next(before: _Failed | None, waited_s: float, now_s: float, round: int, counter: int) -> _Failed:
    failures = 1 + (0 if before is None else before.failures)
    skipped_s = waited_s * WAITS_APART * 2.0 ** min(failures - 1, DOUBLINGS_MAX)
    return _Failed(failures, now_s + skipped_s, round, counter)
