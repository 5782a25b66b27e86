"""This machine's own rows: `[data] source = "python:data.py:load"` has every node call `load` on its own machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from gossip.learning.data.digits import images_and_labels


def load(piece: int | None = None, pieces: int = 3) -> dict[str, Any]:
    """Return the rows to learn from and those to test on, as four arrays; they never leave this machine.

    Args:
        piece: try things out on one machine: only this piece (0, 1, …) of the rows to learn from; default: all.
        pieces: how many pieces there are.
    """
    # ----- your own rows, in place of these lines -----------------------------------------------------------------
    # x: real numbers (rows, features…), of about unit size; y: class numbers 0, 1, 2, … (rows,)
    x, y = images_and_labels()  # x (1797, 1, 8, 8) from 0 to 1, y (1797,)
    x = x.reshape(len(x), -1)
    # --------------------------------------------------------------------------------------------------------------
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    if piece is not None:
        if not 0 <= piece < pieces:
            raise ValueError(f"piece = {piece}: valid are 0 to {pieces - 1}")
        train = train[piece::pieces]
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
