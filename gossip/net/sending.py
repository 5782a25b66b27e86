"""One connection's outgoing side: what waits in the outbox becomes frames, and where there is nothing, heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from gossip.draws import Draws
from gossip.errors import ProtocolMisuse
from gossip.net.local import Local
from gossip.net.outbox import Outbox
from gossip.net.stream import Stream
from gossip.protocols.base import Message
from gossip.wire.codecs.float32 import EXACTLY
from gossip.wire.frames import Buffer, FrameWriter
from gossip.wire.messages import Goodbye, Heartbeat, type_of
from gossip.wire.tensors import WireTensor


class Sender:
    """Writes to a stream. `write`, `beat` and the outbox's `wait_for_values` run side by side."""

    def __init__(
        self, local: Local, stream: Stream, frames: FrameWriter, *, on_replaced: Callable[[], None]
    ) -> None:
        self._local = local
        self._stream = stream
        self._frames = frames
        self.outbox = Outbox(
            queue_messages_max=local.settings.queue_messages_max,
            queue_models_max=local.settings.queue_models_max,
            accounting=local.accounting,
            on_replaced=on_replaced,
        )
        self.goodbye: Goodbye | None = None
        """Sent when all before it has been; then `write` ends."""
        self.leave_by_s = float("inf")
        """A model that is not through by then is cancelled."""
        self.heartbeat_at_s = 0.0
        self.sent_bytes = 0
        self._seq = 0
        self._heard_stamp_us = 0
        self._heard_at_s = 0.0

    def put_off_heartbeat(self) -> None:
        """Note that something is being sent now, which says as much as a heartbeat."""
        self.heartbeat_at_s = trio.current_time() + self._local.settings.heartbeat_s

    def note_heard(self, heartbeat: Heartbeat) -> float | None:
        """Note a heartbeat of theirs, to be echoed; return the round-trip time in seconds where it tells that."""
        now_s = trio.current_time()
        self._heard_stamp_us, self._heard_at_s = heartbeat.stamp_us, now_s
        if not heartbeat.echo_us:
            return None
        return max(0.0, now_s - (heartbeat.echo_us + heartbeat.held_us) / 1e6)

    async def write(self, first: Message | None) -> None:
        """Send `first`, then what comes into the outbox, until there is a goodbye and nothing before it."""
        if first is not None:
            await self.send_small(first)
        while True:
            message = self.outbox.take()
            if message is not None:
                await self._send_message(message)
            elif self.goodbye is not None:
                await self.send_small(self.goodbye)
                await self._stream.finish()
                return
            else:
                if not self.outbox.note_work():
                    await self.outbox.wait()
                await self._send_heartbeat_if_due()
            # Else its model would live until the next message.
            del message

    async def _send_message(self, message: Message) -> None:
        if message.carries_model:
            value = await message.model.wait()  # type: ignore[attr-defined]
            await self._send_model(
                message, value if isinstance(value, tuple) else self._encoded(message, value)
            )
        else:
            await self.send_small(message)

    def _encoded(self, message: Message, vector: Any) -> tuple[WireTensor, ...]:
        """Return the tensors of a model that is sent as it is, by an exact codec."""
        if vector.shape != (self._local.learned_size,):
            raise ProtocolMisuse(f"a model of shape {tuple(vector.shape)}, not ({self._local.learned_size},)")
        if message.piece is not None:
            start, stop = message.piece.bounds(len(vector))
            vector = vector[start:stop]
        codec = EXACTLY if message.whole else self._local.codec
        return codec.encode(vector, Draws(0, "", message.number))

    async def _send_model(self, message: Message, tensors: tuple[WireTensor, ...]) -> None:
        """Send a model in chunks; what may pass it passes between them."""
        frames = self._frames.model(message, self._next_seq(), tensors)
        sent = 0
        # The head travels with the first chunk: one send less.
        head = next(frames)
        for frame in frames:
            buffers = [*head, *frame]
            head = []
            sent += await self._send(buffers)
            await self._send_passing()
            if trio.current_time() > self.leave_by_s:
                sent += await self._send(self._frames.cancel())
                self._count_sent(message, sent, payload_bytes=0, messages=0)
                self._local.accounting.drop("cancelled")
                return
        self._count_sent(message, sent, payload_bytes=sum(tensor.data.nbytes for tensor in tensors))

    async def beat(self) -> None:
        """Wake the writer when a heartbeat is due: cheaper than a deadline in every wait of its own."""
        while True:
            await trio.sleep_until(self.heartbeat_at_s)
            self.outbox.wake()
            # A writer that is held up must not make this spin.
            await trio.sleep(self._local.settings.heartbeat_s / 10)

    async def _send_passing(self) -> None:
        while (message := self.outbox.take_passing()) is not None:
            await self.send_small(message)
        await self._send_heartbeat_if_due()

    async def _send_heartbeat_if_due(self) -> None:
        now_s = trio.current_time()
        if now_s < self.heartbeat_at_s:
            return
        held_us = int((now_s - self._heard_at_s) * 1e6) if self._heard_stamp_us else 0
        heartbeat = Heartbeat(stamp_us=int(now_s * 1e6), echo_us=self._heard_stamp_us, held_us=held_us)
        await self.send_small(heartbeat)

    async def send_small(self, message: Message) -> None:
        """Send a message without a model."""
        sent = await self._send(self._frames.small(message, self._next_seq()))
        self.put_off_heartbeat()
        self._count_sent(message, sent)

    async def _send(self, buffers: list[Buffer]) -> int:
        await self._stream.send(buffers)
        return sum(map(len, buffers))

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _count_sent(self, message: Message, sent: int, *, payload_bytes: int = 0, messages: int = 1) -> None:
        registered = type_of(message.kind)
        assert registered is not None
        self.sent_bytes += sent
        self._local.accounting.sent.count(
            message.kind,
            sent,
            payload_bytes=payload_bytes,
            transport=registered.transport,
            messages=messages,
        )
