"""What one local update has come to: the model, and its mini-batches told together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gossip.learning.in_place import Done
from gossip.stages import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The outcome of one local update."""

    model: Tensor  # (P,)
    round: int
    loss: float
    """Mean over the samples of the applied mini-batches; NaN where every one was skipped."""
    first_loss: float
    """Of the first mini-batch, and so of the model that the update began with."""
    samples: int
    """Samples seen, repetitions counted, skipped mini-batches not."""
    steps: int
    skipped: int
    """Mini-batches whose gradient was not finite: the model stayed as it was."""
    rows: State = field(default_factory=dict)
    """What the update remembers at the end, each (1, length)."""

    @property
    def learnt(self) -> bool:
        """Whether there is anything to tell: it saw samples, or skipped mini-batches."""
        return bool(self.samples or self.skipped)

    def figures(self) -> Trained:
        """Return the same without the vectors, which are large: the model is empty."""
        return replace(self, model=torch.empty(0), rows={})


def untrained(model: Tensor, *, round: int) -> Trained:
    """Return the outcome of an update that was not done: `model` [P] as it is."""
    nothing = float("nan")
    return Trained(model=model, round=round, loss=nothing, first_loss=nothing, samples=0, steps=0, skipped=0)


def summary(model: Tensor, done: Sequence[Done], sizes: Sequence[int], *, round: int, rows: State) -> Trained:
    """Return the outcome of an update that has left `model` [P]; `done` its steps, `sizes` of their mini-batches."""
    applied = torch.tensor([step.applied for step in done])
    losses = torch.tensor([step.loss for step in done], dtype=torch.float64).where(applied, 0.0)
    weights = torch.tensor(sizes) * applied
    samples = int(weights.sum())
    return Trained(
        model=model,
        round=round,
        loss=float((losses * weights).sum()) / samples if samples else float("nan"),
        first_loss=done[0].loss,
        samples=samples,
        steps=len(sizes),
        skipped=len(sizes) - int(applied.sum()),
        rows=rows,
    )
