"""What the roles of one peer share: its view, its round, its newest average, and the ways to reach others."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from gossip.protocols.base import Context, Model, ModelSaved, PeerId
from gossip.protocols.modest.messages import BulkMessage, FetchMessage
from gossip.protocols.modest.sampling import Sampling, order, turn
from gossip.protocols.modest.settings import ModestSettings
from gossip.protocols.modest.view import Entry, View

Then: TypeAlias = Callable[[Context, list[PeerId]], None]

SAMPLE_TIMER = "sample:"
NONCE_MAX = 2**52

TOMBSTONE_WINDOWS = 10
"""Who left so many activity windows ago is not told of any more: by then nobody takes it for a candidate."""


class Suspicion(NamedTuple):
    """What was known when a peer did not answer (H6)."""

    round: int
    counter: int


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
        """k_agg, the highest round for which a trained model came."""
        # One number is left out: leaving may have used it without its having been saved.
        self.counter = int(state.get("counter", -1)) + 2
        self.me: PeerId = ""
        self.view = View(())
        self.finished = False
        self.pending: list[Entry] = []
        """Joins that are not to be seen before this peer's next models are sent."""
        self.asked: set[PeerId] = set()
        """Peers that owe us their newest model; nobody else may give us one."""
        self.rejected: Callable[[Context, PeerId, str], None] = lambda ctx, peer, reason: None
        self._server_place = server
        self._server: PeerId | None = None
        self._peers: Sequence[PeerId] = ()
        self._hardening = frozenset(settings.hardening)
        self._merged: dict[PeerId, int] = {}
        self._known_to: dict[PeerId, int] = {}
        self._suspects: dict[PeerId, Suspicion] = {}
        self._samplings: dict[str, tuple[Sampling, Then]] = {}
        self._draws = 0
        self._remembered = str(state.get("view", "[]"))
        self._saved = self._counters()
        self._saved_view: tuple[Entry, ...] | None = None

    def meet(self, ctx: Context) -> None:
        """Learn who we are, and who is there; anew after the list of peers was read again."""
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
            if self._server_place is not None:
                self._server = ctx.peers[self._server_place]

    def has(self, rule: str) -> bool:
        """Return whether a hardening rule is on."""
        return rule in self._hardening

    # --- rounds ---

    @property
    def round(self) -> int:
        """The newest round that this peer knows of."""
        return max(self.train_round, self.aggregate_round, self.view.newest)

    def believed(self, round: int) -> int:
        """Return a claimed round, or our own where the claim is not to be believed (H7)."""
        here = self.round
        if round < 0 or (self.has("H7") and round > self.round_max(here)):
            return here
        return round

    def round_max(self, here: int) -> int:
        """Return the last round that can be believed of others when `here` is certain."""
        return min(here + self.settings.rounds_ahead_max, self.rounds + 1)

    def heard(self, peer: PeerId, round: int) -> None:
        """Note that `peer` is there, and knows of `round`."""
        self.view.touch(peer, max(self.believed(round), self.round))
        self._suspects.pop(peer, None)

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

    # --- views on the wire ---

    def merge_view(self, sender: PeerId, message: BulkMessage) -> None:
        """Take over what a message says of others; the round that it belongs to is certain."""
        certain = max(self.round, message.round)
        self.view.merge(message.view, active_max=self.round_max(certain) if self.has("H7") else None)
        self._merged[sender] = message.version
        self.heard(sender, message.round)

    def merged_of(self, peer: PeerId) -> int:
        """Return how much of a peer's view ours contains: a version of the peer's."""
        return self._merged.get(peer, 0)

    def note_known(self, peer: PeerId, version: int) -> None:
        """Note how much of our view `peer` says to have."""
        self._known_to[peer] = version

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
        since = self._known_to.get(peer, 0)
        if since > self.view.version:
            since = 0  # it speaks of a view that we had before a restart
        horizon = self.round - TOMBSTONE_WINDOWS * self.settings.activity_window
        view, version = self.view.news(since, horizon=horizon)
        message = kind(round=round, expected=expected, view=view, version=version, model=model)
        ctx.send(peer, message)

    def show_pending(self) -> None:
        """Let pending joins be seen: the models that a sample was drawn for have been sent."""
        if self.pending:
            self.view.merge(self.pending)
            self.pending.clear()

    def connection_made(self, peer: PeerId) -> None:
        """Whoever connects is there."""
        self._suspects.pop(peer, None)

    def connection_lost(self, ctx: Context, peer: PeerId) -> None:
        """Forget what was agreed with a process that may be gone."""
        self.asked.discard(peer)
        self._merged.pop(peer, None)
        self._known_to.pop(peer, None)
        for purpose, (sampling, _) in list(self._samplings.items()):
            # A search that ends here may begin another, or end the run and all searches with it.
            if self._samplings.get(purpose, (None,))[0] is sampling:
                sampling.lost(ctx, peer, self.round)
                self._go_on(ctx, purpose)

    def fetch(self, ctx: Context, peer: PeerId, *, round: int) -> None:
        """Ask a peer for its newest average, if it contains more than `round` rounds."""
        self.asked.add(peer)
        ctx.send(peer, FetchMessage(round=round))

    # --- samples ---

    def find_aggregators(self, ctx: Context, purpose: str, round: int, then: Then) -> None:
        """Find who averages for `round`, and call `then`."""
        if self._server is not None:
            then(ctx, [self._server])
        else:
            self.sample(ctx, purpose, round, self.settings.aggregators, then)

    def sample(self, ctx: Context, purpose: str, round: int, wanted: int, then: Then) -> None:
        """Find `wanted` living peers of a round's order, and call `then`; one search per purpose at a time."""
        settings = self.settings
        ordered = self.order(round)
        width = round_up(wanted * settings.probe_factor) if self.has("H6") else wanted
        sampling = Sampling(
            ordered,
            me=self.me,
            wanted=wanted,
            width=width,
            in_order=self.has("H6"),
            nonce=int(self.draw(ctx, "modest-nonce").integers(NONCE_MAX)),
            timeout_s=settings.ping_timeout_s,
            again_s=settings.ping_again_s,
            failed=self._suspect,
        )
        self._samplings[purpose] = (sampling, then)
        sampling.ask(ctx, self.round)
        self._go_on(ctx, purpose)

    def order(self, round: int) -> list[PeerId]:
        """Return a round's candidates in the order in which they are asked."""
        first: Collection[PeerId] = ()
        if self.settings.sampler == "permutation":
            first = turn(round, self._peers, sample_size=self.settings.sample_size)
        return order(round, self._candidates(round), first=first)

    def first_living(self, ctx: Context, round: int, count: int) -> list[PeerId]:
        """Return the first `count` of a round's order, as far as can be told without asking."""
        living = []
        for peer in self.order(round):
            if peer == self.me or ctx.is_up(peer):
                living.append(peer)
                if len(living) == count:
                    break
        return living

    def may_average(self, ctx: Context, peer: PeerId, round: int) -> bool:
        """Return whether `peer` may be the one that starts `round`, as far as can be told without asking."""
        if self._server is not None:
            return peer == self._server
        settings = self.settings
        return peer in self.first_living(ctx, round, settings.aggregators + settings.sample_slack)

    def may_train(self, ctx: Context, peer: PeerId, round: int) -> bool:
        """Return whether `peer` may be in the sample of `round`, as far as can be told without asking."""
        settings = self.settings
        return peer in self.first_living(ctx, round, settings.sample_size + settings.sample_slack)

    def pong(self, ctx: Context, peer: PeerId, nonce: int) -> None:
        """Pass an answer to the search that asked."""
        for purpose, (sampling, _) in list(self._samplings.items()):
            if sampling.answered(ctx, peer, nonce, self.round):
                self._go_on(ctx, purpose)
                return

    def sample_timer(self, ctx: Context, purpose: str) -> None:
        """Repeat pings, and give up peers."""
        if purpose in self._samplings:
            self._go_on(ctx, purpose)

    def stop_samplings(self, ctx: Context) -> None:
        """End all searches."""
        for purpose in self._samplings:
            ctx.cancel_timer(SAMPLE_TIMER + purpose)
        self._samplings.clear()

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

    def _go_on(self, ctx: Context, purpose: str) -> None:
        sampling, then = self._samplings[purpose]
        due_s = None if sampling.done else sampling.look(ctx, self.round)
        if sampling.done:
            del self._samplings[purpose]
            ctx.cancel_timer(SAMPLE_TIMER + purpose)
            then(ctx, sampling.sample)
        elif due_s is not None:
            ctx.set_timer(SAMPLE_TIMER + purpose, due_s)

    def _candidates(self, round: int) -> list[PeerId]:
        found = self.view.candidates(round, window=self.settings.activity_window, me=self.me)
        if self._suspects:
            found = [peer for peer in found if not self._suspected(peer)]
        return found

    def _suspect(self, peer: PeerId) -> None:
        if self.has("H6"):
            self._suspects[peer] = Suspicion(self.round, self.view[peer][1])

    def _suspected(self, peer: PeerId) -> bool:
        """Whether it did not answer lately, and nobody has told us of a later sign of life."""
        suspicion = self._suspects.get(peer)
        if suspicion is None:
            return False
        _, counter, _, active = self.view[peer]
        over = self.round >= suspicion.round + self.settings.suspect_rounds
        if over or counter > suspicion.counter or active > suspicion.round:
            del self._suspects[peer]
            return False
        return True


def round_up(share: float) -> int:
    """Return ⌈share⌉, where 0.7 · 10 is 7."""
    return max(1, -int(-(share - 1e-9) // 1))
