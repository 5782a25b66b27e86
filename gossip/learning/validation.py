"""Three disjoint splits: what peers train on, what each keeps to judge received models by, and the common test set.

A rule that judges models by their accuracy must not ask samples that these models were trained on. So, before the
training samples are divided, a part of every class is set aside for validation; nobody trains on it. Every peer draws
its own few samples from that part, of the classes that it has training samples of.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gossip import seeding
from gossip.errors import SettingError
from gossip.learning.partitions import Indices, Labels

SHARE = 0.2
"""Of each class, at least, so that peers do not all judge by the same samples."""


class Split(NamedTuple):
    """Indices into the training samples, each sorted."""

    train: Indices
    validation: Indices


def split(labels: Labels, per_class: int, *, seed: int) -> Split:
    """Set samples aside: of each class a fifth, but at least `per_class`; 0 leaves all for training.

    Raises:
        SettingError: a class would keep less than half of its samples.
    """
    if per_class == 0:
        return Split(np.arange(len(labels), dtype=np.int64), np.empty(0, dtype=np.int64))
    generator = seeding.generator(seed, "validation split")
    aside = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(per_class, int(SHARE * len(members)))
        if 2 * count > len(members):
            raise SettingError(
                f"[data] validation_per_class = {per_class}: class {label} has {len(members)} training samples, and "
                f"at most half of them may be set aside; valid: 0 to {len(members) // 2}"
            )
        aside.append(generator.permutation(members)[:count])
    validation = np.sort(np.concatenate(aside))
    mask: npt.NDArray[np.bool_] = np.ones(len(labels), dtype=np.bool_)
    mask[validation] = False
    return Split(np.flatnonzero(mask), validation)


def draw(
    labels: Labels, aside: Indices, familiar: Labels, per_class: int, *, seed: int, position: int
) -> Indices:
    """Return the samples that the peer at `position` judges by: `per_class` of each of its `familiar` classes."""
    generator = seeding.generator(seed, f"validation draw {position}")
    chosen = [generator.permutation(aside[labels[aside] == label])[:per_class] for label in familiar]
    return np.sort(np.concatenate(chosen)) if chosen else aside[:0]
