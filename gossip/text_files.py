"""A user's text file: read, or refused with one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossip.errors import SettingError


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what can go wrong with reading `path` within into a `SettingError`."""
    try:
        yield
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 text (byte {error.start})") from None


def numbered_lines(path: Path, *, empty: bool = False) -> Iterator[tuple[int, str]]:
    """Return the lines that are no comments (#), and not empty unless `empty` says so, each with its number from 1.

    Raises:
        SettingError: the file cannot be read.
    """
    with readable(path):
        text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if (empty or line.strip()) and not line.lstrip().startswith("#"):
            yield number, line
