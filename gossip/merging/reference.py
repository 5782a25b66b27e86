"""Where rules begin that begin at one's own model, at a peer that has none of the round.

An aggregator that did not train has an old model, or none: own weight 0 says so, and nothing of it may enter a merge.
The others' coordinate-wise median stands in its place, which no minority of them can carry away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gossip.merging.blocks import fresh_like
from gossip.merging.robust import order_statistics
from gossip.merging.robust.distances import Vector


def median_of(vectors: Sequence[Vector]) -> Vector:
    """Return the coordinate-wise median [P] of at least one vector, a fresh array."""
    out = np.empty_like(vectors[0])
    order_statistics.by_blocks(
        lambda here: [vector[here] for vector in vectors], order_statistics.median, rows=len(vectors), out=out
    )
    return out


def reference(models: Sequence[Tensor]) -> Tensor:
    """Return the coordinate-wise median [L] of at least one received model, a fresh vector on their device.

    Models with a value that is not finite have no say, unless there are no others.
    """
    finite = [model for model in models if bool(model.isfinite().all())] or list(models)
    result = fresh_like(finite[0].cpu())
    result.copy_(torch.from_numpy(median_of([model.detach().cpu().numpy() for model in finite])))
    return result.to(models[0].device)
