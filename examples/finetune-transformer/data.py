"""This site's own sentences of made-up words: which of two moods has more words in each?"""

from __future__ import annotations

from typing import Any

import numpy as np

WORDS, LENGTH = 64, 16
SITES, SAMPLES, TEST = 3, 300, 300


def load(site: int = 0) -> dict[str, Any]:
    """Return sentences (n, LENGTH) of word numbers and their moods, 0 or 1; the words of a site are mostly its own."""
    if not 0 <= site < SITES:
        raise ValueError(f"site = {site}: valid are 0 to {SITES - 1}")
    x_train, y_train = drawn(np.random.default_rng(site), SAMPLES, site)
    x_test, y_test = drawn(np.random.default_rng(99), TEST, None)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def drawn(rng: np.random.Generator, count: int, site: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return sentences; words 0 to 31 are of mood 0, the others of mood 1, and each site has a third of either."""
    moods = rng.integers(2, size=count)
    of_mood = rng.random((count, LENGTH)) < np.where(moods == 1, 0.8, 0.2)[:, None]
    words = rng.integers(WORDS // 2, size=(count, LENGTH))
    if site is not None:
        words = np.where(rng.random(words.shape) < 0.8, words - words % SITES + site, words) % (WORDS // 2)
    return words + of_mood * (WORDS // 2), moods
