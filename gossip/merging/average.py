"""The mixing matrix' weighted average: x_i ← Σ_j W_ij x_j (one gossip step of D-PSGD and its descendants)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gossip.merging.base import Merge, MergeContext, check_sizes, check_weights
from gossip.merging.blocks import AVERAGE_BLOCK, fresh_like, slices
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution


class Average(Merge):
    """Weighted average as a running mean: m ← m + (w_k / Σ_{j≤k} w_j) · (x_k - m).

    One pass and no temporary per model, as with a running sum; but the running mean never leaves the models'
    range, and equal models stay equal to the last bit, where weights like 1/3 would make a sum drift. An own model
    without weight is not read.
    """

    linear = True
    retains = False

    def __init__(self, settings: AverageSettings | None = None) -> None:
        self.settings = settings or AverageSettings()

    def __call__(
        self,
        own: Tensor,
        own_weight: float,
        received: Sequence[Contribution],
        *,
        context: MergeContext | None = None,
    ) -> Tensor:
        """Return Σ_j W_ij x_j [L] as a fresh vector, or where the first model was that nobody needs; see `Merge`."""
        check_weights(own_weight, received)
        check_sizes(own, received)
        shares = running_shares(own_weight, received)
        if not shares:
            return own.clone()
        first = next(each for each in received if each.weight)
        # Of the first, each block is read just before it is written; the others are read later.
        spent = context is not None and first.sender in context.spent
        mean = first.model if spent else fresh_like(own)
        running_mean(own, shares, mean)
        return mean


def running_shares(own_weight: float, received: Sequence[Contribution]) -> list[tuple[Tensor, float]]:
    """Return each received model [L] that has a weight, with w_k / Σ_{j≤k} w_j: its share of the mean so far."""
    shares: list[tuple[Tensor, float]] = []
    total = own_weight
    for contribution in received:
        if contribution.weight == 0:
            continue
        total += contribution.weight
        shares.append((contribution.model, contribution.weight / total))
    return shares


def begin_mean(own: Tensor, first: Tensor, first_share: float, *, out: Tensor) -> None:
    """Write the mean of own and the first received to `out`; all of one's share is a copy, whatever own may be."""
    if first_share == 1:
        out.copy_(first)
    else:
        torch.lerp(own, first, first_share, out=out)


def running_mean(own: Tensor, shares: Sequence[tuple[Tensor, float]], out: Tensor) -> None:
    """Write to `out` [L] the running mean of own and at least one model [L].

    In blocks, so that the running mean stays in the cache while every model is read from memory once.
    """
    block = AVERAGE_BLOCK if out.device.type == "cpu" else max(1, len(out))
    (first, first_share), *rest = shares
    for here in slices(len(out), block):
        mean = out[here]
        begin_mean(own[here], first[here], first_share, out=mean)
        for model, share in rest:
            mean.lerp_(model[here], share)
