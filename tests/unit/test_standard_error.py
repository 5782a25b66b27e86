"""Whoever reads our standard error may stop, or go: nobody waits for it, and what it did not get is counted."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from gossip.telemetry import standard_error
from gossip.telemetry.standard_error import QueuedStream
from tests.integration.homes import PATIENCE_S, eventually

MISSING = re.compile(r"gossip-node: (\d+) lines are missing here, standard error did not take them")


class Gate(io.StringIO):
    """Takes what is written while it is open; its writer hangs while it is shut, and fails while it is broken."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.broken = False

    def write(self, text: str) -> int:
        assert self.open.wait(PATIENCE_S)
        if self.broken:
            raise BrokenPipeError("nobody reads")
        return super().write(text)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def test_all_comes_out_in_order_and_lines_of_several_threads_stay_whole(gate: Gate) -> None:
    stream = QueuedStream(gate)

    def say(who: str) -> None:
        for number in range(200):
            stream.write(f"{who} {number}\n")
            stream.flush()

    threads = [threading.Thread(target=say, args=(who,)) for who in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("in", "pieces", file=stream)
    stream.write("no end")
    assert stream.drain(PATIENCE_S)
    *lines, last = gate.getvalue().split("\n")
    assert (lines.pop(), last) == ("in pieces", "no end")
    for who in "abc":
        assert [line for line in lines if line[0] == who] == [f"{who} {number}" for number in range(200)]


def test_a_reader_that_stops_holds_nobody_and_is_told_how_many_lines_it_has_missed(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard_error, "WAITING_CHARS_MAX", 1000)
    stream = QueuedStream(gate)
    gate.open.clear()
    for number in range(500):
        stream.write(f"line {number}\n")
    assert not stream.drain(0.01), "it waits no longer than it may"
    assert gate.getvalue() == ""
    gate.open.set()
    assert stream.drain(PATIENCE_S)
    stream.write("and on\n")
    assert stream.drain(PATIENCE_S)
    *read, said, on = gate.getvalue().splitlines()
    assert read == [f"line {number}" for number in range(len(read))]
    found = MISSING.fullmatch(said)
    assert found is not None, said
    assert len(read) + int(found[1]) == 500
    assert on == "and on"


def test_a_reader_that_is_gone_ends_nothing_and_one_that_comes_again_is_told_the_count(gate: Gate) -> None:
    stream = QueuedStream(gate)
    gate.broken = True
    stream.write("one\ntwo\n")
    assert stream.drain(PATIENCE_S)
    stream.write("three\n")  # the count is lost with it, and told again
    assert stream.drain(PATIENCE_S)
    gate.broken = False
    stream.write("four\n")
    assert stream.drain(PATIENCE_S)
    said, four = gate.getvalue().splitlines()
    found = MISSING.fullmatch(said)
    assert (found and found[1], four) == ("3", "four")


def test_a_line_without_an_end_takes_bounded_memory(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_error, "PARTIAL_CHARS_MAX", 10)
    stream = QueuedStream(gate)
    for _ in range(3):
        stream.write("abcdef")
    eventually(lambda: gate.getvalue() == "abcdef" * 2, "what is too long is written as it is")
    assert stream.drain(PATIENCE_S)
    assert gate.getvalue() == "abcdef" * 3


FORKED = """
import os, sys
from gossip.telemetry.standard_error import queue_standard_error, run_and_leave
queue_standard_error()
print("parent", file=sys.stderr)
child = os.fork()
if not child:
    sys.stderr.write("child")
    os._exit(0)
run_and_leave(lambda: os.waitpid(child, 0)[1])
"""


def test_a_forked_child_of_a_users_loader_has_a_standard_error() -> None:
    done = run(FORKED)
    assert (done.returncode, done.stderr.count(b"child"), done.stderr.count(b"parent")) == (0, 1, 1)


BUG = """
import sys
from gossip.telemetry.standard_error import queue_standard_error, run_and_leave
queue_standard_error()
run_and_leave(lambda: 1 // 0)
"""


def test_a_bug_ends_in_its_traceback_and_exit_code_1() -> None:
    done = run(BUG)
    assert (done.returncode, done.stderr.splitlines()[-1][:17]) == (1, b"ZeroDivisionError")


LATE = """
import os, signal, sys
from gossip.telemetry import standard_error
signal.signal(signal.SIGTERM, signal.default_int_handler)
standard_error.queue_standard_error()
def interrupted():
    os.kill(os.getpid(), signal.{signal})
    os.kill(os.getpid(), signal.{signal})
def refused():
    print("gossip-node: refused", file=sys.stderr)
    {within}
    return 2
drain, ignore = type(sys.stderr).drain, standard_error._ignore_signals
type(sys.stderr).drain = lambda *given: ({draining}, drain(*given))
standard_error._ignore_signals = lambda: ({ignoring}, ignore())
standard_error.run_and_leave(refused)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("moment", "code"), [("within", 130), ("ignoring", 2), ("draining", 2)], ids=lambda value: str(value)
)
def test_a_signal_in_the_last_moment_is_no_traceback(name: str, moment: str, code: int) -> None:
    at = {each: "interrupted()" if each == moment else "None" for each in ("within", "ignoring", "draining")}
    if moment == "ignoring":  # once: it is tried again
        at["ignoring"] = "hits or (hits.append(1), interrupted())"
    program = LATE.format(signal=name, **at)
    done = run("hits = []" + program)
    assert (done.returncode, done.stderr) == (code, b"gossip-node: refused\n")


def run(program: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        env=dict(os.environ),
    )


def shown(text: str) -> list[str]:
    """Return the lines that a terminal shows of what was written."""
    lines: list[str] = []
    for piece in re.split(r"(\x1b\[\d+A\x1b\[0J)", text):
        up = re.fullmatch(r"\x1b\[(\d+)A\x1b\[0J", piece)
        if up:
            lines = lines[: len(lines) - int(up[1])]
        else:
            lines += piece.split("\n")[:-1]
    return lines


def test_what_stands_below_stays_below_all_that_is_written_and_goes_with_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard_error, "DRAWN_EVERY_S", 0.001)
    stream, drawn = QueuedStream(gate), iter(range(10**9))
    stream.show_below(lambda: f"figures\nat {next(drawn)}\n"[: None if next(drawn) % 4 else 8])
    written = []
    for number in range(20):
        stream.write(f"line {number}\n")
        written.append(f"line {number}")
        eventually(
            lambda: (
                shown(gate.getvalue())[: len(written)] == written
                and shown(gate.getvalue())[len(written) : len(written) + 1] == ["figures"]
            ),
            "the line is above the figures",
        )
    before = next(drawn)
    eventually(lambda: next(drawn) > before + 10, "it is drawn anew though nothing is written")
    stream.write("without an end")
    assert stream.drain(PATIENCE_S)
    assert shown(gate.getvalue()) == written
    assert gate.getvalue().endswith("without an end")


def test_what_cannot_be_drawn_costs_no_line(gate: Gate) -> None:
    stream, asked = QueuedStream(gate), []

    def broken() -> str:
        asked.append(True)
        raise ValueError

    stream.show_below(broken)
    eventually(lambda: bool(asked), "it is drawn")
    stream.write("a line\n")
    assert stream.drain(PATIENCE_S)
    assert gate.getvalue() == "a line\n"
    assert len(asked) == 1
