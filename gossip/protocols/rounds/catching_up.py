"""How far a peer that is behind may be moved by what its neighbours say, who can lie.

A neighbour says how far it is by the tag of a model that it sends. With d live neighbours, a peer goes where *most* of
them, m = ⌊d/2⌋ + 1, have been at least: to the m-th largest of their newest tags. At most d - m of them can claim more
than that without moving it, and fewer than m cannot move it at all.

That demand cannot be made where there is nobody to ask: one neighbour alone, or two of whom one is late as well (two
late neighbours would hold each other back for good). Then a claim is believed as far as the own clock allows: a peer
that has lost time, because it was stopped, cut off or killed, can know how many rounds it could have done in it, and
is moved by so many at most, and once for each model that it is sent. Who keeps in step loses no time; of two neighbours
one is enough for that, since the other one may keep silent and then claim to be ahead.

Where the graph varies, and a row is of one or two, the next row's may lie, and the next one's: so many alone would soon
have moved everybody. But there are others to ask, all contacts, by what each has said at its turn: a peer goes no
farther than most of those that are up have been. Who has begun again waits until most of them have spoken.

What f liars among d live neighbours can do, beside sending models, which is for the merge rule to withstand:

* d >= 3, f <= d/2: nothing. The peer goes where an honest neighbour has been at least, and not before an honest one
  is far ahead. Silence can keep it from catching up where the liars and those who are as late as it are half of d.
* d = 2, f = 1: a peer that has lost time, and hears nothing of the present step from the honest neighbour, is moved by
  as many rounds as it could have done meanwhile, by its own fastest update; one in step with the honest one is not.
* d = 1, f = 1: the same; and as its only neighbour, the liar is all that it hears.
* Where the graph varies and d <= 2: a peer is moved no farther than most of its live contacts say that they have been.
* f > d/2: it is moved to the beginning of the last round at once, and merges what the liars say.
* Any f: a liar that claims to be far ahead is not waited for, and has each model that it sends merged in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gossip.protocols.base import WHOLE, Context, Contribution, GossipStep, Model, ModelAdopted, Part
from gossip.protocols.rounds.parts import Parts
from gossip.protocols.rounds.sender import NOTHING, Sender, Tag

SETTLED_ROUNDS = 3
"""Rounds in step with most neighbours after which time lost before is forgotten. More than one: neighbours that come
back together are in step with each other at once, and the one that is to lead them on speaks a round later."""

UPDATE_MIN_S = 1e-3
"""No local update counts as faster: what a clock is too coarse to measure gives no credit without end."""


def most_of(live: int) -> int:
    """Return how many of `live` neighbours are most of them."""
    return live // 2 + 1


def reached_by_most(tags: Sequence[Tag]) -> Tag:
    """Return the newest tag that most of `tags` have reached, so that less than half of them cannot raise it."""
    return sorted(tags, reverse=True)[most_of(len(tags)) - 1]


def enough_in_step(live: int) -> int:
    """Return how many of `live` neighbours must be in step with a peer for it to have lost no time."""
    return 1 if live == 2 else most_of(live)


class Move(NamedTuple):
    """Where a peer that is behind may go, and by whose word."""

    target: Tag
    witnesses: list[Sender]
    """Live neighbours whose newest model is of the target or later, by name."""
    by_one_word: bool
    """Most of the neighbours do not say so, and each model counts once."""

    def merge(self, ctx: Context, own: Model, in_row: Sequence[Sender], parts: Parts) -> Model:
        """Return the own model merged with the witnesses', and tell that it was moved.

        Where models travel in parts, it is the one part that most of them sent last; the others follow in their turn.
        """
        round, step = self.target
        part, used = _alike(self.witnesses, parts)
        own_weight, received = self._replace(witnesses=used).merged(in_row)
        # To the rule it is the only gossip step of the round before, or the first one of a round that has begun.
        at = GossipStep(round if step else round - 1, step=0, last=step == 0, part=part)
        merged = parts.merge(ctx, own, own_weight, received, at=at)
        ctx.emit(ModelAdopted(sender=self.witnesses[0].peer, round=round))
        return merged

    def merged(self, in_row: Sequence[Sender]) -> tuple[float, list[Contribution]]:
        """Return W_ii and the witnesses' newest models, weights renormalised over those that are there.

        They are merged by the run's own rule, and have to pass the sanitiser, as in every gossip step. Where each
        counts once, it has counted then.
        """
        own_weight = 1.0 - sum(known.weight for known in in_row)
        total = own_weight + sum(known.weight for known in self.witnesses)
        received = [
            Contribution(known.peer, known.kept[max(known.kept)], known.weight / total)
            for known in self.witnesses
        ]
        if self.by_one_word:
            for known in self.witnesses:
                known.stood_in = True
        return max(0.0, 1.0 - sum(each.weight for each in received)), received


def _alike(witnesses: Sequence[Sender], parts: Parts) -> tuple[Part, list[Sender]]:
    """Return the part of which most of `witnesses` sent the newest they have, of several the newest, and those of it.

    Who sent a whole model has sent all parts of it.
    """
    newest = {known.peer: max(known.kept) for known in witnesses}
    found: dict[Part, list[Sender]] = {}
    for known in sorted(witnesses, key=lambda known: newest[known.peer], reverse=True):
        whole = parts.of == 1 or known.whole == newest[known.peer]
        found.setdefault(WHOLE if whole else parts.part(*newest[known.peer]), [])
    for part, used in found.items():
        used += [
            known
            for known in witnesses
            if parts.of == 1 or known.whole == newest[known.peer] or parts.part(*newest[known.peer]) == part
        ]
    part = max(found, key=lambda part: len(found[part]))
    return part, found[part]


def find_move(
    here: Tag,
    live: Sequence[Sender],
    *,
    catch_up_rounds: int,
    last_round: int,
    credit_rounds: int,
    contacts: Callable[[], Sequence[Tag]] | None = None,
) -> Move | None:
    """Return the move that is due, or None.

    Args:
        here: where the peer is.
        live: neighbours of the present row that can be reached, by name.
        catch_up_rounds: no move is shorter.
        last_round: nobody is moved beyond its beginning, so that every peer ends by its own update and merges.
        credit_rounds: rounds that the peer could have done in the time that it lost.
        contacts: where the graph varies, returns the newest tag of each contact that can be reached.
    """
    if not live:
        return None
    tags = [max(known.kept, default=NOTHING) for known in live]
    target = reached_by_most(tags)
    far = here[0] + catch_up_rounds
    in_step = any(here <= known.newest < (far, 0) for known in live)
    by_one_word = len(live) == 1 or (len(live) == 2 and target[0] < far and not in_step)
    if by_one_word and contacts is not None:
        by_one_word = False
        target = max(tags)
        if target[0] >= far:
            target = min(target, reached_by_most(contacts()))
    if by_one_word:
        fresh = [tag for known, tag in zip(live, tags, strict=True) if not known.stood_in]
        target = min(max(fresh, default=NOTHING), (here[0] + credit_rounds, 0))
    target = min(target, (last_round, 0))
    if target[0] < far:
        return None
    return Move(target, [known for known, tag in zip(live, tags, strict=True) if tag >= target], by_one_word)


class LostTime:
    """The rounds that a peer could have done and has not, by its own clock and its own fastest local update.

    Args:
        pace_s: its fastest local update in earlier lives; None before the first.
        away_s: how long it did not run before this life, as far as it knows.
    """

    __slots__ = ("_away_s", "_rounds", "_settled", "_since_s", "pace_s")

    def __init__(self, *, pace_s: float | None, away_s: float) -> None:
        self.pace_s = pace_s
        self._away_s = away_s
        self._since_s = 0.0
        self._rounds = 0
        """Done or passed over since then."""
        self._settled = 0

    def begin(self, now_s: float) -> None:
        """Note when the process begins its rounds."""
        self._since_s = now_s

    def updated(self, took_s: float) -> None:
        """Note how long a local update took."""
        took_s = max(took_s, UPDATE_MIN_S)
        self.pace_s = took_s if self.pace_s is None else min(self.pace_s, took_s)

    def round_done(self, now_s: float, *, in_step: bool) -> None:
        """Note the end of an own round; `in_step`: most live neighbours were heard in all its steps."""
        self._settled = self._settled + 1 if in_step else 0
        if self._settled >= SETTLED_ROUNDS:
            self._since_s, self._away_s, self._rounds = now_s, 0.0, 0
        else:
            self._rounds += 1

    def moved(self, rounds: int) -> None:
        """Note that so many rounds were passed over."""
        self._rounds += rounds
        self._settled = 0

    def credit_rounds(self, now_s: float) -> int:
        """Return how many rounds more there was time for, once the present one's update is done."""
        if self.pace_s is None:
            return 0
        could = int((now_s - self._since_s + self._away_s) / self.pace_s)
        return max(0, could - self._rounds - 1)
