"""One class per sample: softmax cross-entropy, with class weights and label smoothing where wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossip.errors import DataError, SettingError
from gossip.learning.objectives.base import Array, Measured, Names, Objective, settings_of, whole
from gossip.learning.objectives.measures import measures
from gossip.learning.objectives.score import ACCURACY
from gossip.learning.objectives.settings import ClassificationSettings
from gossip.settings import Choice

CLASSES_TOLD = 12


class Classification(Objective):
    """Targets (n,) int64, outputs (n, classes)."""

    score = ACCURACY
    classifies = True
    numbered = True

    def __init__(self, settings: Choice | None = None) -> None:
        super().__init__(settings)
        chosen = settings_of(ClassificationSettings, settings)
        self._smoothing = chosen.label_smoothing
        self._weights = None if chosen.class_weights is None else torch.tensor(chosen.class_weights)
        if self._weights is not None and not (bool((self._weights >= 0).all()) and bool(self._weights.any())):
            raise SettingError(
                f"[objective] class_weights = {list(chosen.class_weights or ())}: must not be negative, nor all zero"
            )
        # A subclass may have a loss or a score of its own.
        own_loss = type(self).loss is not Classification.loss
        self.plain = not self._smoothing and self._weights is None and not own_loss
        own_score = (type(self).sums, type(self).measured) != (Classification.sums, Classification.measured)
        self.counts_hits = self.plain and not own_score

    def targets(self, array: Array, *, source: str, key: str) -> Array:
        """Take class numbers (n,)."""
        if array.dtype.kind in "buif" and array.ndim != 1:
            raise DataError(
                f"{source}: '{key}' has shape {array.shape}; it must be (samples,), one class number each"
            )
        return whole(array, source=source, key=key, what="class numbers")

    def outputs(self, train: Array, test: Array) -> int:
        """Return the number of classes."""
        return max(int(max(train.max(), test.max())) + 1, 2)

    def shape(self, targets: Tensor, outputs: int) -> tuple[int, ...]:
        """Return (n, classes)."""
        if self._weights is not None and len(self._weights) != outputs:
            raise SettingError(
                f"[objective] class_weights: there are {len(self._weights)} for {outputs} classes"
            )
        return len(targets), outputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy; with class weights their weighted mean."""
        return cross_entropy(outputs, targets, weight=self._weight(outputs), label_smoothing=self._smoothing)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (weights, loss, samples, hits)."""
        weight = self._weight(outputs)
        total = cross_entropy(
            outputs, targets, weight=weight, label_smoothing=self._smoothing, reduction="sum"
        )
        hits = (outputs.argmax(1) == targets).sum()
        weights = len(targets) if weight is None else float(weight[targets].sum())
        return torch.tensor([weights, float(total), len(targets), int(hits)], dtype=torch.float64)

    def measured(self, sums: Tensor) -> Measured:
        """Return mean loss and accuracy."""
        weights, loss, samples, hits = sums.tolist()
        return Measured(loss / weights if weights else math.nan, hits / samples)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return accuracy, balanced accuracy, F1, AUC, recall per class and the confusion matrix (true, predicted)."""
        metrics = measures()
        measured = self.measured(self.sums(outputs, targets))
        classes = outputs.shape[1]
        truth, found = targets.cpu().numpy(), outputs.argmax(1).cpu().numpy()
        matrix = metrics.confusion_matrix(truth, found, labels=range(classes))
        counts = matrix.sum(1)
        recall = [
            float(hits / count) if count else None
            for hits, count in zip(matrix.diagonal(), counts, strict=True)
        ]
        there = [each for each in recall if each is not None]
        return {
            "loss": measured.loss,
            "accuracy": measured.score,
            "balanced_accuracy": sum(there) / len(there),
            "f1": float(metrics.f1_score(truth, found, average="macro", zero_division=0.0)),
            "auc": _auc(outputs.double().softmax(1).cpu().numpy(), truth, classes),
            "recall": recall,
            "confusion": matrix.tolist(),
            "samples": len(targets),
        }

    def chance(self, outputs: int) -> float:
        """Return ln(classes)."""
        return math.log(outputs)

    def predicted(self, outputs: Tensor) -> Tensor:
        """Return the class (n,)."""
        return outputs.argmax(1)

    def told(self, targets: Tensor, names: Names = ()) -> str:
        """Return e.g. ``3 classes: 0, 1, 5``."""
        classes = torch.unique(targets).tolist()
        shown = [names[label] if names else str(label) for label in classes[:CLASSES_TOLD]]
        named = ", ".join(shown) + ", …" * (len(classes) > CLASSES_TOLD)
        return f"{len(classes)} class{'es' if len(classes) > 1 else ''}: {named}"

    def _weight(self, like: Tensor) -> Tensor | None:
        return None if self._weights is None else self._weights.to(like.device, like.dtype)

    def _what(self, shape: tuple[int, ...]) -> str:
        return f"logits of shape {shape}"


def _auc(shares: Array, truth: Array, classes: int) -> float | None:
    """Return the area under the ROC curve, of one class against the rest in the mean; None where it is not defined."""
    metrics = measures()
    if len(set(truth.tolist())) < classes or not bool((shares == shares).all()):
        return None
    if classes == 2:
        return float(metrics.roc_auc_score(truth, shares[:, 1]))
    return float(metrics.roc_auc_score(truth, shares, multi_class="ovr", labels=range(classes)))
