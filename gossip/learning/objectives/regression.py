"""Real numbers, one or several per sample: squared, absolute or Huber's loss, scored by R²."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gossip.errors import DataError
from gossip.learning.objectives.base import (
    Array,
    Measured,
    Names,
    Objective,
    Score,
    doubled,
    numbers,
    settings_of,
)
from gossip.learning.objectives.settings import RegressionSettings
from gossip.settings import Choice


class Regression(Objective):
    """Targets (n, columns) float32, outputs (n, columns)."""

    score = Score("r2")

    def __init__(self, settings: Choice | None = None) -> None:
        super().__init__(settings)
        self._chosen = settings_of(RegressionSettings, settings)
        losses: dict[str, Callable[..., Tensor]] = {
            "squared": functional.mse_loss,
            "absolute": functional.l1_loss,
            "huber": self._huber,
        }
        self._of = losses[self._chosen.loss]

    def targets(self, array: Array, *, source: str, key: str) -> Array:
        """Take numbers (n,) or (n, columns)."""
        numbers(array, source=source, key=key, what="numbers")
        if array.ndim > 2:
            raise DataError(
                f"{source}: '{key}' has shape {array.shape}; it must be (samples,) or (samples, columns)"
            )
        kept = array.astype(np.float32).reshape(len(array), -1)
        finite = np.isfinite(kept).all(1)
        if not finite.all():
            raise DataError(
                f"{source}: '{key}' is not finite in sample {int(np.argmin(finite))}; remove or replace such values"
            )
        return kept

    def outputs(self, train: Array, test: Array) -> int:
        """Return the number of columns."""
        return int(train.shape[1])

    def shape(self, targets: Tensor, outputs: int) -> tuple[int, ...]:
        """Return (n, columns)."""
        return len(targets), outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over samples and columns."""
        return self._of(outputs, targets)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (samples, loss) and, for each column, Σ (y - ŷ)², Σ y and Σ y²."""
        y, found = doubled(targets), doubled(outputs)
        loss = float(self._of(outputs, targets, reduction="sum")) / targets.shape[1]
        columns = torch.cat([(y - found).square().sum(0), y.sum(0), y.square().sum(0)]).cpu()
        return torch.cat([torch.tensor([len(y), loss], dtype=torch.float64), columns])

    def measured(self, sums: Tensor) -> Measured:
        """Return mean loss and R² = 1 - Σ (y - ŷ)² / Σ (y - mean y)², the mean of the columns that vary."""
        samples, loss = sums[:2].tolist()
        missed, total, squares = sums[2:].reshape(3, -1)
        spread = squares - total.square() / samples
        varying = spread > 1e-12 * squares
        r2 = float((1 - missed / spread)[varying].mean()) if bool(varying.any()) else math.nan
        return Measured(loss / samples, r2)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return R², the mean absolute error and the root of the mean squared one, in the targets' unit."""
        measured = self.measured(self.sums(outputs, targets))
        missed = doubled(targets) - doubled(outputs)
        return {
            "loss": measured.loss,
            "r2": measured.score,
            "mae": float(missed.abs().mean()),
            "rmse": math.sqrt(float(missed.square().mean())),
            "samples": len(targets),
        }

    def told(self, targets: Tensor, names: Names = ()) -> str:
        """Return e.g. ``numbers from -1.5 to 3``."""
        columns = f"{targets.shape[1]} columns of " if targets.shape[1] > 1 else ""
        return f"{columns}numbers from {float(targets.min()):.4g} to {float(targets.max()):.4g}"

    def _huber(self, outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        return functional.huber_loss(outputs, targets, delta=self._chosen.delta, reduction=reduction)
