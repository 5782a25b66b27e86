"""Simulated peers' local updates: many in a stack, or each as a node computes it."""

from __future__ import annotations

from collections.abc import Callable

from gossip.learner import Learner
from gossip.stages import PeerState
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.divergence import Watches
from scenarios.virtual.learning.minibatches import MiniBatches
from scenarios.virtual.learning.remembering import Remembering
from scenarios.virtual.learning.training import StackedTraining


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
        chunk: how many models make a stack.
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
        chunk: int,
    ) -> None:
        self._arena = arena
        self._training = training
        self._minibatches = minibatches
        self._watches = watches
        self._state = state
        self._remembering = remembering
        self._learner_of = learner_of
        self._chunk = chunk

    def run(self, handles: list[Handle]) -> None:
        """Compute them."""
        if self._training is None:
            self._alone(handles)
        else:
            self._stacked(self._training, handles)

    def _stacked(self, training: StackedTraining, handles: list[Handle]) -> None:
        place = self._minibatches.place
        handles.sort(key=lambda handle: place(handle.peer, handle.request.steps))
        rows = self._arena.take(len(handles))
        for start in range(0, len(handles), self._chunk):
            part = handles[start : start + self._chunk]
            peers, rounds = [handle.peer for handle in part], [handle.request.round for handle in part]
            outcome = training.run(
                self._arena.at([handle.request.own.row for handle in part]),
                peers,
                rounds,
                self._state.gather("update", peers),
                [handle.request.steps for handle in part],
            )
            self._arena.put(rows[start : start + len(part)], outcome.models)
            self._watches.trained(peers, rounds, outcome)
            self._state.scatter("update", peers, outcome.rows)
            for handle, row, loss in zip(part, rows[start : start + len(part)], outcome.losses, strict=True):
                handle.loss = loss
                self._remembering.trained(handle)
                handle.place(row)

    def _alone(self, handles: list[Handle]) -> None:
        rows = self._arena.take(len(handles))
        for handle, row in zip(handles, rows, strict=True):
            own, round, _, steps = handle.request
            learner = self._learner_of(handle.peer)
            outcome = learner.train(self._arena.vectors[own.row], round=round, steps=steps)
            self._arena.vectors[row] = outcome.model
            self._watches.trained_alone(handle.peer, outcome)
            handle.loss = outcome.loss
            self._remembering.trained(handle)
            handle.place(row)
