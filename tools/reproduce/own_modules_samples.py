"""Samples that kinds of networks are tried on, and which kinds of a file are tried on which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

SAMPLES, CLASSES = 24, 3
TOKENS = 20

Shape = tuple[int, ...]
Make = Callable[[Shape, int], nn.Module]


def _arrays(shape: Shape, *, whole: bool = False) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    x = draw.integers(0, TOKENS, (SAMPLES, *shape)) if whole else draw.normal(size=(SAMPLES, *shape))
    y = np.arange(SAMPLES) % CLASSES
    return {"x_train": x, "y_train": y, "x_test": x[:6], "y_test": y[:6]}


def flat() -> dict[str, Any]:
    """Twelve columns."""
    return _arrays((12,))


def images() -> dict[str, Any]:
    """Two channels of eight by eight."""
    return _arrays((2, 8, 8))


def sequences() -> dict[str, Any]:
    """Six points in time, five numbers each."""
    return _arrays((6, 5))


def tokens() -> dict[str, Any]:
    """Seven tokens."""
    return _arrays((7,), whole=True)


class Kinds(dict[str, str]):
    """Name of each kind of a file: the function that makes its samples."""

    def on(self, samples: Callable[[], dict[str, Any]]) -> Callable[[Make], Make]:
        """Register a kind that is tried on these samples."""

        def register(make: Make) -> Make:
            self[make.__name__] = samples.__name__
            return make

        return register
