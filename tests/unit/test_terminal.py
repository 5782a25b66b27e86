"""A node on a terminal: its figures, whole lines that fit, and only where the terminal is its own."""

from __future__ import annotations

import os
import pty
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gossip.learning.objectives.score import ACCURACY
from gossip.node.services import show_on_terminal
from gossip.telemetry.containment import Containment
from gossip.telemetry.pace import TREND_POINTS
from gossip.telemetry.standard_error import QueuedStream
from gossip.telemetry.terminal import WIDTH_MIN, Figures, on_terminal
from tests.integration.homes import PATIENCE_S, eventually
from tests.laws import tried

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def status(**more: Any) -> dict[str, Any]:
    neighbours = [{"name": f"node-{number}", "up": number != 2} for number in (1, 2, 3)]
    return {
        "name": "node-0",
        "state": "running",
        "round": 4,
        "rounds": 10,
        "score": 0.75,
        "own_score": 0.5,
        "objective": ACCURACY._asdict(),
        "training_loss": 0.125,
        "waiting_for": [],
        "neighbours": neighbours,
        "bytes": {"total": 2_000_000},
        "bytes_received": {"total": 3_000_000},
        **more,
    }


def drawn(said: dict[str, Any], width: int = 100) -> str:
    figures = Figures(lambda: width)
    figures.note(said)
    return COLOURS.sub("", figures.drawn())


def test_a_nodes_figures_are_those_of_its_status() -> None:
    text = drawn(status(privacy={"epsilon": 2.5}))
    for word in (
        "node-0 running",
        "round 4/10",
        "75.0 %",
        "50.0 %",
        "0.125",
        "2.5",
        "2 of 3",
        "2.0 MB",
        "3.0 MB",
    ):
        assert word in text, word
    assert "waiting" not in text
    assert "waiting for a, b" in drawn(status(waiting_for=["a", "b"]))
    assert "waiting for node-2\n" in drawn(status(state="waiting", score=None, training_loss=None))


@tried(1)
@given(
    st.integers(0, 200),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=80),
    st.integers(0, 10**12),
)
def test_whatever_it_says_is_whole_lines_that_fit(width: int, name: str, count: int) -> None:
    text = drawn(status(name=name, waiting_for=[name] * 5, bytes={"total": count}), width)
    assert not text or text.endswith("\n")
    assert all(cell_len(line) < width for line in text.splitlines())
    assert bool(text) == (width > WIDTH_MIN)


def test_who_tells_more_while_it_is_drawn_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures(lambda: 100)
    for number in range(30):
        figures.note(status(round=number))

    def meanwhile(values: Iterable[float]) -> str:
        found = iter(values)
        next(found)
        figures.note(status(round=30))
        return f"{1 + len(list(found))} points"

    monkeypatch.setattr("gossip.telemetry.terminal.trend", meanwhile)
    assert f"{TREND_POINTS} points" in COLOURS.sub("", figures.drawn())


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Yield the other end of a terminal that is ours, with both outputs there."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with (
        monkeypatch.context() as patch,
        open(theirs, "w", closefd=False) as out,
        open(theirs, "w", closefd=False) as log,
    ):
        queued: object = QueuedStream(log)
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", queued)
        patch.setenv("TERM", "xterm")
        patch.setattr(os, "isatty", lambda descriptor: descriptor in (0, theirs))
        yield ours
    for descriptor in (ours, theirs):
        os.close(descriptor)


def test_lines_of_both_outputs_stand_above_the_figures_which_go_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = b""

    def has(word: bytes) -> bool:
        nonlocal seen
        with suppress(BlockingIOError):
            seen += os.read(ours, 1 << 16)
        return word in seen

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_on_terminal, status, Containment())
            await trio.testing.wait_all_tasks_blocked()
            print("a round")
            for word in (b"a round", b"3.0 MB"):
                await trio.to_thread.run_sync(eventually, partial(has, word), f"{word!r} is written")
            nursery.cancel_scope.cancel()

    with terminal(monkeypatch) as ours:
        before, stream = sys.stdout, sys.stderr
        trio.run(main)
        assert sys.stdout is before
        assert isinstance(stream, QueuedStream)
        assert stream.drain(PATIENCE_S)
        eventually(lambda: has(b"") and seen.endswith(b"\x1b[0J"), "the figures are gone")


@pytest.mark.parametrize("what", ["dumb", "background", "reads nothing", "its own"])
def test_only_on_a_terminal_that_is_its_own_a_node_writes_more_than_lines(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with terminal(monkeypatch) as ours, monkeypatch.context() as patch:
        match what:
            case "dumb":
                patch.setenv("TERM", "dumb")
            case "background":
                patch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
            case "reads nothing":
                patch.setattr(os, "isatty", lambda descriptor: descriptor not in (0, ours))
        shown = on_terminal()
        assert (shown is not None) == (what == "its own")
        if shown is not None:
            shown.close()
