"""What is read off the runs of `modest.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

MODELS = ("modest-train", "modest-aggregate")


def accuracy_at_end(result: dict[str, Any]) -> float:
    return max(point["accuracy_mean"] for point in result["curve"][-5:])


def best_accuracy(result: dict[str, Any]) -> float:
    return float(max(point["accuracy_mean"] for point in result["curve"]))


def first_at(result: dict[str, Any], target: float) -> dict[str, Any] | None:
    return next((point for point in result["curve"] if point["accuracy_mean"] >= target), None)


def gaps(result: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.diff([point["time"] for point in result["curve"]])


def shown(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())
