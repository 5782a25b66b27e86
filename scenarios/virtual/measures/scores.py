"""Each simulated peer's own score, by which it may want to stop, and its best model so far."""

from __future__ import annotations

from functools import cache

from gossip.learning.evaluation import Evaluation
from gossip.learning.task import Shard
from gossip.protocols.base import Model, RoundCompleted
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from scenarios.virtual.learning.batched import BatchedLearning


class Scores:
    """Evaluates what the peers have at one moment together, and tells each its score.

    Args:
        learning: computes and evaluates the models.
        peers: how many there are.
        every: score each so many rounds.
        rounds: the last round, which is always scored.
        told: whether protocols are told, or only the best models kept.
        keep: whether the best models are kept.
    """

    def __init__(
        self, learning: BatchedLearning, *, peers: int, every: int, rounds: int, told: bool, keep: bool
    ) -> None:
        self._learning = learning
        self._every = every
        self._rounds = rounds
        self._told = told
        self._keep = keep
        self._waiting: list[tuple[VirtualPeer, int, RoundCompleted]] = []
        self.best: dict[int, tuple[float, int, Model]] = {}
        """Peer -> its best score, after which round, and the model."""

        @cache
        def samples(index: int) -> Shard | None:
            return learning.task.validation(index, peers)

        self._samples = samples

    def attend(self, simulation: Simulation) -> None:
        """Be told of the simulation's rounds."""
        simulation.on_round = self._completed
        self._simulation = simulation

    def _completed(self, peer: VirtualPeer, event: RoundCompleted) -> None:
        if event.round % self._every and not event.last and event.round < self._rounds:
            return
        if not self._waiting:
            # Behind all that is done at this moment already, so that those who end a round together are one batch.
            self._simulation.schedule(self._simulation.now, self._score)
        self._waiting.append((peer, peer.life, event))

    def _score(self) -> None:
        waiting, self._waiting = self._waiting, []
        tested = self._learning.evaluate([event.model for _, _, event in waiting])
        for (peer, life, event), evaluation in zip(waiting, tested, strict=True):
            score = self._own(peer.index, event.model, evaluation).score
            self._note(peer.index, score, event)
            if self._told:
                self._tell(peer, life, event.round, score)

    def _tell(self, peer: VirtualPeer, life: int, round: int, score: float) -> None:
        if peer.life != life:
            return
        if peer.paused:
            peer.resume_queue.append((self._tell, peer, life, round, score))
            return
        self._simulation.scored(peer, round)
        peer.protocol.on_score(peer, round, score)

    def _own(self, index: int, model: Model, tested: Evaluation) -> Evaluation:
        samples = self._samples(index)
        if samples is None:
            return tested
        return self._learning.evaluate_on(model, samples)

    def _note(self, index: int, score: float, event: RoundCompleted) -> None:
        better, known = self._learning.task.objective.score.better, self.best.get(index)
        if self._keep and score == score and (known is None or better(score, known[0])):
            self.best[index] = (score, event.round, event.model)
