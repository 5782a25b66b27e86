"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def temporary(path: Path) -> Path:
    """Return where a file is written before it gets its name; a killed process leaves it there."""
    return path.with_name(f".{path.name}.tmp")


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file through a temporary one in the same folder: write, fsync, rename, fsync the folder.

    Without `durable` the file is still whole or absent for every reader, but a power cut may lose it.
    """
    beside = temporary(path)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    beside.replace(path)
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
