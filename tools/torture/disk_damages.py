"""What can be done to the home of a node, and what may come of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

USAGE, FOREIGN, INTERRUPTED = 2, 5, 130
GOES_ON = 0


class NotPossible(Exception):
    """This machine does not let us try it."""


@dataclass(frozen=True)
class Case:
    """A damage, and what may come of it."""

    name: str
    damage: Callable[[Path], None]
    may: tuple[int, ...]
    """Exit codes, or `GOES_ON`."""
    undo: Callable[[Path], None] = lambda home: None
    says: str = ""
    """Words that its sentence holds."""


def newest(home: Path) -> Path:
    """Return the newest checkpoint."""
    return max((home / "checkpoints").glob("round-*.safetensors"))


def flip(at: Callable[[bytes], int]) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        path = newest(home)
        data = bytearray(path.read_bytes())
        data[at(data)] ^= 0x15
        path.write_bytes(data)

    return damage


def vector_starts(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def cut(to: Callable[[int], int]) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        path = newest(home)
        path.write_bytes(path.read_bytes()[: to(path.stat().st_size)])

    return damage


def append(home: Path) -> None:
    with newest(home).open("ab") as file:
        file.write(b"\0")


def version(home: Path) -> None:
    path = newest(home)
    data = path.read_bytes()
    path.write_bytes(re.sub(rb"gossip-checkpoint-\d", b"gossip-checkpoint-9", data))


def from_n1(home: Path) -> None:
    theirs = newest(home.parent / "n1")
    for path in (home / "checkpoints").iterdir():
        path.unlink()
    shutil.copy(theirs, home / "checkpoints" / theirs.name)


def file(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda home: (home / name).write_bytes(data) and None  # type: ignore[func-returns-value]


def nonsense_line(home: Path) -> None:
    path = home / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    nonsense = b'\xff\xfe nonsense\n[1]\nnull\n7\n{"round": "many"}\n{"round": null}\n{}\n'
    path.write_bytes(b"".join([*lines[:1], nonsense, *lines[1:], b'{"torn']))


def folder(name: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        (path / "in it").mkdir(parents=True)

    return damage


def pipe(name: str) -> Callable[[Path], None]:
    def damage(home: Path) -> None:
        (home / name).unlink(missing_ok=True)
        os.mkfifo(home / name)

    return damage


def immutable(name: str = "") -> tuple[Callable[[Path], None], Callable[[Path], None]]:
    def change(sign: str) -> Callable[[Path], None]:
        def do(home: Path) -> None:
            _attribute(f"{sign}i", home / name)

        return do

    return change("+"), change("-")


def _attribute(change: str, path: Path) -> None:
    try:
        subprocess.run(["chattr", change, str(path)], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotPossible("chattr is not allowed") from error


def busy_socket(home: Path) -> None:
    # A socket file that a crashed node left behind.
    with socket.socket(socket.AF_UNIX) as left, contextlib.suppress(OSError):
        left.bind(str(home / "status.sock"))
