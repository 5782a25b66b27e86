"""Which received models are worth judging: by distance to one's own, explored beyond the nearest.

Received models are sorted by distance and cut into terciles. Each is given the share of the budget that the binomial
distribution B(2, α) says, and its models are drawn without replacement:

    near  (1-α)²        middle  2α(1-α)        far  α²

With α = 0 only the nearest third is ever judged, with α = 1 only the farthest. The shares of the budget are rounded one
by one, so that they may sum to more than it; the far ones then go without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def quotas(exploration: float, budget: int) -> tuple[int, int, int]:
    """Return how many of the near, middle and far models are judged: together at most `budget`."""
    shares = ((1 - exploration) ** 2, 2 * exploration * (1 - exploration), exploration**2)
    left, counts = budget, []
    for share in shares:
        count = min(left, math.floor(share * budget + 0.5))
        counts.append(count)
        left -= count
    return counts[0], counts[1], counts[2]


def prioritise(
    distances: Sequence[float],
    ranks: Sequence[int],
    *,
    exploration: float,
    budget: int,
    rng: np.random.Generator,
) -> list[int]:
    """Return which of the received models to judge: at most `budget` places, ascending by (distance, rank).

    All where no more than that came. A tercile that has fewer than its share is made up for by the nearest that are
    left of those that the exploration reaches at all.

    Args:
        distances: L2 distance of each received model to own, (n,).
        ranks: decides between equal distances; of what the models contain, not of who sent them.
        exploration: α, from 0 to 1.
        budget: β.
        rng: draws within the terciles.
    """
    order = sorted(range(len(ranks)), key=lambda place: (distances[place], ranks[place]))
    if len(order) <= budget:
        return order
    terciles = np.array_split(np.array(order, dtype=np.int64), 3)
    chosen: set[int] = set()
    reached: list[int] = []
    for members, quota in zip(terciles, quotas(exploration, budget), strict=True):
        if quota:
            reached += members.tolist()
            chosen.update(rng.permutation(members)[:quota].tolist())
    for place in reached:
        if len(chosen) >= budget:
            break
        chosen.add(place)
    return [place for place in order if place in chosen]
