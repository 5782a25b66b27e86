"""The seam of experiment loggers: whoever else is to have a run's measurements."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossip import plugins
from gossip.errors import SettingError, UserError
from gossip.settings import Choice


class Logger(abc.ABC):
    """Takes measurements as they are made. Whatever it raises is logged and counted, and ends nothing.

    A node has one, called in a thread of its own: learning does not wait for it. So has a run in the virtual engine,
    for all honest peers.

    Args:
        settings: of `[logger]`.
        folder: the node's home, or the run folder.
    """

    def __init__(self, settings: Any, *, folder: Path) -> None:
        self.settings = settings
        self.folder = folder

    def begin(self, round: int) -> None:  # noqa: B027 - not all can take back what they have
        """Begin, with `round` rounds done: what an earlier process has told of later rounds is measured again."""

    @abc.abstractmethod
    def log(self, entry: Mapping[str, Any]) -> None:
        """Take a line of metrics.jsonl: peer, round, time (s), accuracy, test_loss, loss, bytes_sent …"""

    def end(self) -> None:  # noqa: B027 - many have nothing to close
        """Close what is open; nothing is logged after it."""


def open_logger(choice: Choice, folder: Path) -> Logger:
    """Return the logger of `[logger]`.

    Raises:
        SettingError: it cannot be made.
    """
    make = choice.load()
    try:
        made: Logger = make(choice, folder=folder)
    except UserError:
        raise
    except (Exception, SystemExit) as failure:
        raise SettingError(
            f"[logger] kind = '{choice.kind}' fails when it is made: {plugins.one_line(failure)}"
        ) from failure
    return made
