"""What the roles of one peer share: its view, its round, its newest average, and who is in which sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from gossip.protocols.base import Context, Model, ModelSaved, PeerId
from gossip.protocols.modest.claims import Claims, liars_max
from gossip.protocols.modest.messages import BulkMessage, FetchMessage, NewestMessage
from gossip.protocols.modest.news import News
from gossip.protocols.modest.patience import Patience
from gossip.protocols.modest.sampling import order, turn
from gossip.protocols.modest.search import Searches, Then
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.modest.suspicion import IDLE_SHARE, Suspicions
from gossip.protocols.modest.view import Entry, View

NONCE_MAX = 2**52

COUNTER_MAX = 2**52
"""Of membership events; whoever claims more is refused, for the wire ends at 2^53 and nobody could outdo it."""

SLACK_SHARE = 3
"""At most one part in so many of the candidates may be drawn by mistake: of six not everybody."""

TOMBSTONE_WINDOWS = 10
"""Who left so many activity windows ago is not told of any more: by then nobody takes it for a candidate."""


GIVEN_MAX = 3
"""So often a peer is given the same model over one connection: asking costs it a hundred bytes, answering megabytes."""


class Core:
    """Shared state of one peer's roles.

    Args:
        settings: `[protocol]`.
        rounds: R, after which all is done.
        model: handle of the model at the start.
        state: what `snapshot` returned before a restart.
        server: the fixed aggregator's place among the peers, or None.
    """

    def __init__(
        self,
        settings: ModestSettings,
        *,
        rounds: int,
        model: Model,
        state: Mapping[str, int | float | str],
        server: int | None,
    ) -> None:
        self.settings = settings
        self.rounds = rounds
        self.model = model
        self.newest = int(state.get("round", 0))
        """Rounds that `model` contains."""
        self.train_round = int(state.get("train", 0))
        """k_train, the highest round whose average was accepted for training."""
        self.aggregate_round = int(state.get("aggregate", 0))
        """k_agg, the highest round that was averaged; in the bare protocol, for which a trained model came."""
        # One number is left out: leaving may have used it without its having been saved.
        self.counter = int(state.get("counter", -1)) + 2
        self.me: PeerId = ""
        self.view = View(())
        self.finished = False
        self.pending: list[Entry] = []
        """Joins that are not to be seen before this peer's next models are sent."""
        self.asked: set[PeerId] = set()
        """Peers that owe us their newest model; nobody else may give us one."""
        self._handed: dict[PeerId, tuple[int, int]] = {}
        # The newest round whose model a peer was handed, and how often.
        self.given_round = 0
        self.given_to: set[PeerId] = set()
        """Whom this peer found to be a round's aggregators, by its own search, and gave its model."""
        self.liars = 0
        """f, the peers that may lie or be silent."""
        self.now_s = 0.0
        """When the present event happened."""
        self.since_s = 0.0
        """When the present round was first known of."""
        self.rejected: Callable[[Context, PeerId, str], None] = lambda ctx, peer, reason: None
        self.news = News()
        self.patience = Patience(settings)
        self.suspicions = Suspicions(settings.suspect_rounds)
        self._server_place = server
        self._server: PeerId | None = None
        self._peers: Sequence[PeerId] = ()
        self._hardening = frozenset(settings.hardening)
        self.cautious = "H7" in self._hardening
        """Whether nothing is believed that cannot be checked (H7)."""
        self.claims = Claims(certain=max(self.train_round, self.aggregate_round), liars=0)
        self.searches = Searches(settings, self.patience, learns=self.has("H6"), suspect=self.unanswered)
        self._draws = 0
        self._remembered = str(state.get("view", "[]"))
        self._saved = self._counters()
        self._saved_view: tuple[Entry, ...] | None = None

    def meet(self, ctx: Context) -> None:
        """Learn who we are, and who is there; anew after the list of peers was read again."""
        self.now_s = ctx.now()
        if ctx.peers is not self._peers:
            self._peers = ctx.peers
            if self.me:
                self.view.replace_population(ctx.peers)
            else:
                self.view = View(ctx.peers)
                self.view.merge(
                    (str(p), int(c), bool(left), int(a)) for p, c, left, a in json.loads(self._remembered)
                )
                self.me = ctx.peer
                self.since_s = ctx.now()  # others may speak to us before we begin
            if self._server_place is not None:
                self._server = ctx.peers[self._server_place]
            elif self.cautious:
                settings = self.settings
                self.liars = liars_max(settings.liars, peers=len(ctx.peers), sample_size=settings.sample_size)
            self.claims.replace_population(frozenset(ctx.peers), liars=self.liars)
            self.suspicions.idle_max = max(1, self.liars, len(ctx.peers) // IDLE_SHARE)

    def has(self, rule: str) -> bool:
        """Return whether a hardening rule is on."""
        return rule in self._hardening

    # --- rounds ---

    @property
    def round(self) -> int:
        """The newest round that this peer believes in."""
        if self.cautious:
            return self.claims.round
        return max(self.train_round, self.aggregate_round, self.view.newest)

    def prove(self, round: int) -> None:
        """Have had a part in a round."""
        self.claims.prove(round)

    def claimed(self, peer: PeerId, round: int) -> None:
        """Note what `peer` itself says of the round."""
        if self.cautious and 0 <= round <= min(self.rounds + 1, self.round + self.settings.rounds_ahead_max):
            self.claims.note(peer, round)

    def heard(self, peer: PeerId, round: int) -> None:
        """Note that `peer` is there, and says to know of `round`."""
        self.claimed(peer, round)
        here = self.round
        self.view.touch(peer, here if self.cautious else max(round, here))
        self.suspicions.alive(peer)

    # --- what a restart needs ---

    def take_model(self, model: Model, *, newest: int) -> None:
        """Hold a newer average."""
        self.model, self.newest = model, newest

    def save(self, ctx: Context) -> None:
        """Have the state written, without a round being completed."""
        self.note_saved()
        ctx.emit(ModelSaved(round=self.newest, model=self.model))

    def note_saved(self) -> None:
        """Make the present state the one that `saved` returns."""
        self._saved, self._saved_view = self._counters(), self.view.entries()

    @property
    def saved(self) -> Mapping[str, int | float | str]:
        """Rounds, counters and the view as they were when last noted: after a restart of all, who is there is known."""
        view = self._remembered if self._saved_view is None else json.dumps(self._saved_view)
        return {**self._saved, "view": view}

    def _counters(self) -> dict[str, int]:
        return {
            "round": self.newest,
            "train": self.train_round,
            "aggregate": self.aggregate_round,
            "counter": self.counter,
        }

    # --- views and models ---

    def merge_view(self, sender: PeerId, message: BulkMessage) -> None:
        """Take over what a message says of others, as far as one peer's word goes."""
        if self.cautious:
            self.view.hear(message.view, sender=sender, active_max=self.round, counter_max=COUNTER_MAX)
        else:
            self.view.merge(message.view)
        self.news.note_merged(sender, message.version)
        self.view.touch(sender, self.round if self.cautious else max(message.round, self.round))
        self.suspicions.alive(sender)

    def send_model(
        self,
        ctx: Context,
        kind: type[BulkMessage],
        peer: PeerId,
        *,
        round: int,
        expected: int,
        model: Model,
    ) -> None:
        """Send a model with the news of the view."""
        horizon = self.round - TOMBSTONE_WINDOWS * self.settings.activity_window
        self.news.send(
            ctx, kind, peer, round=round, expected=expected, model=model, view=self.view, horizon=horizon
        )

    def show_pending(self) -> None:
        """Let pending joins be seen: the models that a sample was drawn for have been sent."""
        if self.pending:
            self.view.merge(self.pending)
            self.pending.clear()

    def connection_made(self, peer: PeerId) -> None:
        """Whoever connects is there."""
        self.suspicions.alive(peer)

    def connection_lost(self, ctx: Context, peer: PeerId) -> None:
        """Forget what was agreed with a process that may be gone."""
        self.asked.discard(peer)
        self._handed.pop(peer, None)
        self.news.connection_lost(peer)
        self.searches.lost(ctx, peer, self.round)

    def fetch(self, ctx: Context, peer: PeerId, *, round: int) -> None:
        """Ask a peer for its newest average, if it contains more than `round` rounds."""
        self.asked.add(peer)
        ctx.send(peer, FetchMessage(round=round))

    def hand(self, ctx: Context, peer: PeerId) -> None:
        """Give our newest average to whoever asks for it."""
        round, times = self._handed.get(peer, (-1, 0))
        times = times + 1 if round == self.newest else 1
        if times > GIVEN_MAX:
            self.rejected(ctx, peer, "asked-again")
            return
        self._handed[peer] = (self.newest, times)
        self.send_model(ctx, NewestMessage, peer, round=self.newest, expected=0, model=self.model)

    # --- samples ---

    def find_aggregators(self, ctx: Context, purpose: str, round: int, then: Then) -> None:
        """Find who averages for `round`, and call `then`.

        The last average is what all take home, and f + 1 must say that they have made one before anybody believes in
        the end; so 2·f + 1 make it, where it is no single one's task.
        """
        if self._server is not None:
            then(ctx, [self._server])
            return
        wanted = self.settings.aggregators
        if round > self.rounds:
            wanted = max(wanted, 2 * self.liars + 1)
        self.sample(ctx, purpose, round, wanted, then)

    def sample(self, ctx: Context, purpose: str, round: int, wanted: int, then: Then) -> None:
        """Find `wanted` living peers of a round's order, and call `then`; one search per purpose at a time."""
        width = round_up(wanted * self.settings.probe_factor) if self.has("H6") else wanted
        nonce = int(self.draw(ctx, "modest-nonce").integers(NONCE_MAX))
        self.searches.begin(
            ctx,
            purpose,
            self.order(round),
            wanted=wanted,
            width=width,
            nonce=nonce,
            round=self.round,
            then=then,
        )

    def order(self, round: int) -> list[PeerId]:
        """Return a round's candidates in the order in which they are asked."""
        return order(round, self._candidates(round), first=self._turn(round))

    def living(
        self, ctx: Context, round: int, *, also: PeerId | None = None, first: Collection[PeerId] = ()
    ) -> list[PeerId]:
        """Return a round's order as far as can be told without asking: of those that there is a connection to.

        A round ahead of ours is judged by who is active now: a view that is a little old must not make strangers of
        all others. `also` is in it whether suspected or not.
        """
        found = [
            peer
            for peer in self._candidates(min(round, self.round) if self.cautious else round)
            if peer == self.me or ctx.is_up(peer)
        ]
        if also is not None and also not in found and also in self.view.registered():
            found.append(also)
        return order(round, found, first=first or self._turn(round))

    def place(self, ctx: Context, peer: PeerId, round: int) -> int | None:
        """Return a peer's place among those that may average for `round`, from 0, or None where it has none."""
        if self._server is not None:
            return 0 if peer == self._server else None
        living = self.living(ctx, round, also=peer)
        return living.index(peer) if peer in living else None

    def slack(self, candidates: int) -> int:
        """Return by how many places views of others may differ from ours."""
        slack = self.settings.sample_slack
        return min(slack, candidates // SLACK_SHARE) if self.cautious else slack

    def may_train(self, ctx: Context, peer: PeerId, round: int) -> bool:
        """Return whether `peer` may be in the sample of `round`, as far as can be told without asking."""
        living = self.living(ctx, round, also=peer)
        return peer in living[: self.settings.sample_size + self.slack(len(living))]

    def addressed(self, ctx: Context, round: int) -> list[PeerId]:
        """Return whom a round's aggregator will have addressed, by our own view of who is there."""
        return self.living(ctx, round)[: self.settings.sample_size]

    def outnumbered(self, ctx: Context) -> bool:
        """Return whether so few others can be reached that all of them may lie: then a peer goes on alone."""
        return sum(ctx.is_up(peer) for peer in ctx.contacts) <= self.liars

    def draw(self, ctx: Context, purpose: str) -> np.random.Generator:
        """Return a generator that has not been used before."""
        self._draws += 1
        return ctx.rng(purpose, self._draws)

    def some_peers(self, ctx: Context, count: int) -> list[PeerId]:
        """Draw up to `count` registered peers that can be reached."""
        found = [peer for peer in self.view.registered() if peer != self.me and ctx.is_up(peer)]
        if len(found) <= count:
            return found
        places = self.draw(ctx, "modest-peers").choice(len(found), size=count, replace=False)
        return [found[int(place)] for place in places]

    def _turn(self, round: int) -> Collection[PeerId]:
        if self.settings.sampler == "permutation":
            return turn(round, self._peers, sample_size=self.settings.sample_size)
        return ()

    def _candidates(self, round: int) -> list[PeerId]:
        found = self.view.candidates(round, window=self.settings.activity_window, me=self.me)
        if self.suspicions:
            found = [peer for peer in found if not self._suspected(peer)]
        return found

    def unanswered(self, peer: PeerId, waited_s: float) -> None:
        """A peer did not answer; nothing was waited for where there was no connection."""
        if not self.has("H6"):
            return
        round, counter = self.round, self.view[peer][1]
        if waited_s > 0:
            self.suspicions.unanswered(peer, waited_s, now_s=self.now_s, round=round, counter=counter)
        else:
            self.suspicions.unreachable(peer, round=round, counter=counter)

    def _suspected(self, peer: PeerId) -> bool:
        _, counter, _, active = self.view[peer]
        return self.suspicions.is_suspect(
            peer, now_s=self.now_s, round=self.round, counter=counter, active=active
        )


def round_up(share: float) -> int:
    """Return ⌈share⌉, where 0.7 · 10 is 7."""
    return max(1, -int(-(share - 1e-9) // 1))
