"""Simulated peers' local updates: many in a stack, or each as a node computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from gossip.learner import Learner
from gossip.privacy.budget import Budget
from gossip.stages import PeerState, State
from scenarios.errors import RunFailed
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.divergence import Watches
from scenarios.virtual.learning.minibatches import MiniBatches
from scenarios.virtual.learning.remembering import Remembering
from scenarios.virtual.learning.training import Outcomes, StackedTraining
from scenarios.virtual.learning.workers import Workers

Order: TypeAlias = tuple[int, list[int], list[int], list[int], list[int], list[int | None]]
"""How many rows the arena has; of each model where it lies, where it is to lie, its peer, the peer's round, and its
steps if not as `[local]` says."""

ALONE_PARTS = 16
"""Into so many parts are models divided at most that are trained one after another: enough for as many cores."""


class LocalUpdates:
    """Computes `requests.Train`.

    Args:
        arena: where models lie.
        training: of stacks; None where all are trained alone.
        minibatches: of all peers.
        watches: told of what came of each.
        state: what peers remember for the update.
        remembering: told of each that is computed.
        learner_of: a peer's own learner.
        workers: who computes.
        chunk: how many models make a stack.
        budgets: of the peers' samples; none: nobody asked for privacy.
    """

    def __init__(
        self,
        arena: Arena,
        training: StackedTraining | None,
        minibatches: MiniBatches,
        watches: Watches,
        state: PeerState,
        remembering: Remembering,
        *,
        learner_of: Callable[[int], Learner],
        workers: Workers,
        chunk: int,
        budgets: Sequence[Budget] = (),
    ) -> None:
        self._arena = arena
        self._training = training
        self._minibatches = minibatches
        self._watches = watches
        self._state = state
        self._remembering = remembering
        self._learner_of = learner_of
        self._workers = workers
        self._chunk = chunk
        self._budgets = budgets
        self._writing = workers.zeros(state.peers, 1)
        """1 of a peer from when what it remembers is written until the answer is here: it can be computed once."""
        workers.add("train", self._computed)

    def run(self, handles: list[Handle]) -> None:
        """Compute them, in parts that depend on nothing but how many there are."""
        if self._budgets:
            handles = self._allowed(handles)
            if not handles:
                return
        place = self._minibatches.place
        size = self._chunk
        if self._training is None:
            size = -(-len(handles) // ALONE_PARTS)
        else:
            handles.sort(key=lambda handle: place(handle.peer, handle.request.steps))
        rows = self._arena.take(len(handles))
        parts = [
            (handles[start : start + size], rows[start : start + size])
            for start in range(0, len(handles), size)
        ]
        orders = [
            (
                len(self._arena.vectors),
                [handle.request.own.row for handle in part],
                part_rows,
                [handle.peer for handle in part],
                [handle.request.round for handle in part],
                [handle.request.steps for handle in part],
            )
            for part, part_rows in parts
        ]
        answers = self._workers.run("train", orders)
        self._writing.zero_()
        for (part, part_rows), (*_, peers, rounds, _), answer in zip(parts, orders, answers, strict=True):
            told = Outcomes(*answer)
            self._watches.trained(peers, rounds, told)
            norms: Sequence[float | None] = told.norms or [None] * len(part)
            for handle, row, loss, norm in zip(part, part_rows, told.losses, norms, strict=True):
                handle.loss, handle.norm = loss, norm
                if self._budgets:
                    self._note_spent(handle)
                if self._remembering.awaits:
                    self._remembering.trained(handle)
                handle.place(row)

    def _allowed(self, handles: list[Handle]) -> list[Handle]:
        """Return those whose peers may still train; the others are done, their models as they were."""
        allowed = []
        for handle in handles:
            if self._budgets[handle.peer].spend(handle.request.steps):
                allowed.append(handle)
                continue
            row = self._arena.take(1)[0]
            self._arena.vectors[row] = self._arena.vectors[handle.request.own.row]
            handle.loss = float("nan")
            self._note_spent(handle)
            self._remembering.trained(handle)
            handle.place(row)
        return allowed

    def _note_spent(self, handle: Handle) -> None:
        if self._budgets:
            handle.epsilon = self._budgets[handle.peer].epsilon

    def _computed(self, order: Order) -> Outcomes:
        """Train models that lie in some rows into others, and return what is told of them."""
        height, own, rows, peers, rounds, steps = order
        self._arena.follow(height)
        torn = bool(self._writing[peers].any())
        told = self._trained(own, rows, peers, rounds, steps)
        if torn:  # what would have been raised anyhow has been
            raise RunFailed(
                "a worker process was killed while it wrote what peers remember of their updates, which nobody has "
                "otherwise: run it again"
            )
        return told

    def _trained(
        self,
        own: Sequence[int],
        rows: Sequence[int],
        peers: list[int],
        rounds: Sequence[int],
        steps: Sequence[int | None],
    ) -> Outcomes:
        if self._training is None:
            return self._alone(own, rows, peers, rounds, steps)
        into = self._arena.adjoining(rows)
        outcome = self._training.run(
            self._arena.at(own), peers, rounds, self._state.gather("update", peers), steps, into=into
        )
        if into is None or outcome.models.data_ptr() != into.data_ptr():
            self._arena.put(rows, outcome.models)
        self._scatter(peers, outcome.rows)
        return outcome.told

    def _alone(
        self,
        own: Sequence[int],
        rows: Sequence[int],
        peers: Sequence[int],
        rounds: Sequence[int],
        steps: Sequence[int | None],
    ) -> Outcomes:
        told = Outcomes([], [], [], [], [], [])
        vectors = self._arena.vectors
        for before, row, peer, round, count in zip(own, rows, peers, rounds, steps, strict=True):
            remembered = self._state.gather("update", [peer])
            learner = self._learner_of(peer)
            outcome = learner.train(vectors[before], round=round, steps=count, rows=remembered)
            vectors[row] = outcome.model
            self._scatter([peer], outcome.rows)
            told.losses.append(outcome.loss)
            told.first_losses.append(outcome.first_loss)
            told.skipped.append(outcome.skipped)
            told.steps.append(outcome.steps)
            told.samples.append(outcome.samples)
        return told

    def _scatter(self, peers: list[int], rows: State) -> None:
        if self._state.keeps("update"):
            self._writing[peers] = 1
            self._state.scatter("update", peers, rows)
