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
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TextIO, cast

WAITING_CHARS_MAX = 1 << 20
"""Some 10,000 lines wait for a reader that is slow; to one that is gone, nobody should give more memory."""

PARTIAL_CHARS_MAX = 1 << 16
"""Of a line without an end, before it is written as it is."""

LEAVE_S = 1.0
"""For the last lines to be taken by whoever reads them, when the process ends."""


class _Chunk(NamedTuple):
    text: str
    lines: int


class QueuedStream(io.TextIOBase):
    """Hands what is written to a thread that writes it to `stream`, in order, whole lines at a time.

    What finds no room, or could not be written, is counted in lines; the count is told, in its place, once there is
    room again.
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
            return self._changed.wait_for(lambda: not self._waiting, within_s)

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
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                chunk = self._waiting[0]
            try:
                self._stream.write(chunk.text)
                self._stream.flush()
                lost = 0
            except Exception:  # its reader is gone, its disk is full: there is nobody to tell
                lost = chunk.lines
            with self._changed:
                # Only now: until it is written, `drain` waits for it.
                self._waiting.popleft()
                self._chars -= len(chunk.text)
                self._lost += lost
                self._changed.notify_all()


def queue_standard_error() -> None:
    """Put the thread between us and standard error."""
    stderr: object = sys.stderr
    if not isinstance(stderr, QueuedStream):
        sys.stderr = cast(TextIO, QueuedStream(sys.stderr))


def run_and_leave(run: Callable[[], int]) -> NoReturn:
    """End the process with what `run` returns, once the last lines are written or `LEAVE_S` is over.

    A training that was abandoned on a signal may still hold torch in its thread; waiting for the interpreter to take
    that apart could take minutes.
    """
    code = 1
    try:
        code = run()
    except BaseException:  # a bug of ours; the interpreter would tell of it when the thread is gone already
        traceback.print_exc()
    # In a thread: whoever reads our output may have stopped reading.
    flushing = threading.Thread(target=_flush_output, daemon=True)
    with contextlib.suppress(RuntimeError):
        flushing.start()
        flushing.join(LEAVE_S)
    stderr: object = sys.stderr
    if isinstance(stderr, QueuedStream):
        stderr.drain(LEAVE_S)
    os._exit(code)


def _flush_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
