"""However often something happens, the log has a line a minute at most, and no offence is missing in its counts."""

from __future__ import annotations

import logging
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.telemetry.offences import CROWD_MAX, INTERVAL_MAX_S, PAIRS_MAX, OffenceLog

logger = logging.getLogger("gossip.test-offences")


class Lines(logging.Handler):
    """Collects lines with the time of a clock that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.lines: list[tuple[float, str]] = []
        self.log = OffenceLog(logger, lambda: self.now_s)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((self.now_s, record.getMessage()))

    def __enter__(self) -> Lines:
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return self

    def __exit__(self, *exc: object) -> None:
        logger.removeHandler(self)


def told(line: str) -> int:
    """Return how many offences a line stands for."""
    more = re.search(r" … and (\d+) more like it in the last (minute|\d+ minutes)( \(\d+ s ago\))?$", line)
    return 1 + (int(more[1]) if more else 0)


@given(
    events=st.lists(
        st.tuples(
            st.floats(0, 200), st.sampled_from(["bob", "eve"]), st.sampled_from(["garbage", "certificate"])
        )
    )
)
def test_at_most_a_line_a_minute_of_each_kind_and_every_offence_is_counted(
    events: list[tuple[float, str, str]],
) -> None:
    with Lines() as heard:
        for number, (pause_s, who, why) in enumerate(events):
            heard.now_s += pause_s
            heard.log.note(logging.WARNING, who, why, f"{who} (port {number}): {why}")
            heard.log.tell()
        for kind in {(who, why) for _, who, why in events}:
            times = [at for at, line in heard.lines if line.startswith(kind[0]) and kind[1] in line]
            assert all(later - earlier >= 60 for earlier, later in pairwise(times))
        heard.log.tell(all=True)
        for who, why in {(who, why) for _, who, why in events}:
            counted = sum(
                told(line) for _, line in heard.lines if line.startswith(who) and f": {why}" in line
            )
            assert counted == sum(event[1:] == (who, why) for event in events)


def test_187_offences_in_a_minute_are_two_lines() -> None:
    with Lines() as heard:
        for number in range(187):
            heard.now_s = number / 10
            heard.log.note(
                logging.WARNING, "10.0.0.9", "garbage", f"from 10.0.0.9:{40000 + number}: nonsense"
            )
        heard.now_s = 60.0
        heard.log.tell()
        heard.log.tell()
        assert [line for _, line in heard.lines] == [
            "from 10.0.0.9:40000: nonsense",
            "from 10.0.0.9:40186: nonsense … and 185 more like it in the last minute (41 s ago)",
        ]


def test_news_has_a_few_lines_at_once_and_then_one_a_minute() -> None:
    with Lines() as heard:
        told = []
        for number in range(20):
            heard.now_s = number * 2.0
            told.append(heard.log.note(logging.INFO, "bob", "up", f"bob: up {number}", at_once=4))
        assert told == [True] * 4 + [False] * 16
        heard.now_s = 61.0
        heard.log.tell()
        assert heard.lines[-1][1] == "bob: up 19 … and 15 more like it in the last minute (23 s ago)"
        heard.now_s = 200.0
        assert all(heard.log.note(logging.INFO, "bob", "up", "bob: again", at_once=4) for _ in range(4))
        assert not heard.log.note(logging.INFO, "bob", "up", "bob: again", at_once=4)


def test_at_the_end_what_was_counted_is_told_in_its_order_and_what_another_line_told_is_not() -> None:
    with Lines() as heard:
        for who in ("bob", "eve", "bob"):
            heard.log.note(logging.INFO, who, "network", f"{who}: refused")
        for who in ("eve", "bob", "carol", "carol"):
            heard.now_s += 1
            heard.log.note(logging.INFO, who, "network", f"{who}: refused")
        assert (heard.log.untold("bob", "network"), heard.log.untold("dan", "network")) == (2, 0)
        heard.log.drop("carol", "network")
        before = len(heard.lines)
        heard.log.tell(all=True)
        assert [line.partition(":")[0] for _, line in heard.lines[before:]] == ["eve", "bob"]


def test_what_goes_on_for_a_week_is_told_once_an_hour() -> None:
    with Lines() as heard:
        for minute in range(7 * 24 * 60):
            heard.now_s = minute * 60.0
            heard.log.note(logging.INFO, "bob", "network", "bob: connection refused")
        assert len(heard.lines) < 7 * 24 + 10
        assert heard.lines[-1][0] - heard.lines[-2][0] == pytest.approx(INTERVAL_MAX_S)
        assert "59 more like it in the last 60 minutes" in heard.lines[-1][1]


def test_after_all_was_well_the_next_failure_is_told_when_a_minute_has_passed() -> None:
    with Lines() as heard:
        for minute in range(300):
            heard.now_s = minute * 60.0
            heard.log.note(logging.INFO, "bob", "network", "bob: connection refused")
        before = len(heard.lines)
        heard.log.calm("bob")
        heard.now_s += 60.0
        heard.log.note(logging.INFO, "bob", "network", "bob: connection refused")
        assert len(heard.lines) == before + 1


def test_whoever_has_many_addresses_has_not_as_many_lines() -> None:
    with Lines() as heard:
        for number in range(5000):
            heard.log.note(
                logging.WARNING, f"host{number}", "garbage", f"from host{number}", crowd="strangers"
            )
        assert len(heard.lines) == CROWD_MAX + 1
        # And a peer still has its own.
        heard.log.note(logging.WARNING, "bob", "garbage", "bob")
        assert heard.lines[-1][1] == "bob"
        heard.log.tell(all=True)
        assert sum(told(line) for _, line in heard.lines) == 5001
        # A minute later the places are free again.
        heard.now_s = 200.0
        heard.log.note(logging.WARNING, "another", "garbage", "from another", crowd="strangers")
        assert heard.lines[-1][1] == "from another"


def test_memory_is_bounded() -> None:
    with Lines() as heard:
        for number in range(PAIRS_MAX + 1000):
            heard.log.note(logging.WARNING, f"peer{number}", "garbage", "what")
        assert len(heard.log._told) <= PAIRS_MAX + 1
