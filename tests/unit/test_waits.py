"""A wait is told once it has lasted, with names and its end, and then once a minute at most."""

from __future__ import annotations

import logging
import time

import pytest

from gossip.config.task import NodeSettings
from gossip.node.lingering import Lingering
from gossip.node.waits import NAMED_MAX, TOLD_AFTER_S, Waits
from gossip.protocols.base import Waiting

NOON_S = time.mktime((2026, 1, 1, 12, 0, 0, 0, 0, -1))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(logging.getLogger("gossip"), "propagate", True)
    caplog.set_level(logging.INFO, logger="gossip")
    return caplog.messages


def test_for_whom_and_until_when_at_most_once_a_minute_of_each_kind(
    caplog: pytest.LogCaptureFixture, said: list[str]
) -> None:
    now_s = 0.0
    waits = Waits(lambda: now_s, wall_s=lambda: NOON_S + now_s)
    lines: dict[float, list[str]] = {}
    while now_s < 150:
        before = len(caplog.messages)
        waits.note("in a round", Waiting(frozenset({"bob", "al"}), 0.0, 200.0))
        waits.note("not started yet", Waiting(frozenset({"eve"}), 100.0, 130.0))
        if caplog.messages[before:]:
            lines[now_s] = caplog.messages[before:]
        now_s += 0.5
    assert lines == {
        3.0: ["in a round: waiting for al, bob, until 12:03:20 at the latest (197 s)"],
        63.0: ["in a round: waiting for al, bob, until 12:03:20 at the latest (137 s)"],
        103.0: ["not started yet: waiting for eve, until 12:02:10 at the latest (27 s)"],
        123.0: ["in a round: waiting for al, bob, until 12:03:20 at the latest (77 s)"],
    }


def test_nothing_is_said_where_nobody_is_waited_for_or_not_for_long(
    caplog: pytest.LogCaptureFixture, said: list[str]
) -> None:
    waits = Waits(lambda: 100.0)
    waits.note("a", None)
    waits.note("a", Waiting(frozenset(), 0.0, 200.0))
    waits.note("a", Waiting(frozenset({"bob"}), 100.0 - TOLD_AFTER_S + 0.1, 200.0))
    assert caplog.messages == []
    many = frozenset(f"p{number:02}" for number in range(NAMED_MAX + 7))
    waits.note("a", Waiting(many, 0.0, 50.0))
    assert "p00, p01, p02, p03, p04 and 7 more" in caplog.messages[0]
    assert "(0 s)" in caplog.messages[0], "it is over, and the loop has not noticed yet"


def test_a_finished_node_tells_the_last_moment_of_those_it_waits_for() -> None:
    now_s = 0.0
    settings = NodeSettings(linger_s=30.0, linger_down_s=10.0)
    up = {"bob", "carol"}
    lingering = Lingering(settings, is_up=up.__contains__, finished={"dave"}, clock=lambda: now_s)
    now_s = 5.0
    up.discard("carol")
    lingering.went("carol")
    now_s = 7.0
    lingering.begin()
    assert lingering.told(("bob", "carol", "dave")) == Waiting(frozenset({"bob", "carol"}), 7.0, 37.0)
    assert lingering.told(("carol", "dave")) == Waiting(frozenset({"carol"}), 7.0, 15.0)
