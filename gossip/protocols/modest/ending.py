"""The last round: those who average it say so to all, and the final model spreads along a tree of groups.

Nobody ends because somebody says so. A peer ends by its own last average, or when more than f peers say that they have
ended: then one of them is honest. It asks 3·f + 1 for the final model, and of the first 2·f + 1 to come it takes the
coordinates' medians, so that f silent ones delay nothing and f false ones change nothing (models that are equal have
exactly themselves for their median).

A tree spreads the load: the first 3·f + 1 of the last round's order are its root, the others follow in groups of as
many, and each group fetches from the one above it, `BRANCHES` groups from one. Where these cannot be reached or take
long, all that say to have ended are asked in turn, and f + 1 answers must do.
"""

from __future__ import annotations

from gossip.protocols.base import Context, Contribution, FinishedMessage, Model, PeerId, RoundCompleted
from gossip.protocols.modest.core import Core
from gossip.protocols.modest.sampling import order

FINAL = "final"
BRANCHES = 4
FETCH_AGAIN_S = 5.0


class Ending:
    """Upon FINISHED, and everything after the end."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sayers: list[PeerId] = []
        self._parents: list[PeerId] = []
        self._asked: set[PeerId] = set()
        self._answers: dict[PeerId, Model] = {}
        self._began_s: float | None = None
        self._told: set[PeerId] = set()
        self._children: set[PeerId] = set()
        self._waiting: set[PeerId] = set()

    @property
    def needed(self) -> bool:
        """Whether a child has not fetched the final model yet."""
        return bool(self._children)

    def announce(self, ctx: Context) -> None:
        """We have the final model, and nobody else may know that there is one."""
        self._find_children(ctx)
        for peer in ctx.contacts:
            self.say(ctx, peer)

    def finish(self, ctx: Context, model: Model) -> None:
        """All is done."""
        core = self._core
        if core.finished:
            return
        core.finished = True
        if core.newest < core.rounds:
            core.take_model(model, newest=core.rounds)
            core.note_saved()
            ctx.emit(RoundCompleted(round=core.rounds, model=model, heard=1, expected=1))
        ctx.cancel_timer(FINAL)
        for peer in sorted(self._waiting):
            self.serve(ctx, peer)
        self._waiting.clear()
        # They may be lingering for us.
        for peer in dict.fromkeys([*self._answers, *self._parents]):
            self.say(ctx, peer)
        self._answers.clear()
        ctx.finish(core.model)

    def told(self, ctx: Context, sender: PeerId) -> None:
        """Somebody says to have finished."""
        if self._core.finished:
            self._children.discard(sender)
            self.say(ctx, sender)
            return
        if sender not in ctx.peers or sender in self._sayers:
            return  # the former was taken off the list while this was under way
        self._sayers.append(sender)
        liars = self._core.liars
        if len(self._sayers) > liars + 1 and len(self._asked) <= 3 * liars and sender not in self._asked:
            self._fetch(ctx, sender)
        if len(self._sayers) == liars + 1:
            self._find_children(ctx)
            self._parents = self._parents_of(ctx, ctx.peer)
            self.timer(ctx)

    def timer(self, ctx: Context) -> None:
        """Ask for the final model; more peers in turn, as long as too few have sent it."""
        core = self._core
        if core.finished or len(self._sayers) <= core.liars:
            return
        first = self._sayers
        if self._began_s is None:
            self._began_s = ctx.now()
            first = [*self._parents, *self._sayers]
        elif len(self._answers) > core.liars and not self._more_come(ctx, since_s=self._began_s):
            self._agree(ctx)
            return
        wanted = 3 * core.liars + 1 - len(self._answers)
        asked = 0
        for peer in dict.fromkeys(first):
            if asked < wanted and peer not in self._answers and ctx.is_up(peer):
                self._fetch(ctx, peer)
                asked += 1
                if peer in self._sayers:
                    self._sayers.remove(peer)
                    self._sayers.append(peer)
        ctx.set_timer(FINAL, min(FETCH_AGAIN_S, core.patience.ack_s()))

    def received(self, ctx: Context, sender: PeerId, model: Model) -> bool:
        """Note a final model that was asked for; return whether it has ended the run."""
        core = self._core
        self._answers[sender] = model
        if len(self._answers) >= 2 * core.liars + 1:
            self._agree(ctx)
        return core.finished

    def _fetch(self, ctx: Context, peer: PeerId) -> None:
        self._asked.add(peer)
        self._core.fetch(ctx, peer, round=self._core.rounds - 1)

    def serve(self, ctx: Context, peer: PeerId) -> None:
        """Send the final model to whoever asks for it; before there is one, remember who did."""
        core = self._core
        if not core.finished:
            self._waiting.add(peer)
            return
        core.hand(ctx, peer)
        self._told.add(peer)

    def say(self, ctx: Context, peer: PeerId) -> None:
        """Tell a peer, once per connection, that we have finished."""
        if peer not in self._told and ctx.is_up(peer):
            self._told.add(peer)
            ctx.send(peer, FinishedMessage(round=self._core.rounds))

    def connection_lost(self, peer: PeerId) -> None:
        """Who is gone needs nothing."""
        self._children.discard(peer)
        self._waiting.discard(peer)
        self._told.discard(peer)

    def _more_come(self, ctx: Context, *, since_s: float) -> bool:
        """Whether any of those that say to have ended may still send the final model, asked for since a time."""
        if ctx.now() - since_s >= self._core.settings.send_again_s:
            return False
        return any(peer not in self._answers and ctx.is_up(peer) for peer in self._sayers)

    def _agree(self, ctx: Context) -> None:
        core = self._core
        received = [Contribution(peer, self._answers[peer], 1.0) for peer in sorted(self._answers)]
        model = ctx.agreed(core.model, received) if core.liars else ctx.adopt(core.model, received)
        self.finish(ctx, model)

    # --- the tree ---

    def _groups(self, ctx: Context) -> list[list[PeerId]]:
        size = 3 * self._core.liars + 1
        everybody = order(self._core.rounds + 1, ctx.peers)
        return [everybody[start : start + size] for start in range(0, len(everybody), size)]

    def _parents_of(self, ctx: Context, peer: PeerId) -> list[PeerId]:
        groups = self._groups(ctx)
        place = next(number for number, group in enumerate(groups) if peer in group)
        return [each for each in groups[(place - 1) // BRANCHES] if each != peer] if place else []

    def _find_children(self, ctx: Context) -> None:
        groups = self._groups(ctx)
        place = next(number for number, group in enumerate(groups) if ctx.peer in group)
        below = groups[BRANCHES * place + 1 : BRANCHES * (place + 1) + 1]
        self._children = {peer for group in below for peer in group if ctx.is_up(peer)}
