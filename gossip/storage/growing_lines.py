"""A JSON-lines file that another thread or process writes, read as it grows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

LINE_BYTES_MAX = 1 << 20
"""A measurement is a few hundred bytes; a longer line without an end is a torn file."""


class GrowingLines:
    """New complete lines of a JSON-lines file, each time it is asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode: int | None = None
        self.replaced = False
        """Whether the last call found another file than the one before: a peer that resumes writes its file anew."""

    def new(self) -> list[dict[str, Any]]:
        """Return the objects appended since the last call; what is no object is left out."""
        try:
            with self._path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                self.replaced = self._inode not in (None, inode)
                if self.replaced:
                    self._offset = 0
                self._inode = inode
                file.seek(self._offset)
                read = file.read()
        except OSError:
            return []
        whole, _, rest = read.rpartition(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            whole, rest = read, b""
        self._offset += len(read) - len(rest)
        return [entry for line in whole.splitlines() if (entry := _parsed(line)) is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
