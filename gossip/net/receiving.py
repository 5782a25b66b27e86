"""One connection's incoming side: frames become events, within a budget, and without keeping the loop from others.

A turn is what is read before other tasks must have had theirs. Bytes that have come may hold thousands of messages, and
reading on takes no wait: so turns end by what was done in them. At the end of each the budget is settled, once for many
messages, which costs less than a hundredth of reading them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from gossip.errors import NetworkError, PeerError
from gossip.net.budget import STEPS_PER_MESSAGE, Budget, message_cost
from gossip.net.settings import NetSettings
from gossip.net.stream import EndOfStream, Stream
from gossip.wire.frames import Cancelled, Coming, FrameReader, Received

TURN_STEPS = 32
"""Pieces of the stream: 16 small messages, or 6 MB of a model."""

TURN_S = 0.005
"""Of handling small messages, whatever the protocol does with them; `status` is to be answered after a few turns."""


class Receiver:
    """Reads events from a stream."""

    def __init__(
        self,
        stream: Stream,
        reader: FrameReader,
        settings: NetSettings,
        *,
        on_coming: Callable[[Coming], None] = lambda coming: None,
    ) -> None:
        """Make a receiver; `on_coming` is called whenever some of a model has come that is not whole yet."""
        self._stream = stream
        self._on_coming = on_coming
        self._reader = reader
        self._settings = settings
        self._budget = Budget(settings, trio.current_time())
        self._turn_bytes_max = min(8 * 1024 * 1024, max(64 * 1024, settings.receive_bytes_per_s // 10))
        self._steps = 0
        self._bytes = 0
        self._messages = 0.0
        self._turn_began_s = time.perf_counter()
        self._model_by_s = float("inf")
        self.last_input_s = trio.current_time()
        self.alive = trio.CancelScope()
        """Around reading; ends it when nothing comes, or a model too slowly."""

    def note_input(self) -> None:
        """Note a sign of life."""
        self.last_input_s = trio.current_time()
        timeout_s = self._settings.heartbeat_timeout_s
        deadline_s = min(self.last_input_s + timeout_s, self._model_by_s)
        # Moving a deadline costs more than reading a small message; a twentieth too early is early enough.
        if not 0 <= deadline_s - self.alive.deadline < timeout_s / 20:
            self.alive.deadline = deadline_s

    def suspend(self) -> None:
        """Note that we do not read for a while: until the next sign of life that silence is ours, not theirs."""
        self.alive.deadline = float("inf")

    def too_late(self) -> NetworkError | PeerError:
        """Return why `alive` has ended."""
        if trio.current_time() >= self._model_by_s - self._settings.heartbeat_timeout_s / 20:
            return PeerError(
                "slow",
                f"its model came more slowly than {self._settings.model_bytes_per_s_min} bytes a second "
                "(model_bytes_per_s_min in [net])",
            )
        return NetworkError(f"silent for {self._settings.heartbeat_timeout_s:g} s")

    def note_rejected(self) -> None:
        """Note that a message of theirs was of no use. Raises `PeerError` where there are too many."""
        self._budget.note_rejected(trio.current_time())

    async def next_event(self) -> Received | Cancelled:
        """Return the next message.

        Raises:
            PeerError: they broke a rule. NetworkError: the stream has ended.
        """
        reader, receive_into = self._reader, self._stream.receive_into
        while True:
            buffer = reader.next_buffer()
            try:
                await receive_into(buffer)
            except EndOfStream:
                if reader.at_boundary:
                    raise NetworkError("closed the connection") from None
                raise PeerError("truncated", "ended the connection in the middle of a message") from None
            event = reader.filled()
            self._steps += 1
            self._bytes += len(buffer)
            if event is not None:
                self._note_event(event)
            elif (coming := reader.coming) is not None:
                if self._model_by_s == float("inf"):
                    self._model_by_s = trio.current_time() + self._time_for(coming.nbytes)
                self._on_coming(coming)
            if (
                self._steps + self._stream.crumbs >= TURN_STEPS
                or self._bytes >= self._turn_bytes_max
                or (event is not None and time.perf_counter() - self._turn_began_s > TURN_S)
            ):
                await self._end_turn()
            if event is not None:
                return event

    def _note_event(self, event: Received | Cancelled) -> None:
        if isinstance(event, Cancelled):
            # Memory was taken for nothing; an honest peer does so once, as it leaves.
            self.note_rejected()
            self._messages += 1
            self._model_by_s = float("inf")
            return
        self._messages += message_cost(event.frame_bytes, event.payload_bytes)
        if event.tensors:
            self._model_by_s = float("inf")

    def _time_for(self, nbytes: int) -> float:
        return self._settings.heartbeat_timeout_s + nbytes / self._settings.model_bytes_per_s_min

    async def _end_turn(self) -> None:
        now_s = trio.current_time()
        messages = self._messages + (self._steps + self._stream.crumbs) / STEPS_PER_MESSAGE
        pause_s = self._budget.spend(messages=messages, nbytes=self._bytes, now_s=now_s)
        self._steps = self._bytes = self._stream.crumbs = 0
        self._messages = 0.0
        if pause_s:
            self.suspend()
            await trio.sleep(pause_s)
            self._model_by_s += pause_s
            self.note_input()
        else:
            await trio.lowlevel.checkpoint()
        self._turn_began_s = time.perf_counter()
