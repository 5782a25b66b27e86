"""This machine's own rows: scikit-learn's diabetes data, of which each of three sites has a third."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes

TEST = 100
MEAN, STD = 150.0, 75.0
"""About those of the targets, agreed on by all: what is learnt has about unit size, and errors are counted in STD."""


def load(piece: int | None = None, pieces: int = 3) -> dict[str, Any]:
    """Return the rows to learn from and those to test on: progression in a year, from ten measurements at its start.

    Args:
        piece: only this piece (0, 1, …) of the rows to learn from; default: all.
        pieces: how many pieces there are.
    """
    x, y = load_diabetes(
        return_X_y=True
    )  # x (442, 10): each column has mean 0 and length 1; y from 25 to 346
    x, y = x * np.sqrt(len(x)), (y - MEAN) / STD
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[:TEST], order[TEST:]
    if piece is not None:
        if not 0 <= piece < pieces:
            raise ValueError(f"piece = {piece}: valid are 0 to {pieces - 1}")
        train = train[piece::pieces]
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
