"""When a peer of `rounds` ends: after T rounds, or after those upon which enough peers agree (`stopping`)."""

from __future__ import annotations

from collections.abc import Mapping

from gossip.protocols.base import Context, Message, MessageRejected, PeerId
from gossip.protocols.rounds.inbox import Inbox
from gossip.protocols.rounds.neighbourhood import Neighbourhood
from gossip.protocols.rounds.sender import Tag
from gossip.protocols.rounds.stopping import Stopping, WantsMessage
from gossip.protocols.settings import RoundsSettings
from gossip.protocols.stopping import ROUNDS, StopRule


class Ending:
    """One peer's.

    Args:
        settings: how far behind others may be before their steps are not answered one by one.
        rounds: T, by the settings.
        near: who is told of wants, and heard.
        inbox: is told after which round the peer ends.
    """

    __slots__ = ("_far", "_inbox", "_near", "_stopping", "early", "rounds", "why")

    def __init__(self, settings: RoundsSettings, *, rounds: int, near: Neighbourhood, inbox: Inbox) -> None:
        self._far = settings.catch_up_rounds
        self._near = near
        self._inbox = inbox
        self._stopping: Stopping | None = None
        """Only where `[stop]` asks for more than rounds."""
        self.rounds = rounds
        """After which the peer is done, as far as is known now."""
        self.why = ROUNDS
        self.early = False
        """Whether it has been agreed to end before T rounds."""

    def stop_early(self, rule: StopRule, state: Mapping[str, int | float | str], *, done: int) -> None:
        """Agree upon an earlier end, from what the checkpoint after so many rounds knows of it."""
        self._stopping = Stopping(rule, state)
        self._settle(earliest=done)

    def saved(self) -> Mapping[str, int | float | str]:
        """Return what a checkpoint must hold of it."""
        return {} if self._stopping is None else self._stopping.saved()

    def heard(self, ctx: Context, sender: PeerId, message: Message, *, earliest: int) -> None:
        """Take what a contact says of who wants to stop; `earliest` is the round that is still to be done."""
        if self._stopping is None or not isinstance(message, WantsMessage):
            ctx.emit(MessageRejected(sender=sender, reason="unexpected"))
        elif sender not in self._near.contacts(ctx):
            ctx.emit(MessageRejected(sender=sender, reason="not-a-neighbour"))
        else:
            self._stopping.heard(ctx, self._near.contacts(ctx), sender, message)
            self._settle(earliest=earliest)

    def scored(self, ctx: Context, round: int, score: float | None, *, earliest: int) -> None:
        """Take the own model's score after `round`."""
        if self._stopping is not None:
            self._stopping.scored(ctx, self._near.contacts(ctx), round=round, score=score)
            self._settle(earliest=earliest)

    def tell(self, ctx: Context, *, anew: PeerId | None = None) -> None:
        """Tell contacts who wants to stop, one of them `anew`: it has come (back)."""
        if self._stopping is not None:
            if anew is not None:
                self._stopping.forget_told(anew)
            self._stopping.tell(ctx, self._near.contacts(ctx))

    def _settle(self, *, earliest: int) -> None:
        decision = None if self._stopping is None else self._stopping.decision
        if decision is not None and max(decision.last, earliest) < self.rounds:
            self.rounds = self._inbox.last = max(decision.last, earliest)
            self.why = decision.why
            self.early = True

    def answer_to(self, tag: Tag, *, served: Tag) -> Tag | None:
        """Return the tag under which the final model answers a model of `tag`; None: it was served that already."""
        # Where peers agree to end, others may do so some rounds later.
        if served >= tag or (tag[0] >= self.rounds and not self.early):
            return None
        return (self.rounds, 0) if self.rounds - tag[0] >= self._far else tag
