"""Labels that are there or not, any number per sample: binary cross-entropy on one logit each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gossip.errors import DataError, SettingError
from gossip.learning.objectives.base import Array, Measured, Names, Objective, Score, numbers, settings_of
from gossip.learning.objectives.measures import measures
from gossip.learning.objectives.settings import MultiLabelSettings
from gossip.settings import Choice


class MultiLabel(Objective):
    """Targets (n, labels) float32 of 0 and 1, outputs (n, labels)."""

    score = Score("f1", percent=True)

    def __init__(self, settings: Choice | None = None) -> None:
        super().__init__(settings)
        chosen = settings_of(MultiLabelSettings, settings)
        self._weights = None if chosen.positive_weights is None else torch.tensor(chosen.positive_weights)
        if self._weights is not None and not bool((self._weights > 0).all()):
            raise SettingError(
                f"[objective] positive_weights = {list(chosen.positive_weights or ())}: must be above zero"
            )

    def targets(self, array: Array, *, source: str, key: str) -> Array:
        """Take zeros and ones (n, labels)."""
        numbers(array, source=source, key=key, what="zeros and ones")
        if array.ndim != 2:
            raise DataError(
                f"{source}: '{key}' has shape {array.shape}; it must be (samples, labels), each 0 or 1"
            )
        other = array[(array != 0) & (array != 1)]
        if len(other):
            raise DataError(f"{source}: '{key}' holds {other[0]}; labels are 0 or 1")
        return array.astype(np.float32)

    def outputs(self, train: Array, test: Array) -> int:
        """Return the number of labels."""
        return int(train.shape[1])

    def shape(self, targets: Tensor, outputs: int) -> tuple[int, ...]:
        """Return (n, labels)."""
        if self._weights is not None and len(self._weights) != outputs:
            raise SettingError(
                f"[objective] positive_weights: there are {len(self._weights)} for {outputs} labels"
            )
        return len(targets), outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over samples and labels."""
        return self._entropy(outputs, targets, "mean")

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (numbers, loss, true positives, positives found, positives there)."""
        found, there = outputs > 0, targets > 0.5
        return torch.tensor(
            [
                targets.numel(),
                float(self._entropy(outputs, targets, "sum")),
                int((found & there).sum()),
                int(found.sum()),
                int(there.sum()),
            ],
            dtype=torch.float64,
        )

    def measured(self, sums: Tensor) -> Measured:
        """Return mean loss and 2 TP / (found + there)."""
        count, loss, both, found, there = sums.tolist()
        return Measured(loss / count, 2 * both / (found + there) if found + there else 1.0)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return both F1, the AUC in the mean of the labels that vary, and the F1 of each label."""
        metrics = measures()
        measured = self.measured(self.sums(outputs, targets))
        truth, found = targets.cpu().numpy() > 0.5, (outputs > 0).cpu().numpy()
        each = metrics.f1_score(truth, found, average=None, zero_division=0.0)
        logits = outputs.double().cpu().numpy()
        varying = [label for label in range(truth.shape[1]) if 0 < truth[:, label].mean() < 1]
        areas = [float(metrics.roc_auc_score(truth[:, label], logits[:, label])) for label in varying]
        return {
            "loss": measured.loss,
            "f1": measured.score,
            "f1_macro": float(each.mean()),
            "auc": sum(areas) / len(areas) if areas else None,
            "f1_per_label": each.tolist(),
            "samples": len(targets),
        }

    def chance(self, outputs: int) -> float:
        """Return ln 2."""
        return math.log(2)

    def predicted(self, outputs: Tensor) -> Tensor:
        """Return which labels are there (n, labels)."""
        return (outputs > 0).to(torch.int64)

    def told(self, targets: Tensor, names: Names = ()) -> str:
        """Return e.g. ``4 labels, 1.3 of them per sample``."""
        return f"{targets.shape[1]} labels, {float(targets.sum(1).mean()):.2g} of them per sample"

    def _entropy(self, outputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
        weights = None if self._weights is None else self._weights.to(outputs.device, outputs.dtype)
        return binary_cross_entropy_with_logits(
            outputs, targets.to(outputs.dtype), pos_weight=weights, reduction=reduction
        )

    def _what(self, shape: tuple[int, ...]) -> str:
        return f"one logit per label, shape {shape}"
