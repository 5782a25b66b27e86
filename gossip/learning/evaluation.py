"""How a model does on samples, and what is measured anew before: BatchNorm's statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gossip.learning.batch_norm import running, with_statistics_reset
from gossip.learning.data.mapped import Samples, pieces
from gossip.learning.forward import Forward
from gossip.learning.generators import Generators
from gossip.learning.objectives.base import Objective
from gossip.parameters import Role

BATCH = 1024
"""Samples per forward pass: bounds the memory of activations, large enough to be fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How a model does on some samples."""

    loss: float
    """Mean; NaN or infinite where the model is."""
    score: float
    """What the objective scores by: accuracy, R², …"""
    samples: int
    own: Evaluation | None = None
    """The same on the peer's own test samples, where it keeps some beside the common ones."""


def evaluate(
    forward: Forward,
    vector: Tensor,
    x: Samples,
    y: Tensor,
    *,
    objective: Objective,
    draws: Generators,
    seed: int,
) -> Evaluation:
    """Return loss and score of `vector` [P] on samples `x` (n, …) with targets `y` (n, …), where the vector lies.

    `seed` is for what the network draws even then.
    """
    forward.module.eval()
    split = forward.space.trained_size
    trained, rest = vector[:split], vector[split:]
    sums: Tensor | None = None
    with torch.no_grad(), draws.kept(vector):
        draws.seed(seed if draws else None, vector)
        for x_chunk, y_chunk in zip(pieces(x, BATCH), torch.split(y, BATCH), strict=True):
            outputs = forward(trained, rest, x_chunk.to(vector.device))
            added = objective.sums(outputs, y_chunk.to(vector.device))
            sums = added if sums is None else sums + added
    assert sums is not None
    measured = objective.measured(sums)
    return Evaluation(loss=measured.loss, score=measured.score, samples=len(y))


def reestimated(forward: Forward, vector: Tensor, x: Samples) -> Tensor:
    """Return `vector` [P] with BatchNorm statistics measured anew on `x` (n, *input_shape) by one pass.

    The plain mean over equal chunks, not a moving average. Without such layers: `vector` itself.
    """
    layers = running(forward.module)
    if not layers:
        return vector
    space = forward.space
    count = math.ceil(len(x) / BATCH)
    sizes = [len(x) // count + (place < len(x) % count) for place in range(count)]
    start = with_statistics_reset(vector, space, layers)
    split = space.trained_size
    trained, rest = start[:split], start[split:]
    momenta = {name: layer.momentum for name, layer in layers.items()}
    forward.module.eval()
    try:
        for layer in layers.values():
            layer.train()  # only these: dropout stays off
            layer.momentum = None  # torch's word for a cumulative mean
        with torch.no_grad():
            for chunk in pieces(x, sizes):
                _, rest = forward.with_updates(trained, rest, chunk.to(vector.device))
    finally:
        for name, layer in layers.items():
            layer.momentum = momenta[name]
    measured = vector.clone()
    for slot in space.slots_of(Role.STATISTIC):
        if slot.name.rpartition(".")[0] in layers:
            measured[slot.offset : slot.end] = rest[slot.offset - split : slot.end - split]
    return measured
