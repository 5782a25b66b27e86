"""How long to wait, learnt from those who deliver; the settings' times are caps, and what holds until enough is known.

All waits follow ``median + max(floor, k·MAD)`` of what was seen lately (`gossip.protocols.rounds.deadlines`), pooled
over all peers: who alone is late by any time of its choice moves neither the median nor the deviation. The floor under
the margin follows what this network and these machines are like: four times an ordinary answer, so that nobody who is
merely far away is given up, and the peer's own local update, for where these take minutes is no place for tenths of
seconds. Nothing here reads a clock: times are given.
"""

from __future__ import annotations

from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.rounds.deadlines import ArrivalDeadline

K = 6.0
"""MADs in a margin: of normally distributed delays about one in 20,000 is later."""

SEEN_MIN = 4
"""With fewer the first few say little of the others."""

ANSWERS_MIN = 6
"""The same for answers to pings, each of which comes over another distance."""

FLOOR_S = 0.2
"""Under every margin: a busy machine lets a process wait for so long."""

ANSWERS_IN_MARGIN = 4.0
"""Ordinary answers: between cities the slowest of a hundred links takes about three times as long as the median."""

PONG_UNKNOWN_S = 2.0
"""Before any answer has ever come."""

PONG_FIRST_S = 0.5
"""At least, once a few have; or twice the margin, of so few."""

DELIVERY_UNKNOWN_S = 0.6
"""Before enough models have ever come; or two local updates, where these are longer."""

ACK_UNKNOWN_S = 1.0
"""Before an aggregator has ever confirmed anything; or three local updates, where these are longer."""

STALL_FLOOR_S = 2.0
"""Under the margin of the time without news after which the chain counts as broken."""

TURN_FLOOR_S = 1.0
"""Between those that may begin a round after a stall."""


class _Seen:
    """One kind of delay: what was seen of it, and how often."""

    __slots__ = ("_deadline", "count", "slowest_s")

    def __init__(self) -> None:
        self._deadline = ArrivalDeadline()
        self.count = 0
        self.slowest_s = 0.0

    def note(self, delay_s: float) -> None:
        self._deadline.observe(delay_s)
        self.count += 1
        self.slowest_s = max(self.slowest_s, delay_s)

    def median_s(self) -> float:
        return self._deadline.delay_s(k=0.0, floor_s=0.0, cap_s=float("inf"))

    def wait_s(self, floor_s: float, cap_s: float) -> float:
        return self._deadline.delay_s(k=K, floor_s=floor_s, cap_s=cap_s)


class Patience:
    """One peer's."""

    def __init__(self, settings: ModestSettings) -> None:
        self._settings = settings
        self._updates = _Seen()
        self._pongs = _Seen()
        self._deliveries = _Seen()
        self._acks = _Seen()
        self._rounds = _Seen()
        self._news = _Seen()
        self._update_s = 0.0

    def updated(self, took_s: float) -> None:
        """Note the length of an own local update."""
        self._updates.note(took_s)
        self._update_s = min(took_s if self._updates.count < SEEN_MIN else self._updates.median_s(), 3600.0)

    def answered(self, took_s: float) -> None:
        """Note how long a pong took."""
        self._pongs.note(took_s)

    def delivered(self, later_s: float) -> None:
        """Note how long after a round's first model another one came."""
        self._deliveries.note(later_s)

    def confirmed(self, took_s: float) -> None:
        """Note how long an aggregator took to confirm."""
        self._acks.note(took_s)

    def advanced(self, rounds: int, took_s: float) -> None:
        """Note that so many rounds have gone by since the last news of one."""
        self._rounds.note(took_s / rounds)
        self._news.note(took_s)

    def pong_s(self) -> float:
        """Return Δt: how long a peer may take to answer."""
        cap_s = self._settings.ping_timeout_s
        if not self._pongs.count:
            return min(cap_s, PONG_UNKNOWN_S)
        if self._pongs.count < ANSWERS_MIN:
            return min(cap_s, max(PONG_FIRST_S, 2 * ANSWERS_IN_MARGIN * self._pongs.slowest_s))
        return self._pongs.wait_s(max(FLOOR_S, ANSWERS_IN_MARGIN * self._pongs.median_s()), cap_s)

    def delivery_s(self) -> float:
        """Return how long after the first model of a round the missing ones are waited for (H2).

        Who has never trained does not know what a local update takes, and the first few models to come say nothing
        of machines that are half as fast.
        """
        cap_s = self._settings.aggregate_timeout_s
        if not self._update_s:
            return cap_s
        if self._deliveries.count < SEEN_MIN:
            return min(cap_s, max(DELIVERY_UNKNOWN_S, 2 * self._update_s))
        return self._deliveries.wait_s(self._margin_s(), cap_s)

    def ack_s(self) -> float:
        """Return how long an aggregator may take to confirm (H3).

        Twice the margin for models: one that waits for somebody silent must not be taken for silent itself.
        """
        cap_s = self._settings.send_again_s
        if self._acks.count < SEEN_MIN:
            return min(cap_s, max(ACK_UNKNOWN_S, 3 * self._update_s))
        return self._acks.wait_s(2 * self._margin_s(), cap_s)

    def round_s(self) -> float:
        """Return how long a round may take before whoever comes next in its order may begin it instead.

        Longer than an aggregator waits for the silent, or orders out of turn would overtake it whenever it does.
        """
        return self._rounds.wait_s(2 * self._margin_s(), self._settings.stall_s / 4)

    def stall_s(self) -> float:
        """Return after how long without a new round the chain counts as broken (H4): later than all other remedies."""
        cap_s = self._settings.stall_s
        news_s = self._news.wait_s(max(STALL_FLOOR_S, self._update_s), cap_s)
        return min(cap_s, 2 * (self.ack_s() + self.delivery_s()) + news_s)

    def turn_s(self) -> float:
        """Return how much later than the one before whoever may begin a round after a stall does so.

        Its pings must have been answered, and its orders have come; if not, there are two orders, and one is followed.
        """
        return max(TURN_FLOOR_S, self.pong_s(), self._update_s / 2)

    def _margin_s(self) -> float:
        answer_s = self.pong_s() if self._pongs.count else PONG_FIRST_S
        return max(FLOOR_S, self._update_s, answer_s)
