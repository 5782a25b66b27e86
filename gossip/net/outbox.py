"""What waits to be sent to one peer: a bounded queue of small messages and room for one model.

A slow peer must cost neither memory nor anybody's time. A model that has not begun to be sent is of no use once there
is a newer one, which therefore takes its place. A model whose value is still being computed holds up nothing else.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

from gossip.errors import NetworkError, ProtocolMisuse
from gossip.protocols.base import Message
from gossip.telemetry.accounting import Accounting
from gossip.wire.messages import type_of


class Outbox:
    """Filled by `put` at any time; emptied by one writer task, with `wait_for_values` running beside it."""

    def __init__(self, *, queue_messages_max: int, accounting: Accounting) -> None:
        self._queue_messages_max = queue_messages_max
        self._accounting = accounting
        self._passing: deque[Message] = deque()
        self._in_order: deque[Message] = deque()
        self._model: Message | None = None
        self._value: Any = None
        self._model_changed = trio.Event()
        self._work = trio.Event()
        self._waiting = trio.CancelScope()
        self._overflown = False

    def put(self, message: Message) -> None:
        """Queue a message. Never blocks; an overflow shows when the writer next asks."""
        if message.carries_model:
            if self._model is not None:
                self._accounting.drop("replaced")
                self._waiting.cancel()
            self._model, self._value = message, None
            self._model_changed.set()
            return
        registered = type_of(message.kind)
        if registered is None:
            raise ProtocolMisuse(f"message '{message.kind}' is not registered with the wire")
        if len(self._passing) + len(self._in_order) >= self._queue_messages_max:
            self._overflown = True
        else:
            (self._in_order if registered.in_order else self._passing).append(message)
        self._work.set()

    def take_passing(self) -> Message | None:
        """Return the next message that may pass a model under way, if there is one."""
        if self._overflown:
            raise NetworkError(f"it does not take our messages: {self._queue_messages_max} are waiting")
        return self._passing.popleft() if self._passing else None

    def take(self) -> tuple[Message, Any] | None:
        """Return the next message that may begin now, with its model's value, if there is one."""
        small = self.take_passing()
        if small is not None:
            return small, None
        if self._model is not None:
            if self._value is None:
                return None
            taken = self._model, self._value
            self._model = self._value = None
            return taken
        return (self._in_order.popleft(), None) if self._in_order else None

    @property
    def unsent(self) -> int:
        """How many messages wait."""
        return len(self._passing) + len(self._in_order) + (self._model is not None)

    def wake(self) -> None:
        """Make `wait` return, though there is nothing new."""
        self._work.set()

    async def wait(self) -> None:
        """Return when something new may be there to take."""
        await self._work.wait()
        self._work = trio.Event()

    async def wait_for_values(self) -> None:
        """Wait for the value of whichever model stands in the slot; runs as long as the connection."""
        while True:
            await self._model_changed.wait()
            self._model_changed = trio.Event()
            with trio.CancelScope() as self._waiting:
                await self._wait_for_value()

    async def _wait_for_value(self) -> None:
        message = self._model
        if message is None:
            return
        value = await message.model.wait()  # type: ignore[attr-defined]
        if self._model is message:
            self._value = value
            self._work.set()
