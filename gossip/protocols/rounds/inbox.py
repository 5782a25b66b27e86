"""Which models of neighbours are kept: those of the present step and later ones, and the newest that came late.

A neighbour far ahead will never send its model of the present step. Its newest one stands in for it, with its ordinary
weight and once for each time that it is sent: so the model of a late peer that nobody may move follows all the same,
and one message changes one step. A model that comes after its step has ended stands in for the next one of its sender,
if that does not come in time either: so the data of a machine that is too slow to be waited for are not lost to others.
"""

from __future__ import annotations

from collections.abc import Mapping

from gossip.protocols.base import Context, Contribution, Model, ModelMessage, Part, PeerId
from gossip.protocols.participation import Participation
from gossip.protocols.rounds.final import FinalSteps
from gossip.protocols.rounds.neighbourhood import ROWS_LOOKED_UP, Neighbourhood
from gossip.protocols.rounds.parts import Parts, PieceMessage
from gossip.protocols.rounds.sender import NO_MODELS, NONE_LATE, NOTHING, Sender, Tag
from gossip.protocols.settings import RoundsSettings

KEPT_PER_SENDER_MAX = 2
"""Models kept from one sender: that of the present step, and its newest, by which it says how far it is. In step with
us it has sent no other, but one of the next round where models are sent before they are trained."""


class Inbox:
    """One peer's.

    Args:
        settings: Q, and how far ahead a neighbour must be to be caught up with.
        rounds: T, by the settings.
        near: who sends.
        parts: which of a model each step sends.
        final: which steps the last round has beside Q.
    """

    __slots__ = (
        "_final",
        "_gossip_steps",
        "_near",
        "_participation",
        "_parts",
        "_rounds",
        "_settings",
        "_steps_began",
        "last",
        "newest_round",
    )

    def __init__(
        self,
        settings: RoundsSettings,
        *,
        rounds: int,
        near: Neighbourhood,
        parts: Parts,
        final: FinalSteps,
    ) -> None:
        self._settings = settings
        self._final = final
        self._gossip_steps = settings.gossip_steps
        self._rounds = rounds
        self.last = rounds
        """Rounds after which this peer ends; others may do more."""
        self._near = near
        self._participation: Participation | None = None
        if settings.weighing == "participation":
            self._participation = Participation(
                interval_max=settings.interval_max, self_min=settings.self_min
            )
        self._parts = parts
        self._steps_began: list[tuple[Tag, float]] = []
        """When the latest steps began, in their order."""
        self.newest_round = -1
        """Of all that was kept."""

    def remember(self, participation: str) -> None:
        """Go on with what an earlier process knew of how often neighbours come, as `saved` said it."""
        if self._participation is not None and participation:
            self._participation.remember(participation)

    def saved(self) -> Mapping[str, str]:
        """Return what a checkpoint must hold of it."""
        return {} if self._participation is None else {"participation": self._participation.saved()}

    def note_step_began(self, tag: Tag, now_s: float) -> None:
        """Note when a step began, to know later how late who came late is."""
        self._steps_began.append((tag, now_s))
        if len(self._steps_began) > 2 * (self._gossip_steps + self._final.count):
            del self._steps_began[0]

    def reason_to_refuse(
        self, ctx: Context, sender: PeerId, message: ModelMessage | PieceMessage, *, round: int
    ) -> str | None:
        """Return why a model cannot be used in `round`, or None. Tags come from the peer and may be nonsense."""
        if sender not in self._near.contacts(ctx):
            return "not-a-neighbour"
        if self._final.let_in(message, last=self.last):
            row = self._near.final_row(ctx, message.step - self._gossip_steps)
            return None if sender in row else "not-a-neighbour"
        final = message.step == 0 and message.round in (self.last, self._rounds)
        if not final and not (0 <= message.round < self._rounds and 0 <= message.step < self._gossip_steps):
            return "invalid-tag"
        if not self._parts.fits(message):
            return "no-such-part"
        # Who is farther away says how far it is, which is believed or not (`catching_up`), or comes too late.
        if final or abs(message.round - round) > ROWS_LOOKED_UP:
            return None
        return None if sender in self._near.row_of(ctx, message.round, own=round) else "not-a-neighbour"

    def take(self, known: Sender, tag: Tag, model: Model, *, here: Tag, whole: bool) -> bool:
        """Keep a model of the present step or a later one; return False where that one is there already."""
        again = known.stood_in and tag == max(known.kept, default=NOTHING)
        if not again and (tag in known.kept or (tag == here and known.awaited is not None)):
            return False
        known.keep(tag, model, whole=whole)
        known.suspect = False
        if tag > known.newest:
            known.newest = tag
            if tag[0] > self.newest_round:
                self.newest_round = tag[0]
        if len(known.kept) > KEPT_PER_SENDER_MAX:
            # The model of the present step is the one about to be merged; among the others old ones go first.
            del known.kept[min(other for other in known.kept if other != here)]
        return True

    def take_late(self, known: Sender, tag: Tag, model: Model, *, round: int, now_s: float) -> bool:
        """Learn from a model that missed its step how late its sender is; return whether it stands in for the next."""
        if tag <= known.newest:
            return False
        # Who has passed over rounds, to catch up, tells nothing of how long one takes it, and will be late again.
        in_turn = tag[0] <= known.newest[0] + 1
        known.newest = tag
        within = self._settings.catch_up_rounds + self._parts.turn_rounds
        stands_in = known.peer in self._near.row and round - tag[0] < within
        if stands_in:
            known.keep_late(tag, model, self._parts.part(*tag).place)
        if in_turn:
            for began, began_s in self._steps_began:
                if began == tag:
                    known.observe(tag, now_s - began_s)
                    known.suspect = False
        return stands_in

    def collect(self, ctx: Context, tag: Tag, part: Part) -> tuple[float, list[Contribution]]:
        """Return the own weight in the merge of a step, and what is merged: what has come, or stands in for it."""
        received: list[Contribution] = []
        new = tuple.__new__
        own_weight = 1.0
        for known in self._near.in_row:
            model = known.awaited
            if model is not None:
                known.awaited = None
            else:
                model = known.kept.pop(tag, None)
                if model is None:
                    self._near.note_unheard(known)
                    if ctx.is_up(known.peer):
                        far = self._settings.catch_up_rounds
                        model = known.stand_in(tag[0], part, self._parts, last=self.last, far=far)
            if known.late:
                known.late.pop(part.place, None)
            if model is not None:
                weight = known.weight
                # Half of what a call of its own takes.
                received.append(new(Contribution, (known.peer, model, weight, False)))
                own_weight -= weight
        own_weight = max(0.0, own_weight)
        if self._participation is not None and tag[1] < self._gossip_steps:  # final steps are to be exact
            return self._participation.weighed(self._near.row, own_weight, received)
        return own_weight, received

    def forget_before(self, target: Tag) -> None:
        """Forget all models of steps that are passed over."""
        for known in self._near.senders.values():
            known.awaited = None
            known.late = NONE_LATE
            for old in [other for other in known.kept if other < target]:
                del known.kept[old]

    def clear(self) -> None:
        """Forget all models."""
        for known in self._near.senders.values():
            known.kept = NO_MODELS
            known.awaited = None
            known.late = NONE_LATE
