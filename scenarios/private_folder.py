"""Temporary folders with keys in them: gone with their maker, or, where that was killed, once the next one is made."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELD = ".held"
"""In such a folder, locked by its maker; the system lets go of the lock when that ends, however it ends."""


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """Have a folder that only its owner may open; first remove those of that prefix whose makers were killed."""
    _remove_left(prefix)
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = Path(name)
        held = _hold(folder)
        try:
            yield folder
        finally:
            os.close(held)


def _hold(folder: Path) -> int:
    """Return the descriptor of the folder's lock, which is held before others can find it."""
    beside = folder / f"{HELD}.tmp"
    held = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    beside.replace(folder / HELD)
    return held


def _remove_left(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            held = os.open(folder / HELD, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # it has just been made, or has just gone
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody works there
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
