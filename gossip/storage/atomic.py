"""Files that are there whole or not at all, also after a power cut.

A temporary file beside the wanted one is written, synced, and renamed; then the folder is synced, without which a power
cut may still undo the rename. Whatever fails on the way, the temporary file goes: on a disk without room it would take
the last of it. Only a killed process leaves one; `clean` removes it at the next start.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

Piece: TypeAlias = bytes | bytearray | memoryview

_PREFIX, _SUFFIX = ".", ".tmp"


def temporary(path: Path) -> Path:
    """Return where a file is written before it gets its name; a killed process leaves it there."""
    return path.with_name(f"{_PREFIX}{path.name}{_SUFFIX}")


def write_atomically(path: Path, data: Piece | Iterable[Piece], *, durable: bool = True) -> None:
    """Write a file through a temporary one in the same folder: write, fsync, rename, fsync the folder.

    `data` may come in pieces, which are written one after the other and never put together. Without `durable` the file
    is still whole or absent for every reader, but a power cut may lose it.

    Raises:
        OSError: it could not be written; what `path` held before is still there, and no temporary file is left.
    """
    beside = temporary(path)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in (data,) if isinstance(data, Piece) else data:
                file.write(piece)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clean(folder: Path) -> int:
    """Remove what killed processes were writing into `folder`; return how many files that were.

    Only for whoever has the folder to itself: another process' temporary files are no leftovers.
    """
    removed = 0
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed
