"""The number that stands for how well a model does, and how records and people are told of it. Free of torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

LABELS = {"r2": "R²", "f1": "F1", "auc": "AUC"}
"""What people call what records call otherwise."""


class Measured(Protocol):
    """How a model does on some samples."""

    @property
    def loss(self) -> float:
        """Mean."""

    @property
    def score(self) -> float:
        """As the objective scores."""

    @property
    def samples(self) -> int:
        """How many there were."""


class Score(NamedTuple):
    """The number that stands for how well a model does."""

    name: str
    """As records call it."""
    higher_is_better: bool = True
    percent: bool = False
    """A share, shown as one."""

    def better(self, one: float, other: float) -> bool:
        """Return whether `one` is better than `other`; nothing is better than NaN, and NaN than nothing."""
        return one > other if self.higher_is_better else one < other

    def worst(self, values: Sequence[float]) -> float | None:
        """Return the worst of them; None of none."""
        if not values:
            return None
        return min(values) if self.higher_is_better else max(values)

    @property
    def label(self) -> str:
        """As people are told of it."""
        return LABELS.get(self.name, self.name)

    def told(self, value: float | None) -> str:
        """Return e.g. ``95.2 %`` or ``0.482``."""
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if self.percent else f"{value:.4g}"

    def spread(self, value: float | None) -> str:
        """Return a standard deviation in the score's own unit: points of a hundred of a share."""
        if value is None:
            return "–"
        return f"{100 * value:.1f}" if self.percent else f"{value:.2g}"

    def recorded(self, value: float | None) -> dict[str, Any]:
        """Return ``{"score": …, "accuracy": …}``; accuracy is null where that is not what is scored."""
        finite = value if value is not None and math.isfinite(value) else None
        return {"score": finite, ACCURACY.name: finite if self.name == ACCURACY.name else None}

    def recorded_own(self, own: Measured | None) -> dict[str, Any]:
        """Return ``{"own_score": …, …}`` of what was measured on own test samples; {} where there are none."""
        if own is None:
            return {}
        score = {f"own_{key}": value for key, value in self.recorded(own.score).items()}
        loss = own.loss if math.isfinite(own.loss) else None
        return {**score, "own_test_loss": loss, "own_test_samples": own.samples}


ACCURACY = Score("accuracy", percent=True)


def score_in(record: Mapping[str, Any]) -> Score:
    """Return what a summary says that its score is; an older one knows accuracies only."""
    said = record.get("objective")
    return ACCURACY if said is None else Score(**said)


def with_score(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of an older run as it would be written today: its accuracies are scores, too."""
    added: dict[str, Any] = {}
    for key, name in _accuracies(tuple(record)):
        if name not in record:
            value = record[key]
            added[name] = {**value, "worst": value["min"]} if isinstance(value, Mapping) else value
    if isinstance(record.get("curve"), list):
        added["curve"] = [with_score(point) for point in record["curve"]]
    return {**record, **added}


@functools.lru_cache(64)
def _accuracies(keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return which of them speak of accuracies, and what they are called where scores may be others."""
    return tuple((key, key.replace("accuracy", "score")) for key in keys if "accuracy" in key)
