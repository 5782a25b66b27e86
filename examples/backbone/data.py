"""This site's own images, digits from 5 to 9, and its own question about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

QUESTIONS = {"is it even?": (6, 8), "is it more than 7?": (8, 9), "has it a loop?": (6, 8, 9)}
SITES = len(QUESTIONS)
SAMPLES = 60
"""That a site has to learn from."""
TEST = 300


def load(site: int = 0) -> dict[str, Any]:
    """Return images (n, 1, 8, 8) with the answers, 0 or 1, to the question of a site."""
    if not 0 <= site < SITES:
        raise ValueError(f"site = {site}: valid are 0 to {SITES - 1}")
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(np.flatnonzero(digits >= 5))
    x = images[order].astype(np.float32).reshape(-1, 1, 8, 8) / 16
    y = np.isin(digits[order], list(QUESTIONS.values())[site]).astype(np.int64)
    own = slice(TEST + site * SAMPLES, TEST + (site + 1) * SAMPLES)
    return {"x_train": x[own], "y_train": y[own], "x_test": x[:TEST], "y_test": y[:TEST]}
