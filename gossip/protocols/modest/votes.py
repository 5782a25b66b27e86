"""With enough aggregators a round begins with what most of them say, not with what the first of them says.

Where a ≥ 2·f + 1 peers average each round, a participant waits until 2·f + 1 of their averages are there, or f + 1 when
the others take long, and trains what these agree on: a liar among them changes nothing. Aggregators that have averaged
the same models send the same, of which that is exactly the one. With fewer aggregators the first order is followed.

Fewer than f + 1 decide nothing, however long the others take: all may be liars, whose orders come before anybody can
have averaged anything, while honest ones wait for models. The exception is an average of one's own, which is honest
without counting: whoever is left alone, or alone with liars, goes on with that.
"""

from __future__ import annotations

import math

from gossip.protocols.base import Context, Contribution, Model, PeerId
from gossip.protocols.modest.core import Core
from gossip.protocols.modest.sampling import CLOCK_S

ROUNDS_MAX = 2
"""Rounds whose averages wait at a time: this one, and one that is early."""

ALONE = 3.0
"""So many times the usual wait passes before the own average is enough."""


class _Ballot:
    __slots__ = ("began_s", "enough_s", "expected", "models")

    def __init__(self, now_s: float) -> None:
        self.began_s = now_s
        self.enough_s: float | None = None
        """When there were more votes than liars: from then on the others are waited for."""
        self.models: dict[PeerId, Model] = {}
        self.expected: dict[PeerId, int] = {}


class Votes:
    """The averages of rounds that this peer has not begun to train in."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._ballots: dict[int, _Ballot] = {}

    @property
    def matter(self) -> bool:
        """Whether a round's averages are compared."""
        core = self._core
        return core.liars > 0 and 2 * core.liars + 1 <= core.settings.aggregators

    def cast(self, ctx: Context, sender: PeerId, *, round: int, expected: int, model: Model) -> None:
        """Note the average that somebody whose turn it is begins a round with."""
        if round <= self._core.train_round:
            return
        ballot = self._ballots.setdefault(round, _Ballot(ctx.now()))
        ballot.models.setdefault(sender, model)
        ballot.expected.setdefault(sender, expected)
        if ballot.enough_s is None and len(ballot.models) > self._core.liars:
            ballot.enough_s = ctx.now()
        while len(self._ballots) > ROUNDS_MAX:
            del self._ballots[max(self._ballots)]

    def decided(self, ctx: Context) -> tuple[int, int, Model] | None:
        """Return (round, how many are to train, model) of the newest round that can begin, and forget its votes."""
        core = self._core
        for round in [round for round in self._ballots if round <= core.train_round]:
            del self._ballots[round]
        for round in sorted(self._ballots, reverse=True):
            ballot = self._ballots[round]
            if ctx.now() + CLOCK_S >= self._due_s(ballot):
                del self._ballots[round]
                return round, self._expected(ballot), self._agreed(ctx, ballot)
        return None

    def due_s(self) -> float:
        """Return when the next round may begin without further votes: infinite where it may not, -inf at once."""
        return min((self._due_s(ballot) for ballot in self._ballots.values()), default=math.inf)

    def clear(self) -> None:
        """Nothing begins any more."""
        self._ballots.clear()

    def _due_s(self, ballot: _Ballot) -> float:
        core, wait_s = self._core, self._core.patience.delivery_s()
        if len(ballot.models) >= 2 * core.liars + 1:
            return -math.inf
        if ballot.enough_s is not None:
            return ballot.enough_s + wait_s
        if core.me in ballot.models:
            return ballot.began_s + ALONE * wait_s
        return math.inf

    def _expected(self, ballot: _Ballot) -> int:
        said = sorted(ballot.expected.values())
        return said[len(said) // 2]

    def _agreed(self, ctx: Context, ballot: _Ballot) -> Model:
        received = [Contribution(peer, ballot.models[peer], 1.0) for peer in sorted(ballot.models)]
        if len(received) == 1:
            return ctx.adopt(self._core.model, received)
        return ctx.agreed(self._core.model, received)
