"""What data may be a mistake, and is accepted: a sentence each, for the start of a run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gossip.learning.data.arrays import CHANNELS, Array

MEASURED = 20
MEASURED_SHARE = 0.2
"""So many different labels at least, and a fifth as many as samples, with gaps between them, look like measurements."""

GAPS_SHARE = 0.25
"""Where fewer of the class numbers up to the largest have a sample, they may be names."""
GAPS_SHOWN = 5


def doubts_of_samples(shape: tuple[int, ...], *, source: str) -> Iterator[str]:
    """Yield what the user should look at again in samples of this shape each."""
    if len(shape) == 3 and shape[2] in CHANNELS and shape[0] not in CHANNELS and shape[1] > max(CHANNELS):
        yield (
            f"{source}: samples of shape {tuple(map(int, shape))} look like height × width × channels; torch's layers "
            "take channels first: x.transpose(0, 3, 1, 2)"
        )


def doubts_of_labels(
    y_train: Array, y_test: Array, *, source: str, named: bool = False, counted: bool = False
) -> Iterator[str]:
    """Yield what the user should look at again in numbers of classes (n,) and (m,).

    Classes that are `named` are meant, whichever of them are there; so are gaps where it is said how many there are.
    """
    different = np.unique(y_train)
    if len(different) == 1:
        yield f"{source}: all training labels are {different[0]}: there is nothing to tell apart"
    elif named:
        return
    elif different[-1] + 1 > len(different) > max(MEASURED, MEASURED_SHARE * len(y_train)):
        yield (
            f"{source}: 'y_train' holds {len(different)} different values among {len(y_train)}, up to "
            f"{int(different[-1])}; they look like measurements, and are learnt as numbers of classes; "
            '[objective] kind = "regression" learns measurements'
        )
    elif not counted and len(different) < GAPS_SHARE * (int(different[-1]) + 1):
        few = ", ".join(map(str, different[:GAPS_SHOWN].tolist())) + (
            ", …" if len(different) > GAPS_SHOWN else ""
        )
        yield (
            f"{source}: the class numbers are {few}, and the network gets an output for every number up "
            f"to {int(different[-1])}; [data] class_names takes names; classes = N tells how many there are"
        )
    smallest = int(min(y_train.min(), y_test.min()))
    if smallest == 1 and len(different) > 1:
        yield (
            f"{source}: the class numbers are 1 … {int(max(y_train.max(), y_test.max()))}, and none is 0; they count "
            "from 0, so the network gets an output for a class that does not exist"
        )
