"""At the engine: what hosts tell of their peers' homes, written into homes of its own, which the rest then reads.

A host is a machine of the user's; still it can write nothing but what a home holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from gossip.net.identity import IDENTITY_FILE
from scenarios.machines.outbox import CHECKPOINTS, GROWING
from scenarios.machines.speech import Garbled

FILE_BYTES_MAX = 64 << 30
"""Larger than any model that a node can hold."""


class Mirror:
    """Homes that are images of others.

    Args:
        homes: peer -> its home here; made anew.
    """

    def __init__(self, homes: Mapping[str, Path]) -> None:
        self._homes = homes
        for home in homes.values():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)

    def take(self, said: Mapping[str, Any], data: bytes, *, of: frozenset[str]) -> bool:
        """Write what a message tells, from a host that has the peers `of`; return whether it was about a file.

        Raises:
            Garbled: it is not about a file of these. OSError: it cannot be written.
        """
        kind = next((kind for kind in ("grown", "whole", "saved") if kind in said), None)
        if kind is None:
            return False
        name = said[kind]
        if name not in of:
            raise Garbled(f"a file of {name!r}, which is no peer there")
        home = self._homes[name]
        if kind == "saved":
            self._saved(home / CHECKPOINTS, said.get("files"))
        elif kind == "grown":
            self._grown(home, said, data)
        else:
            self._whole(home, said, data)
        return True

    def tidy(self) -> None:
        """Remove what only looks like a checkpoint, when nobody counts them any more."""
        for home in self._homes.values():
            shutil.rmtree(home / CHECKPOINTS, ignore_errors=True)

    def _grown(self, home: Path, said: Mapping[str, Any], data: bytes) -> None:
        if said.get("file") not in GROWING:
            raise Garbled(f"a growing file {said.get('file')!r}")
        path = home / str(said["file"])
        if said.get("anew"):
            # Under another inode, as the node itself has written it anew.
            beside = path.with_name(f".{path.name}.tmp")
            beside.write_bytes(data)
            beside.replace(path)
            return
        with path.open("ab") as file:
            file.write(data)

    def _whole(self, home: Path, said: Mapping[str, Any], data: bytes) -> None:
        path = home / _inside(str(said.get("file")))
        beside = path.with_name(f".{path.name}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb" if said.get("first") else "ab") as file:
            file.write(data)
            if file.tell() > FILE_BYTES_MAX:
                raise Garbled(f"a file of more than {FILE_BYTES_MAX >> 30} GiB")
        if said.get("last"):
            beside.replace(path)

    def _saved(self, folder: Path, files: object) -> None:
        """Leave empty files of the same names: how far each peer is; what is in them stays on its machine."""
        if not isinstance(files, list) or not all(isinstance(each, str) for each in files):
            raise Garbled("checkpoints without names")
        wanted = {str(_inside(each)) for each in files}
        if any("/" in each for each in wanted):
            raise Garbled("checkpoints in folders")
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.name not in wanted:
                path.unlink()
        for each in wanted:
            (folder / each).touch()


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    wrong = not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name
    if wrong or {IDENTITY_FILE, CHECKPOINTS} & set(path.parts) or len(name) > 200:
        raise Garbled(f"a file {name[:80]!r}")
    return path
