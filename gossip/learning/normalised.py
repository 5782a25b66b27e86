"""Displacements of unequal numbers of steps, brought to one length: who does more steps does not weigh more.

Of peers with K_i steps those with many pull the average towards their data. Anarchic federated averaging (Yang, Zhang,
Khanduri and Liu, ICML 2022, arXiv 2108.09875) therefore sends G_i = (x − y) / (η K_i), x where the local update began
and y where it ended. A peer sends models, and cannot be trusted with a factor as large as it likes; so here

    z = x − κ (x − y),   κ = clip(K* / K_i, 1/2, 2)

with K* a number of steps that all have in common. It is for steps that go with the data (fast machines that hold
classes of their own); where they do not, it costs accuracy.
"""

from __future__ import annotations

import torch
from torch import Tensor

FACTOR_MAX = 2.0
"""κ is between its inverse and this: what a peer of few steps can be scaled up by."""


def normalised(before: Tensor, after: Tensor, steps: Tensor, *, usual: int) -> Tensor:
    """Return what is handed on (n, T) of updates that led from `before` to `after` (n, T).

    Args:
        before: x.
        after: y.
        steps: K_i (n, 1), those that were undone not counted; with none of them, it is `before`.
        usual: K*.
    """
    factor = (usual / steps.clamp(min=1)).clamp(1 / FACTOR_MAX, FACTOR_MAX)
    # Not where the factor is 1: of 41 steps out of 41 it is not, in float32.
    return torch.where(steps == usual, after, before + factor * (after - before))
