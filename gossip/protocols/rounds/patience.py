"""How long a gossip step waits, and for whom, when some neighbours are late or silent on purpose.

A step can be divided in two: until *most* neighbours that are counted on have come, and what it waits longer. The
first part is the pace of the neighbourhood, and nobody can be quicker. The second is *extra*, and it is paid from an
account in seconds: the account grows by a share of all other time (own updates, and waiting for most), so that

    extra waiting  <=  opening balance + share · all other time

whoever is late, by how much, and how often. Who is usually in time and late for once may use half of what is there.
Who is late as a rule is waited for as far as the present round pays: a machine that takes a little longer than most is
heard in every step, one that takes twice as long is not. Its models are merged all the same, a step late (`protocol`).
To save up for it would be fair, and was tried: its neighbours then stop in different rounds, each stop holds up all the
others, and the pace falls by several times the share. Who is late by little, compared with the floor, may also use the
opening balance down to its last floor: with short rounds, where machines differ by more than the share for reasons of
no weight, as many rounds are exact.

Most of n are n // 2 + 1, as many as decide how far a peer catches up; of two it is one, for the other may be the one
that is late. A single neighbour is all there is to wait for, and nothing is extra: the bound says nothing of peers with
one neighbour, nor of graphs that vary and have rows of one, where a late peer holds up another one in each round. What
is shown by tests is that peers with two or more neighbours in a graph that does not vary keep 80 % of their pace.

Not counted on, and not waited for, are suspects: those that missed a deadline, or went away while they were waited
for. A suspect is one until it delivers a model; that it comes back says nothing.

A neighbour of whom too little is known is waited for as long again as most others took, and for the floor at least.
Where nothing is known of anybody, as in the first step, the wait ends at the cap.
"""

from __future__ import annotations

from collections.abc import Sequence

from gossip.protocols.rounds.deadlines import ArrivalDeadline
from gossip.protocols.settings import RoundsSettings

OPENING_FLOORS = 6
"""The account opens with so many margins (`deadline_floor_s`). A hiccup of a busy machine takes up to one of them, and
half of what is there must be as much; the rest is for those that are late by little."""

LAST_FLOORS = 1
"""What the account once fell below is left to those who are usually in time."""

LITTLE_FLOORS = 0.25
"""Late by little. A whole one would let a neighbour take seconds of every round at the beginning."""

SAVED_ROUNDS = 2
"""Beyond them it saves up to the other time of so many rounds, so that the half that one wait may take is a round:
hiccups of a machine whose rounds take minutes are longer."""

SMOOTHING = 0.1
"""Weight of the newest round in the mean of a round's other time: ten rounds, so that the limit follows slowly."""


def counted_as_most(count: int) -> int:
    """Return how many of `count` neighbours are most of them when it comes to waiting."""
    return count // 2 + 1 if count > 2 else min(count, 1)


class Account:
    """The seconds that may be spent on waiting for those who are later than most."""

    __slots__ = ("_floor_s", "_other_s", "_share", "balance_s", "opening_is_spent")

    def __init__(self, *, share: float, floor_s: float) -> None:
        self._share = share
        self._floor_s = floor_s
        self._other_s = 0.0
        self.balance_s = OPENING_FLOORS * floor_s
        self.opening_is_spent = False
        """Those who are late by little have had their part."""

    def pay(self, extra_s: float) -> None:
        """Take off what a step waited longer than for most."""
        self.balance_s -= extra_s
        self.opening_is_spent |= self.balance_s < LAST_FLOORS * self._floor_s

    def earn(self, other_s: float) -> None:
        """Put in the share of a round's time in which nobody was waited for longer than for most."""
        self._other_s += SMOOTHING * (other_s - self._other_s)
        most_s = OPENING_FLOORS * self._floor_s + SAVED_ROUNDS * self._other_s
        # What is there stays there when rounds become quicker.
        self.balance_s = max(self.balance_s, min(most_s, self.balance_s + self._share * other_s))


class Patience:
    """The waits of one peer. Times of a step are counted from when it began."""

    __slots__ = (
        "_account",
        "_after_update",
        "_counted",
        "_extra_s",
        "_most",
        "_most_s",
        "_other_s",
        "_settings",
        "_update_s",
        "began_s",
        "short",
    )

    def __init__(self, settings: RoundsSettings) -> None:
        self._settings = settings
        self._account = Account(share=settings.deadline_share, floor_s=settings.deadline_floor_s)
        self._after_update = True
        self._counted = 0
        self._most = 0
        self.short = 0
        """So many models more, and most have come."""
        self._most_s: float | None = None
        """When most had come."""
        self._update_s = 0.0
        """What the present round's local update took."""
        self._other_s = 0.0
        self._extra_s = 0.0
        """Of the present round's steps."""
        self.began_s = 0.0

    @property
    def most_have_come(self) -> bool:
        """Whether all further waiting is extra."""
        return self._most_s is not None

    def begin_round(self, update_s: float) -> None:
        """Note that a round has come to its gossip steps, and what its local update took; 0 where there was none."""
        self._account.earn(self._other_s + self._update_s)
        self._other_s = self._extra_s = 0.0
        self._update_s = update_s

    def begin(self, now_s: float, *, counted: int, come: int, after_update: bool) -> None:
        """Begin a step.

        Args:
            now_s: the time.
            counted: neighbours that can be reached and are no suspects.
            come: those of them whose models of this step need not be waited for: who is ahead has come.
            after_update: the others, too, train before they send what is waited for.
        """
        self.began_s = now_s
        self._after_update = after_update
        self._counted = counted
        self._most = counted_as_most(counted)
        self.short = self._most - come
        self._most_s = 0.0 if self.short <= 0 else None

    def most_came(self, now_s: float) -> None:
        """Note that most have come by now, and had not before. Whoever takes a model counts `short` down."""
        self._most_s = now_s - self.began_s

    def lost(self, now_s: float) -> bool:
        """Note that one that was waited for will not come; return whether most have come only now."""
        if self._most_s is not None:
            return False
        self._counted -= 1
        most = counted_as_most(self._counted)
        self.short += most - self._most
        self._most = most
        if self.short > 0:
            return False
        self._most_s = now_s - self.began_s
        return True

    def end(self, now_s: float) -> None:
        """End the step: pay for what was extra."""
        waited_s = now_s - self.began_s
        extra_s = 0.0 if self._most_s is None else waited_s - self._most_s
        if extra_s:
            # A process that was stopped in a wait finds itself late by no neighbour's fault.
            self._account.pay(min(extra_s, self._spendable_s))
            self._extra_s += extra_s
        self._other_s += waited_s - extra_s

    def can_afford(self, arrivals: ArrivalDeadline) -> bool:
        """Return whether a neighbour will usually have come while it can be paid for. Before most have come it may."""
        if self._most_s is None:
            return True
        settings = self._settings
        income_s = settings.deadline_share * (self._update_s + self._other_s + self._most_s) - self._extra_s
        if not self._account.opening_is_spent:
            income_s = max(income_s, LITTLE_FLOORS * settings.deadline_floor_s)
        return arrivals.usually_within(self._most_s + min(self._spendable_s, max(0.0, income_s)))

    def may_end_before(self, time_s: float) -> bool:
        """Return whether the step may have to end before `time_s`; not within the floor, while it can be paid for."""
        return time_s > self._settings.deadline_floor_s or time_s > (self._most_s or 0.0) + self._spendable_s

    def deadline_s(self, late: Sequence[ArrivalDeadline], others: Sequence[ArrivalDeadline]) -> float:
        """Return how long the step may last while these are late; `others` are all that are counted on."""
        settings = self._settings
        known_s = [self._alone_s(each) for each in late if each.known]
        if len(known_s) < len(late):
            known_s.append(self._unknown_s(others))
        wanted_s = max(known_s, default=0.0)
        if self._most_s is not None:
            wanted_s = min(wanted_s, self._most_s + self._spendable_s)
        return min(wanted_s, settings.deadline_cap_s)

    @property
    def _spendable_s(self) -> float:
        """What one wait may cost: some is left for those that are late by little."""
        return self._account.balance_s / 2

    def _alone_s(self, arrivals: ArrivalDeadline) -> float:
        settings = self._settings
        return arrivals.delay_s(
            k=settings.deadline_k, floor_s=settings.deadline_floor_s, cap_s=settings.deadline_cap_s
        )

    def _unknown_s(self, others: Sequence[ArrivalDeadline]) -> float:
        if self._most_s is not None:
            others_s = self._most_s + (self._update_s if self._after_update else 0.0)
            return self._most_s + max(self._settings.deadline_floor_s, others_s)
        return max(
            (self._alone_s(each) for each in others if each.known), default=self._settings.deadline_cap_s
        )
