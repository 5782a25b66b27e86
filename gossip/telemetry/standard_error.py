"""A standard error that nobody waits for.

Whoever reads our log may have stopped reading: a full pipe holds whoever writes to it, be it the event loop with a line
of the log or the learning with a warning of torch's. So what is written goes to a thread, and to write costs next to
nothing, whatever becomes of it. All that Python writes there is meant – log, warnings, tracebacks, the sentence at the
end. What a library writes in C past Python is not.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, NoReturn, TextIO, cast

from gossip.errors import ExitCode

WAITING_CHARS_MAX = 1 << 20
"""Some 10,000 lines wait for a reader that is slow; to one that is gone, nobody should give more memory."""

PARTIAL_CHARS_MAX = 1 << 16
"""Of a line without an end, before it is written as it is."""

DRAWN_EVERY_S = 0.5
"""How often what stands below the lines is drawn anew though nothing is written."""

LEAVE_S = 1.0
"""For the last lines to be taken by whoever reads them, when the process ends."""


class _Chunk(NamedTuple):
    text: str
    lines: int


class QueuedStream(io.TextIOBase):
    """Hands what is written to a thread that writes it to `stream`, in order, whole lines at a time.

    What finds no room, or could not be written, is counted in lines; the count is told, in its place, once there is
    room again. On a terminal a few lines may stand below all others, see `show_below`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changed = threading.Condition(threading.Lock())
        self._partial = ""
        self._waiting: deque[_Chunk] = deque()
        self._chars = 0
        self._lost = 0
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._draw: Callable[[], str] | None = None
        self._below = 0
        """So many lines stand below what was written."""

    def show_below(self, draw: Callable[[], str] | None) -> None:
        """Keep what `draw` returns, whole lines that fit the terminal, below all that is written; None: no more.

        It is called in the thread that writes, now and then; from an exception on nothing is shown.
        """
        with self._changed:
            self._draw = draw
            self._begin()

    def write(self, text: str) -> int:
        """Queue it."""
        if os.getpid() != self._process:
            # A user's data loader has forked: the thread is not there, and the lock may be held for ever.
            written = self._stream.write(text)
            self._stream.flush()
            return written
        with self._changed:
            before, end, rest = (self._partial + text).rpartition("\n")
            if len(rest) > PARTIAL_CHARS_MAX:
                before, rest = before + end + rest, ""
            self._partial = rest
            if before or end:
                self._put(before + end)
        return len(text)

    def flush(self) -> None:
        """Do nothing: every handler of the logging module flushes after every line. See `drain`."""

    def drain(self, within_s: float) -> bool:
        """Wait until all is written, but not for longer than `within_s`; return whether it is."""
        with self._changed:
            if self._partial or self._lost:
                text, self._partial = self._partial, ""
                self._put(text)
            self._draw = None
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting and not self._below, within_s)

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Return whether a terminal is at the other end."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor behind it."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As the stream behind it."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """As the stream behind it."""
        return self._stream.errors

    def _put(self, text: str) -> None:
        lines = text.count("\n") + (not text.endswith("\n") and text != "")
        if self._chars + len(text) > WAITING_CHARS_MAX:
            self._lost += lines
            return
        if self._lost:
            said = f"gossip-node: {self._lost} lines are missing here, standard error did not take them\n"
            self._append(_Chunk(said, self._lost))
            self._lost = 0
        if text:
            self._append(_Chunk(text, lines))
        self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._write, name="standard error", daemon=True)
            with contextlib.suppress(
                RuntimeError
            ):  # no room for a thread: it is tried again with the next line
                thread.start()
                self._thread = thread
        self._changed.notify_all()

    def _append(self, chunk: _Chunk) -> None:
        self._waiting.append(chunk)
        self._chars += len(chunk.text)

    def _write(self) -> None:
        drawn: Callable[[], str] | None = None
        while True:
            with self._changed:
                self._changed.wait_for(
                    partial(self._has_news, drawn), None if drawn is None else DRAWN_EVERY_S
                )
                chunk, drawn, before = self._waiting[0] if self._waiting else None, self._draw, self._below
            text = "" if chunk is None else chunk.text
            # Below a line without an end nothing can stand.
            below = _drawn(drawn) if text.endswith("\n") or not text else ""
            erased = _ERASED.format(before) if before and in_foreground(self._stream) else ""
            try:
                self._stream.write(f"{erased}{text}{below or ''}")
                self._stream.flush()
                lost = 0
            except Exception:  # its reader is gone, its disk is full: there is nobody to tell
                lost, below = 0 if chunk is None else chunk.lines, None
            with self._changed:
                self._below = (below or "").count("\n")
                if below is None and self._draw is drawn:
                    self._draw = drawn = None
                if chunk is not None:
                    # Only now: until it is written, `drain` waits for it.
                    self._waiting.popleft()
                    self._chars -= len(chunk.text)
                    self._lost += lost
                self._changed.notify_all()

    def _has_news(self, drawn: Callable[[], str] | None) -> bool:
        return bool(self._waiting) or self._draw is not drawn


_ERASED = "\x1b[{}A\x1b[0J"
"""So many lines up, and everything from there on gone."""


def in_foreground(stream: TextIO | QueuedStream) -> bool:
    """Return whether what is last on a terminal is ours, and not a shell's that has put us into the background."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except OSError:
        return True  # it is no terminal


def _drawn(draw: Callable[[], str] | None) -> str | None:
    """Return what is to be drawn; None where that fails."""
    try:
        return "" if draw is None else draw()
    except Exception:  # to whom should a terminal's picture tell that it cannot be drawn
        return None


def queue_standard_error() -> None:
    """Put the thread between us and standard error."""
    stderr: object = sys.stderr
    if not isinstance(stderr, QueuedStream):
        sys.stderr = cast(TextIO, QueuedStream(sys.stderr))


def run_and_leave(run: Callable[[], int]) -> NoReturn:
    """End the process with what `run` returns, once the last lines are written or `LEAVE_S` is over.

    A signal that comes when `run` is all but over, or after it, changes nothing of that any more.

    A training that was abandoned on a signal may still hold torch in its thread; waiting for the interpreter to take
    that apart could take minutes.
    """
    code: int | None = None
    while True:
        try:
            code = _outcome(run) if code is None else code
            _ignore_signals()
            _write_out()
            os._exit(code)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED if code is None else code


def _outcome(run: Callable[[], int]) -> int:
    """Return what `run` returns, 1 where it fails."""
    try:
        return run()
    except KeyboardInterrupt:
        raise
    except BaseException:  # a bug of ours; the interpreter would tell of it when the thread is gone already
        traceback.print_exc()
        return 1


def _ignore_signals() -> None:
    with contextlib.suppress(ValueError):  # in another thread than the main one, where none arrive
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _write_out() -> None:
    """Write what waits for the two outputs, as far as they take it within `LEAVE_S` each."""
    # In a thread: whoever reads our output may have stopped reading.
    flushing = threading.Thread(target=_flush_output, daemon=True)
    with contextlib.suppress(RuntimeError):
        flushing.start()
        flushing.join(LEAVE_S)
    stderr: object = sys.stderr
    if isinstance(stderr, QueuedStream):
        stderr.drain(LEAVE_S)


def _flush_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
