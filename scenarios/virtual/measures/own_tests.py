"""How simulated peers' models do on their own test samples."""

from __future__ import annotations

from functools import cache

from gossip.learning.evaluation import Evaluation
from gossip.learning.task import Shard
from gossip.protocols.base import Model
from scenarios.virtual.learning.batched import BatchedLearning


class OwnTests:
    """Evaluates models on the own test samples of one of so many `peers`, as `Learner.evaluate` does."""

    def __init__(self, learning: BatchedLearning, *, peers: int) -> None:
        self._learning = learning

        @cache
        def samples(index: int) -> Shard | None:
            return learning.task.own_test(index, peers)

        self._samples = samples

    def evaluate(self, model: Model, index: int) -> Evaluation | None:
        """Return loss and score on the own test samples of the peer at `index`; None where peers keep none."""
        samples = self._samples(index)
        return None if samples is None else self._learning.evaluate_on(model, samples)
