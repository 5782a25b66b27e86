"""Merge rules that bear Byzantine peers. A lazy front: see `gossip`.

n models enter a merge, the own one included; up to f of them, 2f < n, may be anything at all. d is a model's
size.

| kind | what it is | f | cost | breaks down at |
|---|---|---|---|---|
| `median` | middle of each coordinate | no | n log²n d | n/2 |
| `trimmed-mean` | mean of each coordinate's middle n - 2f | yes | n log²n d | f |
| `meamed` | mean of each coordinate's n - f nearest to the median | yes | n log²n d | f |
| `krum` | the one model to which n - f are near | yes | n²d | f |
| `multi-krum` | mean of the n - f best such | yes | n²d | f |
| `geometric-median` | least sum of distances | no | n²d | n/2 |
| `centered-clipping` | mean of differences shortened to τ | no | nd; iterated n²d | τ for each |
| `self-centered-clipping` | gossip step, differences shortened to τ | or τ | nd | the graph's |
| `cs-plus` | the same, τ from the distances and f | yes | nd | the graph's |
| `nna`, `monna` | mean of the n - f nearest to own | yes | nd | f |
| `mda` | mean of the n - f that are nearest to each other: least diameter | yes | n²d + subsets | f |
| `smea` | mean of the n - f with the least eigenvalue of covariance | yes | n²d + subsets | f |
| `caf` | mean with weights that fall along the longest axis of the covariance | yes | n²d | f |
| `ios` | gossip step without the f farthest from the mean, cut one by one | yes | n²d | a third of the weight |
| `balance` | mean of own and those within a share of its length | no | nd | what own length shows |
| `ubar`, `mozi` | near own, then no worse on own samples | no | nd + forward passes | what own samples show |

When to use which: `median` and `trimmed-mean` where peers' data are alike; `meamed` with skewed values. `krum`
gives up what averaging gains, and is refused alone where aggregators merge, since all would go on from what one
peer has learned, and in pushes without `own_share`; `multi-krum` gives up less. `geometric-median` where nobody
knows f. `self-centered-clipping` and `cs-plus` on sparse graphs, where consensus matters: their bound is the
honest graph's connectivity against the Byzantine weight. `nna` with many attackers, also where peers hold
different classes. `smea` is the sharpest where few models are merged, `mda` a little cheaper: both try all sets
of n - f models, at most 10 000, and are refused above; `caf` is as sharp in order and tries none. `ios` and
`balance` are for graphs, the first where liars have little weight, the second where nobody knows f. `ubar` with
many attackers and i.i.d. data only, for own samples cannot judge foreign classes. An f that is too small is as
bad as no defence, and no rule of these bears 2f ≥ n. If in doubt: `nnm+trimmed-mean`.

Before a rule, joined by `+` and applied from left to right:

| name | what it does | f | cost |
|---|---|---|---|
| `nnm` | each model becomes the mean of its n - f nearest: order-optimal with unlike data | yes | n²d |
| `bucketing` | means of groups of `bucket_size`, drawn in every gossip step; n shrinks, f does not | no | n²d |
| `clipping` | differences from own are shortened to `clip_norm` | no | n²d |
| `arc` | the longest differences from own, as many as f says, are shortened to the next one's | yes | n²d |

Names of peers decide nothing. Of models that a rule cannot tell apart each counts in part; `krum`, which takes
one, goes by more neighbours and at last by the coordinates. Behind `arc` and `clipping` `nna` keeps the order that
distances had before.

Mixing weights are used by `self-centered-clipping`, `cs-plus` and `ios`; all others take every model for one.

With every protocol. `rounds`: n is a peer's degree plus one. A neighbour that is late or gone lowers n, not f;
while 2f ≥ n then, the own model stays as it is and each received one is judged "too few". At a MoDeST
aggregator n is the number of models that came, with equal weights; one that did not train has none among them,
and rules that begin at the own model begin at the coordinate-wise median of the others. `push` merges what has
arrived since the last local update, and with a `memory` also what each other neighbour sent last. Settings with
which most merges have too few models are refused, and so are `median` and `geometric-median` without f: with one
model at a time n is 2, and of two they make the mean.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossip.merging.robust.base import RobustMerge as RobustMerge
    from gossip.merging.robust.base import TooFewModels as TooFewModels
    from gossip.merging.robust.models import Models as Models
    from gossip.merging.robust.settings import ROBUST_RULES as ROBUST_RULES
    from gossip.merging.robust.settings import RobustSettings as RobustSettings

_HOMES = {
    "ROBUST_RULES": "gossip.merging.robust.settings",
    "Models": "gossip.merging.robust.models",
    "RobustMerge": "gossip.merging.robust.base",
    "RobustSettings": "gossip.merging.robust.settings",
    "TooFewModels": "gossip.merging.robust.base",
}

__all__ = ["ROBUST_RULES", "Models", "RobustMerge", "RobustSettings", "TooFewModels"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
