"""Each peer's own test samples: a share of its shard, with the classes in the shard's own proportions.

The common test samples tell how a model does on everybody's data; these tell how it does on what the peer itself has,
which is what a personal head, or a peer unlike the others, is to be judged by. Nobody trains on any of them. Where
shards share samples, all peers take by one order of all samples, so that little is lost to their union.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gossip import seeding
from gossip.errors import DataError
from gossip.learning.partitions import Indices, Labels


class Divided(NamedTuple):
    """Indices into the training samples, sorted, of every peer in the order of positions."""

    train: list[Indices]
    own_test: list[Indices]


def divide(
    shards: Sequence[Indices], labels: Labels, share: float, *, seed: int, key: str = "own_test"
) -> Divided:
    """Take `share` of each of the peers' `shards` (indices into `labels` (n,)), at least one sample.

    Without classes all labels are equal. `key` is the setting that says so.

    Raises:
        DataError: a shard has too few samples.
    """
    order = seeding.generator(seed, key).permutation(len(labels))  # each sample's place in the drawing
    tests = [_drawn(np.unique(shard), labels, order, share) for shard in shards]
    taken = np.zeros(len(labels), dtype=np.bool_)
    for test in tests:
        taken[test] = True
    train = [shard[~taken[shard]] for shard in shards]
    for position, (shard, left, test) in enumerate(zip(shards, train, tests, strict=True)):
        if not len(left) or not len(test):
            raise DataError(
                f"[data] {key} = {share}: the peer at position {position} has {len(np.unique(shard))} samples, so "
                f"that none is left to {'train' if len(test) else 'judge'} on; take {key} away, or give it more"
            )
    return Divided(train, tests)


def _drawn(members: Indices, labels: Labels, order: Indices, share: float) -> Indices:
    """Return which of `members` are tested on: share · n of them, by largest remainders over the classes.

    One of each class stays, unless there would be no sample to test on.
    """
    wanted = min(max(1, round(share * len(members))), len(members) - 1)
    classes, counts = np.unique(labels[members], return_counts=True)
    quotas = share * counts
    takes = np.minimum(np.floor(quotas).astype(np.int64), counts - 1)
    for place in np.argsort(takes - quotas, kind="stable"):
        if takes.sum() < wanted and takes[place] < counts[place] - 1:
            takes[place] += 1
    ranked = members[np.argsort(order[members])]
    chosen = [ranked[labels[ranked] == label][:take] for label, take in zip(classes, takes, strict=True)]
    found: Indices = np.sort(np.concatenate(chosen)) if chosen else members[:0]
    return found if len(found) or wanted < 1 else ranked[:1]
