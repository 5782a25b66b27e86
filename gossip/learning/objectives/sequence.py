"""A token for each position: the next one of a text, or a label; cross-entropy per token, scored by perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossip.errors import DataError
from gossip.learning.objectives.base import Array, Measured, Names, Objective, Score, settings_of, whole
from gossip.learning.objectives.settings import SequenceSettings
from gossip.settings import Choice

PADDING = -100
"""A position with this target counts for nothing, as in torch."""


class Sequence(Objective):
    """Targets (n, T) int64, outputs (n, T, tokens)."""

    score = Score("perplexity", higher_is_better=False)
    numbered = True

    def __init__(self, settings: Choice | None = None) -> None:
        super().__init__(settings)
        self._smoothing = settings_of(SequenceSettings, settings).label_smoothing

    def targets(self, array: Array, *, source: str, key: str) -> Array:
        """Take token numbers (n, T), -100 where a position does not count."""
        if array.dtype.kind in "buif" and array.ndim != 2:
            raise DataError(
                f"{source}: '{key}' has shape {array.shape}; it must be (samples, positions), one token each"
            )
        return whole(array, source=source, key=key, what="tokens", negative=PADDING)

    def outputs(self, train: Array, test: Array) -> int:
        """Return the number of tokens."""
        return max(int(max(train.max(), test.max())) + 1, 2)

    def shape(self, targets: Tensor, outputs: int) -> tuple[int, ...]:
        """Return (n, T, tokens)."""
        return (*targets.shape, outputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the positions that count."""
        return self._entropy(outputs, targets, "mean")

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (positions that count, loss, hits)."""
        counts = targets != PADDING
        hits = (outputs.argmax(2) == targets) & counts
        total = float(self._entropy(outputs, targets, "sum", smoothing=0.0))
        return torch.tensor([int(counts.sum()), total, int(hits.sum())], dtype=torch.float64)

    def measured(self, sums: Tensor) -> Measured:
        """Return mean loss and its exponential."""
        positions, loss, _ = sums.tolist()
        mean = loss / positions if positions else math.nan
        return Measured(mean, math.exp(mean) if mean < 700 else math.inf)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return perplexity and the share of right tokens."""
        sums = self.sums(outputs, targets)
        measured = self.measured(sums)
        positions, _, hits = sums.tolist()
        return {
            "loss": measured.loss,
            "perplexity": measured.score,
            "token_accuracy": hits / positions if positions else None,
            "positions": int(positions),
            "samples": len(targets),
        }

    def chance(self, outputs: int) -> float:
        """Return ln(tokens)."""
        return math.log(outputs)

    def predicted(self, outputs: Tensor) -> Tensor:
        """Return the token of each position (n, T)."""
        return outputs.argmax(2)

    def told(self, targets: Tensor, names: Names = ()) -> str:
        """Return e.g. ``16 positions, 27 different tokens``."""
        kinds = len(torch.unique(targets[targets != PADDING]))
        return f"{targets.shape[1]} positions, {kinds} different tokens"

    def _entropy(
        self, outputs: Tensor, targets: Tensor, reduction: str, *, smoothing: float | None = None
    ) -> Tensor:
        return cross_entropy(
            outputs.flatten(0, 1),
            targets.flatten(),
            ignore_index=PADDING,
            label_smoothing=self._smoothing if smoothing is None else smoothing,
            reduction=reduction,
        )

    def _what(self, shape: tuple[int, ...]) -> str:
        return f"logits of shape {shape}"
