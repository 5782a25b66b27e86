"""Which of the samples are used: some classes, a share set aside to be tested on, so many of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gossip import seeding
from gossip.errors import DataError
from gossip.learning.data.mapped import Mapped, part
from gossip.learning.settings import DataSettings
from gossip.learning.sources import TEST_FRACTION

Array = npt.NDArray[Any]


def only(
    x: Array | Mapped, y: npt.NDArray[np.int64], kept: tuple[int, ...], classes: int, *, source: str
) -> tuple[Array | Mapped, npt.NDArray[np.int64]]:
    """Return the samples of the classes `kept`, which get the numbers of their places in it."""
    if len(kept) < 2 or len(set(kept)) < len(kept) or not all(0 <= label < classes for label in kept):
        raise DataError(
            f"[data] class_subset = {list(kept)}: must be two or more different classes from 0 to {classes - 1}"
        )
    numbers = np.full(classes, -1, dtype=np.int64)
    numbers[list(kept)] = np.arange(len(kept))
    chosen = numbers[y] >= 0
    if not chosen.any():
        raise DataError(f"{source}: no sample has a class of [data] class_subset = {list(kept)}")
    return part(x, chosen), numbers[y[chosen]]


def aside(
    y: Array, share: float, *, source: str, seed: int, key: str = "test_from_train"
) -> npt.NDArray[np.bool_]:
    """Return which samples are drawn to be tested on: the share of each class, of which one at least stays.

    `key` is the setting that says so.
    """
    generator = seeding.generator(seed, key)
    aside = np.zeros(len(y), dtype=np.bool_)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        count = min(round(share * len(members)), len(members) - 1)
        aside[generator.permutation(members)[:count]] = True
    if not aside.any():
        raise DataError(
            f"[data] {key} = {share}: no class of {source} has training samples enough to set one aside"
        )
    return aside


def set_aside(
    y: Array, settings: DataSettings, *, seed: int, classifies: bool = True
) -> npt.NDArray[np.bool_]:
    """Return which samples of a source without test samples are drawn to be these, from its targets `y` (n,).

    The share of each class where targets are classes, names or whole numbers; of all samples where they are
    measurements, whole ones too.
    """
    measurements = not classifies or (y.dtype.kind == "f" and not np.array_equal(y, np.floor(y)))
    return aside(
        np.zeros(len(y), dtype=np.int64) if measurements else y,
        TEST_FRACTION if settings.test_fraction is None else settings.test_fraction,
        source=settings.source,
        seed=seed,
        key="test_fraction",
    )


def subset(
    x: Array | Mapped, y: npt.NDArray[np.int64], limit: int | None, *, seed: int, purpose: str
) -> tuple[Array | Mapped, npt.NDArray[np.int64]]:
    if limit is None or limit >= len(y):
        return x, y
    chosen = np.sort(seeding.generator(seed, purpose).permutation(len(y))[:limit])
    return part(x, chosen), y[chosen]
