"""Samples in a numpy archive: read, or memory-mapped where they are stored as they are (`np.savez`)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gossip.errors import DataError
from gossip.learning import user_code
from gossip.learning.data import rows
from gossip.learning.data.arrays import KEYS, PAIR
from gossip.learning.data.npy import header

Array = npt.NDArray[Any]

LOCAL_HEADER_BYTES = 30
"""Before the name of a member, in the archive; two numbers of two bytes at its end tell how long name and extra are
(APPNOTE 6.3.10, section 4.3.7)."""


def read_npz(path: Path, *, mapped: bool | Literal["auto"] = False) -> dict[str, Array]:
    """Return the four arrays of `path`, or `x` and `y`.

    Args:
        path: the archive.
        mapped: samples are memory-mapped: all, none, or what is large.

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
                return {key: _member(archive, path, key, mapped) for key in keys}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as failure:
        # numpy takes what it does not know for a pickle, and advises to run it.
        reason = "no archive" if "allow_pickle" in str(failure) else user_code.one_line(failure)
        raise DataError(f"{path} is not a readable .npz archive: {reason}") from failure


def _member(archive: Any, path: Path, key: str, mapped: bool | Literal["auto"]) -> Array:
    if key not in archive:
        raise DataError(
            f"{path} has no array '{key}'; it needs {', '.join(KEYS)}, or x and y, and has {_listed(archive.files)}"
        )
    try:
        found = _mapped(archive.zip, path, key, mapped) if mapped and key.startswith("x") else None
        return np.asarray(archive[key]) if found is None else found
    except (ValueError, zipfile.BadZipFile, EOFError, OSError, MemoryError) as failure:
        reason = "holds Python objects" if "allow_pickle" in str(failure) else user_code.one_line(failure)
        raise DataError(f"{path}: array '{key}' cannot be read: {reason}") from failure


def _mapped(archive: zipfile.ZipFile, path: Path, key: str, mapped: bool | Literal["auto"]) -> Array | None:
    """Return a member mapped; None where it is to be read: it is small, or cannot be mapped and need not."""
    try:
        member = archive.getinfo(f"{key}.npy")
    except KeyError:  # saved without numpy; told where it is read
        return None
    with archive.open(member) as content:
        shape, columns_first, dtype = header(content)
        begin = content.tell()
    if dtype.hasobject or 0 in shape or not rows.stay(shape, mapped):
        return None
    if member.compress_type != zipfile.ZIP_STORED:
        if mapped == "auto":
            return None
        raise DataError(
            f"{path}: array '{key}' is compressed, and [data] mapped = true needs it as it is: np.savez writes it so"
        )
    assert archive.fp is not None
    archive.fp.seek(member.header_offset)
    local = archive.fp.read(LOCAL_HEADER_BYTES)
    before = LOCAL_HEADER_BYTES + sum(int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
    return np.memmap(
        path,
        dtype=dtype,
        mode="r",
        offset=member.header_offset + before + begin,
        shape=shape,
        order="F" if columns_first else "C",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) or "none"
