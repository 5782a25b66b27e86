"""Local updates of many peers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gossip.learning.local_training import LocalState, LocalTraining, StepResult
from gossip.learning.private import ByHand, PrivateGradients
from gossip.privacy.entropy import Entropy
from gossip.stages import State
from scenarios.virtual.learning.linear_stack import LinearStack
from scenarios.virtual.learning.minibatches import MiniBatches, Piece


class Outcomes(NamedTuple):
    """What is told of the local updates of some models."""

    losses: list[float]
    first_losses: list[float]
    """Of the first mini-batches."""
    skipped: list[int]
    """Mini-batches, of each model."""
    steps: list[int]
    """Those skipped among them."""
    samples: list[int]
    """That each model has seen, repetitions counted, skipped mini-batches not."""
    norms: list[float]
    """Of what is learned of each model, in float32: infinite beyond its range, NaN where a value is. Empty where nobody
    has looked."""


class StackedOutcome(NamedTuple):
    """What became of a stack of models."""

    models: Tensor  # (n, P)
    told: Outcomes
    rows: State  # what the update remembers now, each (n, length)


@dataclass(frozen=True, slots=True, eq=False)
class StackedTraining:
    """Trains a stack of models, each on its own shard.

    Args:
        training: the local update; its step is the node's.
        minibatches: what each peer trains on.
        gradient: the gradient of a stack where it is not `vmap`'s; by hand, it takes its memory as ``into=``, too.
    """

    training: LocalTraining
    minibatches: MiniBatches
    gradient: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = None
    by_hand: ByHand | None = None
    """The sums of single samples' gradients where they are not `vmap`'s."""

    @classmethod
    def of(
        cls, training: LocalTraining, minibatches: MiniBatches, stack: LinearStack | None
    ) -> StackedTraining:
        """Return the training of `stack`, by hand where there is one."""
        by_hand = (None, None) if stack is None else (stack.gradient, stack.clipped)
        return cls(training, minibatches, *by_hand)

    def run(
        self,
        models: Tensor,
        peers: Sequence[int],
        rounds: Sequence[int],
        rows: State | None = None,
        steps: Sequence[int | None] | None = None,
        *,
        into: Tensor | None = None,
    ) -> StackedOutcome:
        """Train the models (n, P), which stay as they are; in the memory `into` (n, P), where that can be.

        ``peers[k]`` trains model k for ``rounds[k]``, with ``steps[k]`` mini-batches if not as `[local]` says; they are
        in the order of the mini-batches' `place`. `rows` (n, length) are what the update remembers.
        """
        models, rows, outer = self.training.depart(models, rows, rounds)
        state = self.training.start(models, rows, rounds=rounds)
        lr = self.training.rates(rounds, models.device)
        losses = _Losses(len(peers), models.device)
        # Of models whose steps are done, the last of the stack first.
        finished: list[LocalState] = []
        self.training.forward.module.train()
        private = self._private(peers, rounds, steps)
        memory = None if into is None or into.shape[1] != state.trained.shape[1] else _Memory(into)
        for pieces in self.minibatches.steps(peers, rounds, steps) if private is None else private.pieces:
            active = pieces[-1].stop
            if active < len(state.trained):
                finished.append(_cut(state, slice(active, None)))
                state = _cut(state, slice(active))
            free = None if memory is None else memory.beside(state.trained)
            results = [self._step(state, lr, piece, private, free) for piece in pieces]
            state = _put_together([result.state for result in results])
            for piece, result in zip(pieces, results, strict=True):
                losses.add(piece, result)
        state = _put_together([state, *reversed(finished)])
        trained, kept = self.training.end(state.trained, state.rows, rounds, losses.applied, models)
        if self.training.layer is not None:
            # Only the output layer is trained here, so there is nothing behind it but statistics.
            familiar = self.minibatches.familiar[torch.tensor(peers, device=models.device)]
            trained = self.training.consolidated(models, trained, familiar)
        kept = self.training.arrive(trained, kept, outer, rounds, losses.applied)
        if state.rest.shape[1]:
            trained = torch.cat([trained, state.rest], 1)
        # Averages ask for the norms of all that they merge; these models are in the cache now.
        norms = torch.linalg.vector_norm(trained[:, : self.training.forward.space.learned_size], dim=1)
        return StackedOutcome(trained, losses.result(norms), kept)

    def _step(
        self, state: LocalState, lr: Tensor, piece: Piece, private: _Private | None, free: Tensor | None
    ) -> StepResult:
        part = slice(piece.start, piece.stop)
        into = None if free is None else free[part]
        if piece.stop - piece.start < len(state.trained):
            state = _cut(state, part)
        gradient = self.gradient
        gives_up = self.by_hand is not None and self.training.gives_gradients_up
        if gradient is not None and into is not None and gives_up:
            # What a step makes of a gradient lies where the gradient lay: no further memory is walked through.
            gradient = partial(gradient, into=into)
        if private is not None:
            gradient = private.gradients.stacked(
                private.secrets[part], private.expected[part], piece.counted, by_hand=self.by_hand
            )
        return self.training.step_stacked(state, piece.x, piece.y, lr[part], gradient=gradient, into=into)

    def _private(
        self, peers: Sequence[int], rounds: Sequence[int], steps: Sequence[int | None] | None
    ) -> _Private | None:
        gradients = self.training.private
        if gradients is None:
            return None
        names, plans = self.minibatches.names, self.minibatches.plans
        secrets = [
            gradients.entropy_of(names[peer], round) for peer, round in zip(peers, rounds, strict=True)
        ]
        samples = [plans[peer].samples for peer in peers]
        rates = [gradients.rate(count) for count in samples]
        expected = [rate * count for rate, count in zip(rates, samples, strict=True)]
        return _Private(
            gradients,
            secrets,
            torch.tensor(expected, device=self.minibatches.device),
            self.minibatches.secret_steps(peers, secrets, rates, steps),
        )


class _Memory:
    """Memory for the models of a stack after a step, which is never that of before it.

    Args:
        first: (n, T) where they had best lie in the end.
    """

    def __init__(self, first: Tensor) -> None:
        self._first = first
        self._second: Tensor | None = None

    def beside(self, models: Tensor) -> Tensor:
        """Return memory (n, T) that holds none of these models, nor of those whose steps are done."""
        if models.data_ptr() != self._first.data_ptr():
            return self._first
        if self._second is None:
            self._second = torch.empty_like(self._first)
        return self._second


class _Private(NamedTuple):
    """What the local updates of a stack under `[privacy]` are done with."""

    gradients: PrivateGradients
    secrets: list[Entropy]
    expected: Tensor  # (n,) q · samples
    pieces: Iterator[list[Piece]]


class _Losses:
    """Mean losses over the samples of the applied mini-batches, in float64 as a node sums them."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._sums = torch.zeros(count, dtype=torch.float64, device=device)
        self._samples = torch.zeros(count, dtype=torch.float64, device=device)
        self._first = torch.zeros(count, device=device)
        self._begun = 0
        """How many models have done a step: all have their turn in the first."""
        self._skipped = torch.zeros(count, dtype=torch.int64, device=device)
        self.applied = torch.zeros(count, 1, device=device)
        """Steps done so far by each."""

    def add(self, piece: Piece, result: StepResult) -> None:
        part = slice(piece.start, piece.stop)
        weights = piece.sizes * result.applied
        self._sums[part] += torch.where(result.applied, result.loss, 0.0).double() * weights
        self._samples[part] += weights
        self._skipped[part] += ~result.applied
        if piece.start == self._begun:
            self._first[part] = result.loss
            self._begun = piece.stop
        self.applied[part, 0] += result.applied

    def result(self, norms: Tensor) -> Outcomes:
        means: list[float] = (self._sums / self._samples).tolist()  # 0 / 0 is the NaN that is meant
        steps = self.applied[:, 0].long() + self._skipped
        samples = self._samples.long()
        counts = (self._skipped.tolist(), steps.tolist(), samples.tolist())
        return Outcomes(means, self._first.tolist(), *counts, norms.tolist())


def _cut(state: LocalState, part: slice) -> LocalState:
    rows = {name: row[part] for name, row in state.rows.items()}
    return LocalState(state.trained[part], state.rest[part], rows)


def _put_together(states: Sequence[LocalState]) -> LocalState:
    if len(states) == 1:
        return states[0]
    rows = {name: torch.cat([state.rows[name] for state in states]) for name in states[0].rows}
    return LocalState(
        torch.cat([state.trained for state in states]), torch.cat([state.rest for state in states]), rows
    )
