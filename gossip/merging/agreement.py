"""What a majority of models agree on: each coordinate's median, which no minority moves out of the others' range."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def agreed(own: Tensor, received: Sequence[Tensor]) -> Tensor:
    """Return the coordinate-wise median of received models [L].

    Where their number is even `own` [L] is one more: the median is then a value that somebody has, not the mean of
    two, which the wilder of them moves at will. Equal models have exactly themselves for their median.
    """
    rows = [*received, own] if len(received) % 2 == 0 else list(received)
    return torch.stack(rows).median(dim=0).values
