"""Handwritten digits that come with the package, so that a node learns something before it has data of its own.

Optical Recognition of Handwritten Digits, its test set (E. Alpaydin, C. Kaynak: UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49; CC BY 4.0), the same numbers as `sklearn.datasets.load_digits`, packed as whole numbers.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossip import seeding

Array = npt.NDArray[Any]

TEST_SAMPLES = 400
"""Of 1797 digits; the split is one for all runs and seeds, so that accuracies can be compared."""


PACKED = Path(__file__).with_name("digits.npz")


def digits() -> dict[str, Array]:
    """Return the handwritten digits: 1397 training and 400 test images (1, 8, 8) in [0, 1]."""
    x, y = _all_digits()
    order = seeding.generator(0, "digits split").permutation(len(y))
    test, train = order[:TEST_SAMPLES], order[TEST_SAMPLES:]
    # Copies, every time: what is kept for the next run is changed by none.
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


def images_and_labels() -> tuple[Array, Array]:
    """Return all images (1797, 1, 8, 8) in [0, 1] and their labels (1797,), undivided."""
    x, y = _all_digits()
    return x.copy(), y.copy()


@cache
def _all_digits() -> tuple[Array, Array]:
    """Return images (1797, 1, 8, 8) in [0, 1] and labels; read once in a process that does many runs."""
    with np.load(PACKED, allow_pickle=False) as packed:
        return packed["images"].astype(np.float32)[:, None] / 16, packed["labels"].astype(np.int64)
