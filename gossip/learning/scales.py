"""How large the inputs are, and how unequal: the commonest reason for a network that learns nothing or diverges.

Gradients of a layer's weights are as large as what goes into it, so one step size suits all columns only if these are
of one scale. Inputs are *unscaled* where

    max |x| > 100,    or    max |x| > 10 and the largest standard deviation of a column > 100 · the median one's

over the columns that vary. Pixels in [0, 1], standardised tables, counts of words and their frequencies are not: there
some columns hardly vary, and none is large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossip.learning.data.mapped import Mapped, Samples
from gossip.learning.models import MODELS
from gossip.learning.settings import ModelSettings

if TYPE_CHECKING:
    from gossip.learning.task import Task

LARGE = 100.0
"""Beyond which a single value is a mistake more often than not."""

LARGE_BESIDE_OTHERS = 10.0
"""Below it no column is large enough to do harm, however small the others are."""

SPREAD_MAX = 100.0

SAMPLES_MAX = 4096
"""So many samples tell a column's standard deviation well enough; the extremes are of all that are in memory."""

MAPPED_BYTES_MAX = 64 * 2**20
"""Read of mapped samples, of which the extremes, too, are of some only: not all are read before the first step."""


@dataclass(frozen=True, slots=True)
class Scales:
    """The range of inputs, over columns: a sample's numbers in their order, whatever its shape."""

    largest: float
    """max |x|."""
    column: int
    """Where that is."""
    std: float
    """The largest standard deviation of a column."""
    median_std: float
    """The median one of those columns that vary."""

    @property
    def spread(self) -> float:
        """How many times the median standard deviation the largest one is; 1 where none varies."""
        return self.std / self.median_std if self.median_std else 1.0

    @property
    def unscaled(self) -> bool:
        """Whether that is likely to be a mistake."""
        return self.largest > LARGE or (self.largest > LARGE_BESIDE_OTHERS and self.spread > SPREAD_MAX)

    def __str__(self) -> str:
        return (
            f"column {self.column} reaches |x| = {self.largest:.4g}, and the largest standard deviation of a column is "
            f"{self.spread:.3g} times the median one"
        )


def scales_of(x: Samples) -> Scales:
    """Measure samples `x` (n, *shape), n >= 1; they are read once, and of mapped ones some."""
    if isinstance(x, Mapped):
        x = _some(x)
    columns = x.reshape(len(x), -1)  # (n, c)
    low, high = torch.aminmax(columns, dim=0)
    reach = torch.maximum(high, -low)  # (c,)
    column = int(reach.argmax())
    # In float64: squares of what float32 can hold need not be finite.
    some = _some(columns).double()
    stds = some.std(0, correction=0)
    varying = stds[stds > 0]
    return Scales(
        largest=float(reach[column]),
        column=column,
        std=float(stds.max()),
        median_std=float(varying.median()) if len(varying) else 0.0,
    )


def scales_of_task(task: Task) -> Scales:
    """Measure all training samples, or behind an extractor, whose features cost more than a look, some of them."""
    x = task.dataset.x_train
    return scales_of(x if task.extractor is None else task.features(_some(x)))


def _some(samples: Samples) -> Tensor:
    count = SAMPLES_MAX
    if isinstance(samples, Mapped):
        sample_bytes = samples.dtype.itemsize * math.prod(samples.shape[1:])
        count = max(2, min(count, MAPPED_BYTES_MAX // sample_bytes))
    return samples[:: -(-len(samples) // count)]


def caution(scales: Scales, model: ModelSettings) -> str | None:
    """Return what the user should be told before anything is learnt, or None.

    What a user's own network does with its inputs – scale them, look them up in a table – nobody knows; none of ours
    does anything of the kind.
    """
    if not scales.unscaled or model.name not in MODELS:
        return None
    return (
        f"[data] the inputs are not scaled: {scales}; learning may diverge. Bring every column to about mean 0 and "
        "standard deviation 1"
    )
