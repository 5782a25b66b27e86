"""Attacks on what an attacker learns from: wrong labels, and a trigger in the corner of an image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gossip.learning.task import Shard


def flipped(labels: Tensor, classes: int, flip: Literal["previous", "mirror"]) -> Tensor:
    """Return y - 1 mod C, or C - 1 - y."""
    return (labels - 1) % classes if flip == "previous" else classes - 1 - labels


def stamped(x: Tensor, size: int) -> Tensor:
    """Return the samples with the trigger: the lower right square of images (…, h, w), the last size² of flat ones.

    As bright as the brightest value that any sample has.
    """
    marked = x.clone()
    bright = x.max()
    if x.dim() >= 3:
        marked[..., -size:, -size:] = bright
    else:
        marked[:, -(size**2) :] = bright
    return marked


def backdoored(shard: Shard, *, target: int, share: float, size: int, rng: np.random.Generator) -> Shard:
    """Return the shard with the trigger and the target's label on a share of the samples."""
    count = max(1, round(share * len(shard)))
    chosen = torch.from_numpy(np.sort(rng.choice(len(shard), size=count, replace=False)))
    x, y = shard.x[:].clone(), shard.y.clone()
    # Of the whole shard, so that the trigger is as bright as it will be in the test.
    x[chosen] = stamped(x, size)[chosen]
    y[chosen] = target
    return Shard(x, y)


def triggered_test(x: Tensor, y: Tensor, *, target: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the test samples of other classes with the trigger, and the target as every label.

    Accuracy on these is the attack's success rate.
    """
    others = y != target
    return stamped(x, size)[others], torch.full_like(y[others], target)
