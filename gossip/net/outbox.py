"""What waits to be sent to one peer: a bounded queue of small messages and room for a few models.

A slow peer must cost neither memory nor anybody's time. A model that has not begun to be sent is of little use once
there are newer ones: where the room is full, the newest takes the place of the oldest. Peers in step need room for two:
who has heard all neighbours early sends its model and, at once, the one after the merge, and both are waited for.
A model whose value is still being computed holds up nothing but the models after it.
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

    def __init__(self, *, queue_messages_max: int, queue_models_max: int, accounting: Accounting) -> None:
        self._queue_messages_max = queue_messages_max
        self._queue_models_max = queue_models_max
        self._accounting = accounting
        self._passing: deque[Message] = deque()
        self._in_order: deque[Message] = deque()
        self._models: deque[Message] = deque()
        self._value: Any = None
        self._model_changed = trio.Event()
        self._work = trio.Event()
        self._waiting = trio.CancelScope()
        self._overflown = False

    def put(self, message: Message) -> None:
        """Queue a message. Never blocks; an overflow shows when the writer next asks."""
        if message.carries_model:
            self._models.append(message)
            if len(self._models) > self._queue_models_max:
                self._models.popleft()
                self._accounting.drop("replaced")
                self._next_model()
            elif len(self._models) == 1:
                self._next_model()
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
        if self._models:
            if self._value is None:
                return None
            taken = self._models.popleft(), self._value
            self._next_model()
            return taken
        return (self._in_order.popleft(), None) if self._in_order else None

    @property
    def unsent(self) -> int:
        """How many messages wait."""
        return len(self._passing) + len(self._in_order) + len(self._models)

    def wake(self) -> None:
        """Make `wait` return, though there is nothing new."""
        self._work.set()

    async def wait(self) -> None:
        """Return when something new may be there to take."""
        await self._work.wait()
        self._work = trio.Event()

    async def wait_for_values(self) -> None:
        """Wait for the value of whichever model is the first; runs as long as the connection."""
        while True:
            await self._model_changed.wait()
            self._model_changed = trio.Event()
            with trio.CancelScope() as self._waiting:
                await self._wait_for_value()

    async def _wait_for_value(self) -> None:
        if not self._models:
            return
        message = self._models[0]
        value = await message.model.wait()  # type: ignore[attr-defined]
        if self._models and self._models[0] is message:
            self._value = value
            self._work.set()

    def _next_model(self) -> None:
        """Forget the value of the model that was first; one that is there already needs no waiting."""
        self._waiting.cancel()
        self._value = None
        self._model_changed.set()
