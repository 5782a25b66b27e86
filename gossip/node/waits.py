"""Says for whom a node waits and until when: a line in the log, at most one a minute of each kind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import trio

from gossip.protocols.base import Waiting
from gossip.telemetry.containment import tell

TOLD_AFTER_S = 3.0
"""Most waits are shorter, and of no interest."""

TOLD_EVERY_S = 60.0

NAMED_MAX = 5


class Waits:
    """Told of each wait again and again, as long as it goes on.

    Args:
        clock: seconds; those of all times that are given.
        wall_s: seconds since 1970, for people.
    """

    def __init__(
        self, clock: Callable[[], float] = trio.current_time, *, wall_s: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_s = wall_s
        self._told_s: dict[str, float] = {}

    def note(self, why: str, waiting: Waiting | None) -> None:
        """Say for whom it is waited, if that has lasted a while and has not been said lately.

        Args:
            why: the kind of wait; begins the sentence.
            waiting: for whom; None, or for nobody: nothing is said.
        """
        now_s = self._clock()
        if waiting is None or not waiting.peers or now_s - waiting.since_s < TOLD_AFTER_S:
            return
        if now_s - self._told_s.get(why, float("-inf")) < TOLD_EVERY_S:
            return
        self._told_s[why] = now_s
        names = sorted(waiting.peers)
        others = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        left_s = max(0.0, waiting.until_s - now_s)
        at = time.strftime("%H:%M:%S", time.localtime(self._wall_s() + left_s))
        tell(
            logging.INFO,
            f"{why}: waiting for {', '.join(names[:NAMED_MAX])}{others}, until {at} at the latest ({left_s:.0f} s)",
        )
