"""Temporary folders with keys in them: gone with their maker, or, where that was killed, once the next one is made."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELD = ".held"
"""In such a folder, locked by its maker; the system lets go of the lock when that ends, however it ends. It is removed
last: whoever is killed while removing leaves a folder that the next one finds."""


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
            _emptied(folder)
            if held is not None:
                os.close(held)


def _hold(folder: Path) -> int | None:
    """Return the descriptor of the folder's lock, which is held before others can find it.

    None where the file system has no locks: then nobody removes the folder but its maker.
    """
    beside = folder / f"{HELD}.tmp"
    held = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        beside.unlink()
        return None
    beside.replace(folder / HELD)
    return held


def _emptied(folder: Path) -> bool:
    """Remove all but the lock; return whether that is all there is now."""
    try:
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != HELD:
                entry.unlink(missing_ok=True)
        return all(entry.name == HELD for entry in folder.iterdir())
    except OSError:
        return False


def _remove_left(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            held = os.open(folder / HELD, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # it has just been made, or has just gone
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody works there
        else:
            if _emptied(folder):  # else a node of the killed one still writes
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)
