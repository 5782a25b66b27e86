"""Samples in a numpy archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data.arrays import KEYS, PAIR

Array = npt.NDArray[Any]


def read_npz(path: Path) -> dict[str, Array]:
    """Return the four arrays of `path`, or `x` and `y`.

    Raises:
        DataError: one sentence naming file and array.
    """
    if not path.is_file():
        raise DataError(f"[data] source: there is no file {path}")
    try:
        # Opened here: numpy leaves its own file open where the archive is cut.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{path} holds a single array; an .npz archive with {', '.join(KEYS)} is needed"
                )
            with archive:
                keys = PAIR if "x" in archive and not set(KEYS) & set(archive.files) else KEYS
                return {key: _member(archive, path, key) for key in keys}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as failure:
        raise DataError(f"{path} is not a readable .npz archive: {user_code.one_line(failure)}") from failure


def _member(archive: Any, path: Path, key: str) -> Array:
    if key not in archive:
        raise DataError(
            f"{path} has no array '{key}'; it needs {', '.join(KEYS)}, or x and y, and has {_listed(archive.files)}"
        )
    try:
        return np.asarray(archive[key])
    except (ValueError, zipfile.BadZipFile, EOFError, OSError, MemoryError) as failure:
        reason = "holds Python objects" if "allow_pickle" in str(failure) else user_code.one_line(failure)
        raise DataError(f"{path}: array '{key}' cannot be read: {reason}") from failure


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) or "none"
