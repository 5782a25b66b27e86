"""Loss and score of many models on the common test set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gossip.learner import Learner
from gossip.learning.data.mapped import pieces
from gossip.learning.evaluation import Evaluation
from gossip.learning.task import Shard, Task
from scenarios.virtual.learning.arena import Arena, Handle
from scenarios.virtual.learning.linear_stack import LinearStack
from scenarios.virtual.learning.local_updates import ALONE_PARTS
from scenarios.virtual.learning.workers import Workers

ACTIVATION_BYTES = 16 * 2**20
"""Of one layer of all networks of a stack; decides how many test samples go through them at a time. `vmap` has to
walk through the network for each part."""
ACTIVATION_BYTES_BY_HAND = 2 * 2**20
"""The same where each part costs little: what stays in the cache."""


CUT = 256
"""After so many models stacks begin anew: how they are cut decides the last digit of a loss."""


class StackedEvaluation:
    """Evaluates stacks of models.

    Args:
        task: network and test samples.
        arena: where the models lie.
        stack: logits of a stack where they are not `vmap`'s.
        learner_of: a peer's own learner, which re-estimates statistics of batch normalisation.
        workers: who computes.
        chunk: how many models make a stack.
        alone: one model after another, where the network does not gain from batches.
    """

    def __init__(
        self,
        task: Task,
        arena: Arena,
        stack: LinearStack | None,
        learner_of: Callable[[int], Learner],
        workers: Workers,
        *,
        chunk: int,
        alone: bool,
    ) -> None:
        self._workers = workers
        workers.add("evaluate", self._computed)
        self._task = task
        self._arena = arena
        self._stack = stack
        self._learner_of = learner_of
        self._chunk = chunk
        self._reestimates = task.model_settings.batch_norm == "reestimate"
        device = arena.vectors.device
        # What is measured of stacks is cross-entropy and hits.
        self._alone = alone or not task.objective.counts_hits
        self._x, self._y = task.x_test.to(device), task.dataset.y_test.to(device)
        self._forward = task.forward_on(device)
        self._by_vmap = torch.func.vmap(self._forward, in_dims=(0, 0, None))

    def run(self, handles: Sequence[Handle]) -> list[Evaluation]:
        """Return the evaluations of computed models, as `Learner.evaluate` does."""
        parts: list[Sequence[Handle]] = []
        for first in range(0, len(handles), CUT):
            cut = handles[first : first + CUT]
            size = -(-len(cut) // ALONE_PARTS) if self._alone else self._chunk
            parts += [cut[start : start + size] for start in range(0, len(cut), size)]
        orders = [
            (
                len(self._arena.vectors),
                [handle.row for handle in part],
                [handle.peer for handle in part] if self._reestimates else [],
            )
            for part in parts
        ]
        return [
            Evaluation(loss=loss, score=score, samples=samples)
            for answer in self._workers.run("evaluate", orders)
            for loss, score, samples in answer
        ]

    def _computed(self, order: tuple[int, list[int], list[int]]) -> list[tuple[float, float, int]]:
        """Return loss, score and samples of the models in some rows; with their peers where statistics need them."""
        height, rows, peers = order
        self._arena.follow(height)
        models = self._arena.at(rows)
        if peers:
            evaluated = [
                self._learner_of(peer).evaluated(model) for peer, model in zip(peers, models, strict=True)
            ]
            models = torch.stack(evaluated).to(models.device)
        return [(each.loss, each.score, each.samples) for each in self._of(models)]

    def on(self, handle: Handle, samples: Shard) -> Evaluation:
        """Return the evaluation of a computed model on a peer's own samples, as `Learner.own_score` does."""
        model = self._arena.vectors[handle.row].cpu()
        if self._reestimates:
            model = self._learner_of(handle.peer).evaluated(model)
        return self._task.evaluate(model, samples.x, samples.y)

    def _of(self, models: Tensor) -> list[Evaluation]:
        """Return the evaluations of `models` (n, P)."""
        if self._alone:
            return [self._task.evaluate(model, self._x, self._y) for model in models]
        self._forward.module.eval()
        loss = torch.zeros(len(models), dtype=torch.float64, device=models.device)
        hits = torch.zeros(len(models), dtype=torch.int64, device=models.device)
        at_once = max(1, self._samples_at_once() // len(models))
        with torch.no_grad():
            logits_of = self._logits_of(models)
            for x, y in zip(pieces(self._x, at_once), torch.split(self._y, at_once), strict=True):
                losses, right = losses_and_hits(logits_of(x), y)
                loss += losses.sum(1)
                hits += right.sum(1)
        samples = len(self._y)
        return [
            Evaluation(loss=total / samples, score=right / samples, samples=samples)
            for total, right in zip(loss.tolist(), hits.tolist(), strict=True)
        ]

    def _logits_of(self, models: Tensor) -> Callable[[Tensor], Tensor]:
        """Return what makes logits (n, classes, t) of samples (t, …)."""
        if self._stack is not None:
            return self._stack.logits(models)
        split = self._task.space.trained_size
        trained, rest = models[:, :split], models[:, split:]

        def of(x: Tensor) -> Tensor:
            logits: Tensor = self._by_vmap(trained, rest, x)
            return logits.mT

        return of

    def _samples_at_once(self) -> int:
        """Return how many test samples times models are to go through the network at a time."""
        if self._stack is not None:
            return ACTIVATION_BYTES_BY_HAND // (4 * self._stack.width)
        # A convolution's channels multiply what a sample takes.
        return ACTIVATION_BYTES // (4 * 16 * max(math.prod(self._x.shape[1:]), 64))


def losses_and_hits(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy (n, t) of logits (n, classes, t) for labels `y` (t,), and where argmax is the label."""
    of_label = logits.gather(1, y.expand(len(logits), 1, -1))
    if logits.device.type != "cpu":  # which would have to be waited for
        return torch.logsumexp(logits, 1) - of_label.squeeze(1), _places(logits) == y
    top = logits.amax(1, keepdim=True)
    shares = (logits - top).exp_()
    losses = (shares.sum(1, keepdim=True).log_().add_(top) - of_label).squeeze(1)
    # Where one class alone is the largest, its place, which takes several times as long to find, need not be known.
    hits = (of_label == top).squeeze(1)
    # Its share is 1, and so is that of one as good as it; where the largest is not finite, no number.
    doubtful = torch.nonzero(shares.floor_().sum(1).amax(1) != 1).squeeze(1)
    if len(doubtful):
        # Of equals argmax takes the first; and logsumexp knows what to do with infinities.
        some = logits[doubtful]
        losses[doubtful] = torch.logsumexp(some, 1) - of_label[doubtful].squeeze(1)
        hits[doubtful] = _places(some) == y
    return losses, hits


def _places(logits: Tensor) -> Tensor:
    """Return which class of logits (n, classes, t) is the largest; along the last axis that is found faster."""
    return logits.mT.contiguous().argmax(2)
