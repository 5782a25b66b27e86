"""What can go wrong with a run beside a user's mistake."""

from __future__ import annotations

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


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Take a signal as a Ctrl-C."""
    raise KeyboardInterrupt
