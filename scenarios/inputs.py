"""Which files a scenario names, and what they say: a finished run, or a run elsewhere, is that of the same files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path

from gossip import plugins, user_files

COMPARED_BYTES_MAX = 1 << 30
"""A larger file is compared by its size alone: reading it would take longer than many a run."""


def named_files(tables: object) -> dict[str, str]:
    """Return path -> content, in short, of every file and folder that resolved settings name and that is here.

    With a user's Python come the modules beside it that it imports. Of a folder names and sizes count.
    """
    return {str(path): _content(path) for path in sorted(set(_named(tables))) if os.path.exists(path)}


def missing_file(files: Mapping[str, str]) -> str | None:
    """Return in words which of these files this machine does not have as they are elsewhere; None: it has them all."""
    for name, content in files.items():
        path = Path(name)
        kind = "folder" if os.path.isdir(path) else "file"
        if not os.path.exists(path):
            return f"it has no {kind} {name}, which the scenario names"
        if _content(path) != content:
            return f"its {kind} {name}, which the scenario names, is another than here"
    return None


def _named(value: object) -> Iterator[Path]:
    """Yield every path that stands in resolved settings: those are absolute."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _named(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _named(each)
    elif plugins.is_user_code(value):
        path = Path(str(value).removeprefix(plugins.PREFIX).rpartition(":")[0])
        yield from user_files.files(path)
    elif isinstance(value, str) and value.startswith(os.sep) and "\n" not in value and len(value) < 4096:
        yield Path(value)


def _content(path: Path) -> str:
    try:
        return _said(path)
    except OSError:
        return "cannot be read"  # which whoever reads it says in a sentence


def _said(path: Path) -> str:
    if path.is_dir():
        there = sorted(each for each in path.rglob("*") if each.is_file())
        listed = (f"{each.relative_to(path).as_posix()}\t{each.stat().st_size}\n" for each in there)
        return sha256("".join(listed).encode()).hexdigest()
    found = path.stat()
    if found.st_size > COMPARED_BYTES_MAX:
        return f"{found.st_size} bytes"
    return _digest(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1000)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    """Read a file once for all runs of a sweep."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
