"""This machine's own series, cut into windows of a day and the value that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "data"
WINDOW = 24
TEST = 0.2
MEAN, STD = 20.0, 6.0
"""About those of all sensors, agreed on by all: values are learnt in this unit."""


def load(sensor: int = 0) -> dict[str, Any]:
    """Return the windows of one sensor: the first to learn from, and of the last fifth of the time those to test on.

    Windows overlap, so test samples drawn from all over the series would be nearly known.
    """
    x, y = windows(FOLDER / f"sensor-{sensor}.csv")
    first = round((1 - TEST) * len(y))
    return {
        "x_train": x[:first],
        "y_train": y[:first],
        "x_test": x[first + WINDOW :],  # they share no value with the others
        "y_test": y[first + WINDOW :],
    }


def unseen() -> dict[str, Any]:
    """Return all windows of the sensor that nobody learns from."""
    x, y = windows(FOLDER / "new.csv")
    return {"x": x, "y": y}


def windows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return windows (n, WINDOW, 1) of a series, and the value after each (n,)."""
    values = (np.loadtxt(path, dtype=np.float32) - MEAN) / STD
    cut = np.lib.stride_tricks.sliding_window_view(values, WINDOW + 1)
    return cut[:, :-1, None], cut[:, -1]
