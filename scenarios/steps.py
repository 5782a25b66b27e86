"""What a run is doing before its first round: said where it is done, heard by whoever shows progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _nobody(what: str) -> None:
    """Hear nothing."""


_heard: ContextVar[Callable[[str], None]] = ContextVar("heard", default=_nobody)


def doing(what: str) -> None:
    """Say what begins now, e.g. "dividing the data among 20 peers"."""
    _heard.get()(what)


@contextmanager
def heard(by: Callable[[str], None]) -> Iterator[None]:
    """Have `by` told of what is done inside."""
    token = _heard.set(by)
    try:
        yield
    finally:
        _heard.reset(token)
