"""What can go wrong with a run beside a user's mistake."""

from __future__ import annotations

from pathlib import Path
from types import FrameType
from typing import NoReturn

from gossip.errors import ExitCode, GossipError, UserError

FAILED = 1
"""Exit code of a run that began and could not be finished."""


class RunFailed(GossipError):
    """A peer or the engine failed; one sentence that says which and where its log is."""


class Interrupted(UserError):
    """The user has stopped the run."""

    exit_code = ExitCode.INTERRUPTED


class Stopped(KeyboardInterrupt):
    """A run was stopped by the user, and what it had measured is kept.

    Args:
        told: what it had come to, as one line.
        path: the file with the summary so far.
    """

    def __init__(self, told: str, path: Path) -> None:
        super().__init__(told)
        self.told = told
        self.path = path


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Take a signal as a Ctrl-C."""
    raise KeyboardInterrupt
