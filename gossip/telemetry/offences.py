"""Log lines that others can cause: however often a thing happens, it is a line a minute at most, with a count.

A line belongs to who did it and why (a short stable word, never a sentence: that may hold a port, or what the other
side chose to say). The first is told at once. Those that follow are counted, and told as "… and 41 more like it in the
last minute"; while it goes on, twice as long passes from line to line, up to an hour. Every one is told or counted.
News that somebody waits for, such as that a peer is up again, may have a few lines at once before that begins.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_MIN_S = 60.0
INTERVAL_MAX_S = 3600.0
"""A neighbour that is down for a week costs some 170 lines."""

CROWD_MAX = 16
"""Members of a crowd that have lines of their own at one time. Anybody can have many addresses."""

PAIRS_MAX = 4096
"""Of who and why that are told apart; others share the lines of `OTHERS`."""

OTHERS = "others"


@dataclass(slots=True)
class _Told:
    """What was said last about one (who, why), and what has come since."""

    at_s: float
    crowd: str | None
    last_s: float = 0.0
    """When the last one came that is not told yet."""
    interval_s: float = INTERVAL_MIN_S
    spare: int = 0
    """Lines that may follow at once."""
    untold: int = 0
    level: int = logging.DEBUG
    sentence: str = ""


class OffenceLog:
    """Writes to one logger. `clock` gives seconds that only go forward."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._told: dict[tuple[str, str], _Told] = {}
        self._crowds: Counter[str] = Counter()

    def note(
        self,
        level: int,
        who: str,
        why: str,
        sentence: str,
        *,
        crowd: str | None = None,
        error: BaseException | None = None,
        at_once: int = 1,
    ) -> bool:
        """Log `sentence`, or count it where a line about `who` and `why` is not long ago; return whether it is told.

        Args:
            level: of the logging module.
            who: a peer, or a host.
            why: a short word out of few.
            sentence: names who it is, as the reader of the log wants it.
            crowd: where `who` is one of arbitrarily many that anybody can make up: the name of them all.
            error: whose traceback goes with the first line, where it is a bug of ours.
            at_once: so many are told without waiting, after a minute without any again.
        """
        now_s = self._clock()
        key, told = self._find(who, why, crowd, now_s)
        if told is None:
            self._told[key] = _Told(now_s, crowd, spare=at_once - 1)
            if crowd is not None:
                self._crowds[crowd] += 1
            self._logger.log(level, "%s", sentence, exc_info=error)
            return True
        if now_s - max(told.at_s, told.last_s) >= INTERVAL_MIN_S:
            told.spare = at_once - 1
        if told.spare and not told.untold:
            told.spare, told.last_s = told.spare - 1, now_s
            self._logger.log(level, "%s", sentence)
            return True
        told.untold += 1
        told.last_s = now_s
        told.level, told.sentence = max(level, told.level), sentence
        due = now_s - told.at_s >= told.interval_s
        if due:
            self._tell(told, now_s)
        return due

    def untold(self, who: str, why: str) -> int:
        """Return how many have been counted that no line tells yet."""
        told = self._told.get((who, why))
        return 0 if told is None else told.untold

    def drop(self, who: str, why: str) -> None:
        """Take those as told that have been counted: a line about something else has."""
        told = self._told.get((who, why))
        if told is not None:
            told.untold, told.level = 0, logging.DEBUG

    def tell(self, *, all: bool = False) -> None:
        """Log what has been counted and is due (or, with `all`, whatever has been counted). Call it now and then."""
        now_s = self._clock()
        for told in sorted(self._told.values(), key=lambda told: told.last_s):
            if told.untold and (all or now_s - told.at_s >= told.interval_s):
                self._tell(told, now_s)

    def calm(self, who: str) -> None:
        """Note that all has been well with `who`: what happens next is told as soon as a minute has passed."""
        for (whose, _), told in self._told.items():
            if whose == who:
                told.interval_s = INTERVAL_MIN_S

    def _tell(self, told: _Told, now_s: float) -> None:
        more = told.untold - 1
        minutes = max(1, round((now_s - told.at_s) / 60))
        period = "minute" if minutes == 1 else f"{minutes} minutes"
        count = f" … and {more} more like it in the last {period}" if more else ""
        # A line that comes late must not be taken for what is: by now the peer may be up again.
        late_s = round(now_s - told.last_s)
        late = f" ({late_s} s ago)" if late_s else ""
        self._logger.log(told.level, "%s%s%s", told.sentence, count, late)
        lasting = now_s - told.at_s < 2 * told.interval_s
        told.interval_s = min(INTERVAL_MAX_S, 2 * told.interval_s) if lasting else INTERVAL_MIN_S
        told.at_s, told.untold, told.level = now_s, 0, logging.DEBUG

    def _find(
        self, who: str, why: str, crowd: str | None, now_s: float
    ) -> tuple[tuple[str, str], _Told | None]:
        """Return the lines that this one belongs to; with None, it is the first of its kind."""
        key = (who, why)
        if key in self._told:
            return key, self._told[key]
        if self._is_full(crowd):
            self._forget_old(now_s)
        if self._is_full(crowd):
            key = (OTHERS if crowd is None else crowd, why)
        return key, self._told.get(key)

    def _is_full(self, crowd: str | None) -> bool:
        return len(self._told) >= PAIRS_MAX or (crowd is not None and self._crowds[crowd] >= CROWD_MAX)

    def _forget_old(self, now_s: float) -> None:
        for key, told in list(self._told.items()):
            if not told.untold and now_s - told.at_s >= told.interval_s:
                del self._told[key]
                if told.crowd is not None:
                    self._crowds[told.crowd] -= 1
