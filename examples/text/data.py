"""This machine's own text, letter by letter: windows of it, and at each place the letter that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "data"
LETTERS = " .abcdefghijklmnopqrstuvwxyz"
"""The tokens, in the order of their numbers; other characters are left out."""
WINDOW = 32
TEST = 0.1


def load(site: int = 0) -> dict[str, Any]:
    """Return windows of one site's text: the beginning to learn from, the last tenth to test on."""
    x, y = windows(FOLDER / f"site-{site}.txt")
    first = round((1 - TEST) * len(x))
    return {"x_train": x[:first], "y_train": y[:first], "x_test": x[first:], "y_test": y[first:]}


def unseen() -> dict[str, Any]:
    """Return windows of a text that nobody learns from."""
    x, y = windows(FOLDER / "test.txt")
    return {"x": x, "y": y}


def windows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens (n, WINDOW), and those one place further (n, WINDOW)."""
    text = path.read_text(encoding="utf-8").lower()
    tokens = np.array([LETTERS.index(letter) for letter in text if letter in LETTERS])
    count = (len(tokens) - 1) // WINDOW
    return (
        tokens[: count * WINDOW].reshape(count, WINDOW),
        tokens[1 : count * WINDOW + 1].reshape(count, WINDOW),
    )
