"""What only tells of the learning may fail without ending it: the one place where such errors are caught and told.

Records, lines for the user, status, page and metrics are for whoever watches. A full disk, a closed terminal, a socket
that cannot be made or a mistake of ours in any of them is no reason to stop: it is said in the log, counted, shown by
`gossip-node status` and in the metrics, and tried again the next time. Nor is a logger of the user's that would leave
the program. Cancellation and Ctrl-C are no failures, and pass.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

logger = logging.getLogger("gossip.node")

TOLD_EVERY_S = 60.0
"""A trouble that stays costs one line a minute, whatever fails how often: a log must not fill what disk is left."""


@dataclass(slots=True)
class _Trouble:
    count: int = 0
    untold: int = 0
    told_s: float | None = None
    sentence: str = ""
    present: bool = False


class Containment:
    """Catches, counts and tells; used from the event loop and from the threads beside it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._troubles: dict[str, _Trouble] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Contain whatever fails inside; `what` is a constant such as "metrics not written"."""
        try:
            yield
        except (Exception, SystemExit) as error:
            self.failed(what, error)
        else:
            self.worked(what)

    def failed(self, what: str, error: BaseException) -> None:
        """Count a failure; tell it if it is new, or the last line about it is old."""
        with self._lock:
            trouble = self._troubles.setdefault(what, _Trouble())
            now = self._clock()
            trouble.count += 1
            trouble.untold += 1
            trouble.present = True
            trouble.sentence = said_of(error)
            if trouble.told_s is not None and now - trouble.told_s < TOLD_EVERY_S:
                return
            often = f" ({trouble.untold} times)" if trouble.untold > 1 else ""
            trouble.told_s, trouble.untold = now, 0
            line = f"{what}{often}: {trouble.sentence}; learning goes on"
        # A bug's traceback is for whoever mends it, but once is enough.
        tell(logging.ERROR, line, bug=None if isinstance(error, OSError) or trouble.count > 1 else error)

    def worked(self, what: str) -> None:
        """Note that it works (again)."""
        trouble = self._troubles.get(what)
        if trouble is not None:
            trouble.present = False

    def counts(self) -> Mapping[str, int]:
        """Return how often each thing has failed."""
        return {what: trouble.count for what, trouble in sorted(self._troubles.copy().items())}

    def present(self) -> Mapping[str, str]:
        """Return what fails now, each with its sentence."""
        return {
            what: trouble.sentence
            for what, trouble in sorted(self._troubles.copy().items())
            if trouble.present
        }


def said_of(error: BaseException) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def tell(level: int, line: str, *, bug: BaseException | None = None) -> None:
    """Log a line; a log that fails has nobody left to be told to."""
    with contextlib.suppress(Exception):
        logger.log(level, "%s", line, exc_info=bug)
