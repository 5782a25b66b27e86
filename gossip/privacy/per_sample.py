"""The gradient of a private step: that of each sample by itself, shortened; their sum, noised.

    g = (Σ_s g_s · min(1, C / ‖g_s‖₂) + N(0, σ²C² I)) / (q · samples)        one norm over all trained slots

(Abadi et al., CCS 2016, algorithm 1.) It is divided by the number of samples that a step takes in the mean, not by that
of this step, which is a secret. A sample whose gradient is not finite counts for nothing: were the step skipped, all
would see that there is such a sample. So one sample more or less changes the sum by C at most, whatever it is.

Samples go through the network one by one, as mini-batches of one (`torch.func.vmap` takes many at once), so that none
can act on another's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gossip.privacy.entropy import Entropy

LossOf: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(trained (T,), rest, x (1, …), y (1, …)) -> the loss () of that one sample."""

MARGIN = 1e-5
"""Gradients are shortened by so much more, as a share: what rounding makes of a norm must not make it longer than C."""

CHUNK_BYTES = 64 * 2**20
"""Of the gradients of single samples that are in memory at once, unless `[local] micro_batch` says how many."""

CHUNK_MAX = 64
"""Samples at a time, where models are small."""

NOISE_BLOCK = 1 << 18
"""Numbers that are noised at a time: 2 MB in float64."""


class Clipped(NamedTuple):
    """A mini-batch, sample by sample, added up."""

    total: Tensor  # (T,) or (n, T) Σ_s g_s · min(1, C / ‖g_s‖)
    loss: Tensor  # () or (n,) mean over the samples whose gradient counted; 0 where there was none


def clipped(
    loss_of: LossOf,
    trained: Tensor,
    rest: Tensor,
    x: Tensor,
    y: Tensor,
    counted: Tensor,
    *,
    clip: float,
    draws: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the shortened gradients' sum (T,), and the samples' losses (b,), 0 for those that count for nothing.

    Works under `vmap`, for a stack of models.

    Args:
        loss_of: of one sample.
        trained: (T,).
        rest: statistics of the network, which it must not change.
        x: (b, *input_shape).
        y: (b, …).
        counted: (b,) bool, which of them are samples; the others pad.
        clip: C.
        draws: whether the network draws random numbers, which each sample has its own of.
    """

    def one(trained: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return loss_of(trained, rest, x[None], y[None])

    each = torch.func.vmap(
        torch.func.grad_and_value(one),
        in_dims=(None, 0, 0),
        randomness="different" if draws else "error",
    )
    gradients, losses = each(trained, x, y)  # (b, T), (b,)
    return _added(gradients, losses, counted, clip)


def clipped_one_by_one(
    gradient_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, y: Tensor, *, clip: float
) -> tuple[Tensor, Tensor]:
    """Return the same of ``gradient_of(x (1, …), y (1, …)) -> (T,), ()``, which `vmap` cannot take."""
    total: Tensor | None = None
    losses = []
    for start in range(len(x)):
        gradient, loss = gradient_of(x[start : start + 1], y[start : start + 1])
        ones = torch.ones(1, dtype=torch.bool, device=gradient.device)
        added, told = _added(gradient[None], loss[None], ones, clip)
        total = added if total is None else total + added
        losses.append(told)
    assert total is not None, "a mini-batch without samples is nobody's to ask for"
    return total, torch.cat(losses)


def factors(squares: Tensor, counted: Tensor, clip: float) -> Tensor:
    """Return by what gradients are multiplied, (…, b): 0 where one does not count, or is not finite.

    `squares` (…, b) are ‖g_s‖².
    """
    norms = squares.sqrt()
    scale = (clip * (1 - MARGIN) / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1.0)
    return torch.where(counted & (norms < torch.inf), scale, 0.0)  # false for NaN, too


def _added(gradients: Tensor, losses: Tensor, counted: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    scale = factors(gradients.square().sum(1), counted, clip)
    good = scale > 0
    total = scale @ torch.where(good[:, None], gradients, 0.0)
    return total, torch.where(good & losses.isfinite(), losses, 0.0).detach()


def chunk_of(trained_size: int, models: int, *, micro_batch: int | None) -> int:
    """Return how many samples' gradients are held at once, for each of so many models."""
    if micro_batch is not None:
        return micro_batch
    return max(1, min(CHUNK_MAX, CHUNK_BYTES // (4 * max(1, trained_size) * models)))


def noised(total: Tensor, std: float, entropies: Sequence[Entropy]) -> Tensor:
    """Return `total` (T,) or (n, T) float32 with noise of that standard deviation added to every number.

    Each row has its peer's own entropy; sums are made in float64 and rounded once.
    """
    rows = total if total.dim() == 2 else total[None]
    noisy = torch.empty_like(rows)
    for row, out, entropy in zip(rows, noisy, entropies, strict=True):
        for start in range(0, len(row), NOISE_BLOCK):
            block = row[start : start + NOISE_BLOCK]
            noise = torch.from_numpy(entropy.normals(len(block)))
            summed = noise.mul_(std).add_(block.detach().to("cpu", torch.float64))
            out[start : start + NOISE_BLOCK] = summed.to(torch.float32)
    return noisy if total.dim() == 2 else noisy[0]
