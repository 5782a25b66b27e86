"""On a host: what its peers have written since the last look, as messages to the engine. Keys are not among it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gossip.net.identity import IDENTITY_FILE
from gossip.storage.round_files import round_files
from scenarios.machines.speech import PIECE_BYTES_MAX, Said

GROWING = ("metrics.jsonl", "events.jsonl", "progress.jsonl", "node.log")
"""Lines are added to them while a node lives; one that resumes writes the first two anew."""

PRINTED = ("progress.jsonl", "node.log")

CHECKPOINTS, SNAPSHOTS = "checkpoints", "snapshots"


class Outbox:
    """One peer's home."""

    def __init__(self, name: str, home: Path) -> None:
        self._name = name
        self._home = home
        self._sent: dict[str, tuple[int, int]] = {}
        """Growing file -> (inode, bytes sent)."""
        self._saved: tuple[list[str], int] | None = None
        self._final: dict[Path, tuple[int, int]] = {}

    def look(self) -> Iterator[Said]:
        """Yield what is new while the node lives."""
        # Once a round is told of, its snapshot must be there: lines are read before snapshots, and sent after them.
        lines = [said for file in GROWING for said in self._grown(file)]
        for path in round_files(self._home / SNAPSHOTS).values():
            yield from self._whole(path)
            path.unlink()  # the engine's, from now on
        yield from lines
        yield from self._checkpoints()

    def begins_again(self) -> None:
        """Note that the node is about to be started: what it prints is another file then, under the same name."""
        for file in PRINTED:
            self._sent[file] = -1, 0

    def last_look(self) -> Iterator[Said]:
        """Yield what is new now that the node has ended, and every other file that it has left."""
        yield from self.look()
        for path in sorted(self._home.rglob("*")):
            inside = path.relative_to(self._home)
            stays = {IDENTITY_FILE, ".lock", CHECKPOINTS, SNAPSHOTS, *GROWING}
            if stays & set(inside.parts) or path.is_symlink() or not path.is_file():
                continue
            found = path.stat()
            stamp = found.st_ino, found.st_mtime_ns
            if self._final.get(path) != stamp:
                self._final[path] = stamp
                yield from self._whole(path)

    def _grown(self, file: str) -> Iterator[Said]:
        try:
            opened = (self._home / file).open("rb")
        except OSError:
            return
        with opened:
            inode = os.fstat(opened.fileno()).st_ino
            before, sent = self._sent.get(file, (inode, 0))
            anew = before != inode or os.fstat(opened.fileno()).st_size < sent
            opened.seek(0 if anew else sent)
            while piece := opened.read(PIECE_BYTES_MAX):
                yield {"grown": self._name, "file": file, "anew": anew}, piece
                anew = False
            if not anew:
                self._sent[file] = inode, opened.tell()

    def _whole(self, path: Path) -> Iterator[Said]:
        said = {"whole": self._name, "file": path.relative_to(self._home).as_posix()}
        with path.open("rb") as file:
            first = True
            while True:
                piece = file.read(PIECE_BYTES_MAX)
                last = len(piece) < PIECE_BYTES_MAX
                yield {**said, "first": first, "last": last}, piece
                if last:
                    return
                first = False

    def _checkpoints(self) -> Iterator[Said]:
        folder = self._home / CHECKPOINTS
        try:
            stamp = folder.stat().st_mtime_ns
        except OSError:
            return
        if self._saved is None or self._saved[1] != stamp:
            names = [path.name for path in round_files(folder).values()]
            self._saved = names, stamp
            told: dict[str, Any] = {"saved": self._name, "files": names}
            yield told, b""
