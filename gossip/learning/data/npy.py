"""Samples in a folder of numpy's files: one array each, of which those of samples are memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data.arrays import KEYS, PAIR, Array


def is_of_arrays(folder: Path) -> bool:
    """Return whether a folder holds samples as arrays."""
    return any((folder / f"{key}.npy").is_file() for key in ("x_train", "x"))


def read_npy(folder: Path) -> dict[str, Array]:
    """Return the four arrays of ``folder/x_train.npy`` and so on, or `x` and `y`; samples mapped, targets read.

    Raises:
        DataError: one sentence naming the file.
    """
    keys = KEYS if (folder / "x_train.npy").is_file() else PAIR
    return {key: _array(folder / f"{key}.npy", keys) for key in keys}


def _array(path: Path, keys: tuple[str, ...]) -> Array:
    if not path.is_file():
        raise DataError(
            f"{path.parent} has no {path.name}; it needs {', '.join(f'{key}.npy' for key in keys)}"
        )
    try:
        if path.name.startswith("x"):
            return mapped(path)
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (ValueError, EOFError, OSError, MemoryError) as failure:
        said = "allow_pickle" in str(failure) or "Python objects" in str(failure)
        reason = "it holds Python objects" if said else user_code.one_line(failure)
        raise DataError(f"{path} is not a readable .npy file: {reason}") from failure


def mapped(path: Path) -> Array:
    """Return the array of a .npy file, mapped; an empty one has nothing to be mapped.

    Raises:
        ValueError: it is none, is cut, or holds Python objects.
    """
    with path.open("rb") as file:
        shape, _, dtype = header(file)
        if dtype.hasobject or 0 in shape:
            file.seek(0)
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    return np.lib.format.open_memmap(path, mode="r")


def header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether columns come first, and dtype of an array, and leave `file` where its numbers begin."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
