"""The order of samples: a pure function of (run seed, peer, round), the same for one node and for a simulation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gossip import seeding
from gossip.learning.settings import LocalSettings

Indices: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass (or the part of it that is used) over a shard, cut into mini-batches."""

    order: Indices  # (samples used,)
    sizes: tuple[int, ...]
    """Mini-batch sizes; they sum to the length of `order`."""


def epochs(
    samples: int,
    settings: LocalSettings,
    *,
    seed: int,
    peer: str,
    round: int,
    batch_min: int = 1,
    steps: int | None = None,
) -> Iterator[Epoch]:
    """Yield the epochs of one round: each a fresh permutation of all samples.

    The last mini-batch of an epoch is kept though it is smaller, so K is ⌈samples / batch size⌉ per epoch. With
    `batch_min` 2 (BatchNorm cannot train on one sample) a single left-over sample joins the batch before it.
    With `settings.steps`, or `steps` in their place, the last epoch ends when that many mini-batches are given.
    """
    generator = seeding.generator(seed, "batches", peer=peer, round=round)
    sizes = batch_sizes(samples, settings.batch_size, batch_min=batch_min)
    steps_left = steps_of(samples, settings, batch_min=batch_min) if steps is None else steps
    while steps_left > 0:
        used = sizes[:steps_left]
        yield Epoch(generator.permutation(samples)[: sum(used)], used)
        steps_left -= len(used)


def steps_of(samples: int, settings: LocalSettings, *, batch_min: int = 1) -> int:
    """Return how many mini-batches a local update of so many samples has."""
    if settings.steps is not None:
        return settings.steps
    return len(batch_sizes(samples, settings.batch_size, batch_min=batch_min)) * (settings.epochs or 1)


def batch_sizes(samples: int, batch_size: int, *, batch_min: int = 1) -> tuple[int, ...]:
    """Return the mini-batch sizes of one pass over `samples`."""
    full, left = divmod(samples, batch_size)
    sizes = [batch_size] * full
    if left >= batch_min or (left and not sizes):
        sizes.append(left)
    elif left:
        sizes[-1] += left
    return tuple(sizes)


def caution(samples: int, settings: LocalSettings, *, whose: str) -> str | None:
    """Return what is to be said where a mini-batch asks for more than all samples `whose`; None where it does not."""
    if settings.batch_size <= samples:
        return None
    return (
        f"[local] batch_size = {settings.batch_size} is more than the {samples} training samples {whose}: every step "
        "takes all of them"
    )
