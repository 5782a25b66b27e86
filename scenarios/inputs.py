"""Which files a scenario reads, and what they say: a finished run is that of the files that it was done with."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gossip import plugins
from scenarios.scenario import ScenarioSettings

WHOLE_BYTES_MAX = 1 << 30
"""Of a larger file its size is taken, with so much of its beginning and its end:"""
END_BYTES = 16 << 20


def inputs_of(scenario: ScenarioSettings) -> dict[str, str]:
    """Return 16 hex digits for what each file says that the settings name, by its absolute path.

    A user's Python has the modules beside it that it imports with it. Of a folder names and sizes count.
    """
    return dict(sorted(_inputs(scenario.as_file())))


def _inputs(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _inputs(each)
    elif plugins.is_user_code(value):
        yield value.removeprefix(plugins.PREFIX).rpartition(":")[0], plugins.content_of(value)
    elif isinstance(value, str) and Path(value).is_absolute():
        said = _said(Path(value))
        if said is not None:
            yield value, said


def _said(path: Path) -> str | None:
    try:
        if path.is_dir():
            there = [each for each in sorted(path.rglob("*")) if each.is_file()]
            names = "\n".join(f"{each.relative_to(path).as_posix()}\t{each.stat().st_size}" for each in there)
            return hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
        found = path.stat()
        return _digest(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return None  # that it cannot be read is said by whoever reads it


@functools.lru_cache(1024)
def _digest(path: Path, size: int, changed_ns: int) -> str:
    del changed_ns  # one of the names under which the digest is kept
    state = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as file:
        if size <= WHOLE_BYTES_MAX:
            while piece := file.read(1 << 20):
                state.update(piece)
        else:
            state.update(file.read(END_BYTES))
            file.seek(size - END_BYTES)
            state.update(file.read(END_BYTES))
    return state.hexdigest()
