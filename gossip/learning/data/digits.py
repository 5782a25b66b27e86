"""scikit-learn's handwritten digits, which need no file."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gossip import seeding

Array = npt.NDArray[Any]

TEST_SAMPLES = 400
"""Of 1797 digits; the split is one for all runs and seeds, so that accuracies can be compared."""


def digits() -> dict[str, Array]:
    """Return scikit-learn's handwritten digits: 1397 training and 400 test images (1, 8, 8) in [0, 1]."""
    x, y = _all_digits()
    order = seeding.generator(0, "digits split").permutation(len(y))
    test, train = order[:TEST_SAMPLES], order[TEST_SAMPLES:]
    # Copies, every time: what is kept for the next run is changed by none.
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


@cache
def _all_digits() -> tuple[Array, Array]:
    """Return images (1797, 1, 8, 8) in [0, 1] and labels; parsed once in a process that does many runs."""
    from sklearn.datasets import load_digits  # a second of import that other data does not need

    bunch = load_digits()
    return bunch.images.astype(np.float32)[:, None] / 16, bunch.target.astype(np.int64)
