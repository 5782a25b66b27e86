"""Which rounds a folder has files of, checkpoints or snapshots, while others write, move or remove them."""

from __future__ import annotations

import os
from pathlib import Path

PREFIX, SUFFIX = "round-", ".safetensors"

DIGITS_MAX = 20
"""A longer number is nobody's round."""


def round_files(folder: Path) -> dict[int, Path]:
    """Return round -> file, in their order; nothing where there is no such folder, or none any more."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    numbers = {name: name.removeprefix(PREFIX).removesuffix(SUFFIX) for name in names}
    found = {
        int(number): folder / name
        for name, number in numbers.items()
        if number.isascii()
        and number.isdecimal()
        and len(number) < DIGITS_MAX
        and name == f"{PREFIX}{number}{SUFFIX}"
    }
    return dict(sorted(found.items()))
