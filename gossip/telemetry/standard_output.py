"""Standard output kept for results: what a script reads of ``--json`` is ours alone, whoever else prints.

A user's model may print, a library may write in C, a child process inherits the descriptor. Within `kept` all of that
goes to standard error.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_kept: TextIO | None = None


@contextmanager
def kept(when: bool = True) -> Iterator[None]:
    """Let nothing but `write` reach standard output, where `when`."""
    global _kept
    if not when or _kept is not None:
        yield
        return
    before = sys.stdout
    before.flush()
    with contextlib.ExitStack() as undo:
        _kept = undo.enter_context(_own_descriptor()) if _is_descriptor_1(before) else before
        sys.stdout = sys.stderr
        try:
            yield
        finally:
            _kept.flush()
            _kept, sys.stdout = None, before


def write(text: str) -> None:
    """Write to standard output, kept or not.

    Raises:
        OSError: nobody takes it.
    """
    stream = sys.stdout if _kept is None else _kept
    stream.write(text)
    stream.flush()


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, io.UnsupportedOperation):
        return False


@contextmanager
def _own_descriptor() -> Iterator[TextIO]:
    """Yield a stream to where descriptor 1 leads, which leads to standard error meanwhile."""
    with os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors) as stream:
        os.dup2(2, 1)
        try:
            yield stream
        finally:
            with contextlib.suppress(OSError):
                stream.flush()
            os.dup2(stream.fileno(), 1)
