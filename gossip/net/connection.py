"""One connection: hello both ways, then a reader, a writer, and signs of life.

Three tasks live in one nursery. Whatever ends one ends all three, and comes out of `run` as one error: `PeerError`
(they broke a rule), `NetworkError` (nobody did), `Farewell` (they said goodbye). Nothing here knows other connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gossip.errors import GossipError, NetworkError, PeerError, ProtocolMisuse
from gossip.net.ahead import Ahead
from gossip.net.local import Local
from gossip.net.receiving import Receiver
from gossip.net.sending import Sender
from gossip.net.settings import sent_chunk_bytes
from gossip.net.stream import EndOfStream, Stream
from gossip.protocols.base import Message, PeerId
from gossip.wire.agreement import Expectation
from gossip.wire.codecs.base import Codec, Copy, Linked, anew_specs, part_specs
from gossip.wire.codecs.float32 import EXACTLY
from gossip.wire.documents import Document, Envelope
from gossip.wire.frames import Cancelled, FrameReader, Received, writer
from gossip.wire.messages import Goodbye, Heartbeat, Hello, ResyncMessage, Welcome
from gossip.wire.tensors import WireTensor

RESYNC_S = 1.0
"""So often at most a link is asked to begin anew."""
PART_TIMEOUT_S = 1.0
"""For telling the other side why its connection ends."""

_GOODBYE_CHARACTERS_MAX = 300


class Farewell(GossipError):
    """The other side ended the connection in an orderly way."""

    def __init__(self, reason: str, sentence: str) -> None:
        # What a peer says goes to logs and terminals.
        shown = "".join(c if c.isprintable() else "?" for c in sentence[:_GOODBYE_CHARACTERS_MAX])
        super().__init__(shown)
        self.reason = "".join(c if c.isprintable() else "?" for c in reason[:32])


class Connection:
    """A stream to one peer, once it is encrypted (or once it is known not to be)."""

    def __init__(
        self,
        local: Local,
        stream: Stream,
        *,
        peer: PeerId | None,
        dialled: bool,
        address: str,
        peers_digest: str,
    ) -> None:
        self.local = local
        self.peer = peer or ""
        """Who it is: by certificate, or, without TLS, by its own word in the hello."""
        self.dialled = dialled
        self.address = address
        self.instance = ""
        self.theirs_digest = ""
        self.rtt_s: float | None = None
        self.up_since_s: float | None = None
        self.received_bytes = 0
        self._stream = stream
        self._peers_digest = peers_digest
        specs = local.codec.specs(local.learned_size)
        parts = part_specs(local.codec, local.learned_size)
        anew = anew_specs(local.codec, local.learned_size)
        self._expectation = Expectation(
            local.agreement,
            local.codec.name,
            specs,
            sender=peer,
            part_specs=parts,
            learned=local.learned_size,
            anew=anew,
        )
        reader = FrameReader(self._expectation.accept, checksum=local.insecure, pool=local.pool)
        self._ahead = Ahead(self._decoded_by)
        self._receiver = Receiver(stream, reader, local.settings, on_coming=self._ahead.note)
        envelope = Envelope(local.agreement.run_id, local.agreement.space_id, local.name)
        frames = writer(
            envelope,
            local.codec.name,
            specs,
            part_specs=parts,
            learned=local.learned_size,
            anew=anew,
            declared=local.declared,
            checksum=local.insecure,
            chunk_bytes=sent_chunk_bytes(local.settings.chunk_bytes, local.settings.upload_mbps_max),
        )
        self._sender = Sender(local, stream, frames, on_replaced=lambda: local.on_lost(self.peer))
        self._copy: Copy | None = None
        """Where what comes adds up: what has come on this connection."""
        self._asked_s = -RESYNC_S
        self._obeyed_s = -RESYNC_S
        self.outbox = self._sender.outbox
        self._scope = trio.CancelScope()
        self._abandoned = False
        self._ended_by: Exception | None = None
        stream.on_input = self._receiver.note_input
        stream.write_timeout_s = local.settings.write_timeout_s

    # --- the beginning ---

    async def greet(self) -> Hello:
        """Exchange hellos. The caller sets the deadline.

        Raises:
            PeerError: another version, run, model or name. Farewell: they refuse us. NetworkError.
        """
        hello = Hello(
            agreement=self.local.agreement.sections,
            instance=self.local.instance,
            peers_digest=self._peers_digest,
        )
        await self._sender.send_small(hello)
        document, message = await self._read_transport()
        if not isinstance(message, Hello):
            raise PeerError("garbage", f"a '{document.kind}' message before the hello")
        # Names first: without TLS everything else that is said about this peer depends on it.
        if not self.peer:
            self.peer = self._expectation.sender = document.envelope.sender
        self._expectation.greeted = True
        self.instance, self.theirs_digest = message.instance, message.peers_digest
        self.local.agreement.check_hello(document, message)
        return message

    async def wait_for_welcome(self) -> None:
        """Wait until the other side, who decides between two connections, has taken this one."""
        document, message = await self._read_transport()
        if not isinstance(message, Welcome):
            raise PeerError("garbage", f"a '{document.kind}' message before the welcome")

    async def part(self, reason: str, sentence: str) -> None:
        """Tell the other side why the connection ends, as far as it listens. Never raises."""
        with trio.move_on_after(PART_TIMEOUT_S):
            try:
                await self._sender.send_small(
                    Goodbye(reason=reason, sentence=sentence[:_GOODBYE_CHARACTERS_MAX])
                )
                await self._stream.finish()
                # Closing with unread bytes would reset the connection, and the goodbye might be lost with it.
                await self._stream.discard()
            except (NetworkError, PeerError):
                return

    # --- the life ---

    async def run(self, first: Message | None = None) -> None:
        """Send `first`, then read and write until one of the ends named above, which is raised.

        Returns normally only after `leave` or `abandon`. Nothing is delivered after `abandon`.
        """
        self._stream.use()
        self.up_since_s = trio.current_time()
        self._sender.put_off_heartbeat()
        sender = self._sender
        with self._scope:
            async with trio.open_nursery() as nursery:
                for task in (
                    lambda: sender.write(first),
                    self._read,
                    self._ahead.run,
                    sender.beat,
                    self.outbox.wait_for_values,
                ):
                    nursery.start_soon(self._guard, task, nursery.cancel_scope)
        if self._ended_by is not None and sender.goodbye is None:
            raise self._ended_by

    def leave(self, reason: str, *, within_s: float) -> None:
        """Send what is queued, say goodbye and end; a model not through after half of `within_s` is cancelled.

        Until the other side ends it too, or `within_s` has passed, what it sends is still delivered.
        """
        if self._sender.goodbye is None:
            now_s = trio.current_time()
            self._sender.goodbye = Goodbye(reason=reason, sentence=f"{self.local.name} says: {reason}")
            self._sender.leave_by_s = now_s + within_s / 2
            self._scope.deadline = now_s + within_s
            self.outbox.wake()

    def abandon(self) -> None:
        """End at once and without a word: from now on nothing is read, and what is being decoded is not delivered."""
        self._abandoned = True
        self._sender.goodbye = self._sender.goodbye or Goodbye(reason="replaced", sentence="")
        self._scope.cancel()

    def note_rejected(self) -> None:
        """Note that a message of theirs was of no use; too many of them end the connection, at once."""
        try:
            self._receiver.note_rejected()
        except PeerError as error:
            self._ended_by = self._ended_by or error
            self._abandoned = True
            self._scope.cancel()

    @property
    def sent_bytes(self) -> int:
        """All that was sent."""
        return self._sender.sent_bytes

    @property
    def last_input_s(self) -> float:
        """When something last came."""
        return self._receiver.last_input_s

    async def _guard(self, task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """Run one of the tasks; keep the first expected error, and end the others."""
        try:
            await task()
        except (GossipError, EndOfStream) as error:
            if isinstance(error, ProtocolMisuse):
                raise
            if self._ended_by is None:
                self._ended_by = error
            scope.cancel()

    # --- reading ---

    async def _read(self) -> None:
        self._receiver.note_input()
        with self._receiver.alive:
            while True:
                # The event is nobody's but the callee's: a name for it here would keep a model alive until the next.
                await self._handle(await self._receiver.next_event())
        raise self._receiver.too_late()

    async def _handle(self, event: Received | Cancelled) -> None:
        document = event.document
        self._count_received(event)
        if isinstance(event, Cancelled):
            self._ahead.forget()
            return
        if not document.type.transport:
            if event.tensors:
                # Decoding takes time in which nobody reads.
                self._receiver.suspend()
            await self._deliver(document, event.tensors)
            self._receiver.note_input()
            return
        match document.message():
            case Heartbeat() as heartbeat:
                rtt_s = self._sender.note_heard(heartbeat)
                self.rtt_s = self.rtt_s if rtt_s is None else rtt_s
            case ResyncMessage():
                self._begin_anew()
            case Goodbye() as goodbye:
                raise Farewell(goodbye.reason, goodbye.sentence)
            case _:
                raise PeerError("garbage", f"a '{document.kind}' message out of place")

    async def _deliver(self, document: Document, tensors: tuple[WireTensor, ...]) -> None:
        codec = self.local.codec if document.codec == self.local.codec.name else EXACTLY
        model: Any = self.local.unseen(self.peer) if tensors else None
        if tensors and isinstance(codec, Linked):
            # Added up even where it is not looked at: the next one follows it.
            copy = await trio.to_thread.run_sync(codec.follow, self._copy, tensors, self._elements(document))
            self._copy = copy or self._copy
            if copy is None or model is None:
                model = None if copy is None else copy.vector
        elif tensors and model is None:
            elements = self._elements(document)
            if codec.instant:
                model = codec.read(tensors, elements)
            else:
                model = await self._ahead.read(codec, tensors, elements)
        if tensors:
            self._ahead.forget()
        # The thread was waited for, and meanwhile the table may have let go of this connection.
        if self._abandoned:
            return
        if tensors and model is None:
            self._ask_anew()
            return
        if document.classes is not None:
            self.local.on_declared(self.peer, document.classes)
        self.local.on_message(self.peer, document.message(model))

    def _decoded_by(self, document: Document) -> tuple[Codec, int] | None:
        """Return what decodes a model as it comes, and how many numbers it has; None: it waits until it is whole."""
        codec = self.local.codec
        if document.codec != codec.name or codec.instant or isinstance(codec, Linked):
            return None
        return None if self.local.unseen(self.peer) is not None else (codec, self._elements(document))

    def _ask_anew(self) -> None:
        """Drop a model that does not follow the last one."""
        self.local.accounting.reject("no-reference")
        now_s = trio.current_time()
        if now_s - self._asked_s >= RESYNC_S:
            self._asked_s = now_s
            self.outbox.put(ResyncMessage())

    def _begin_anew(self) -> None:
        """Let the next model begin anew: it takes more bytes, so not for every asking."""
        now_s = trio.current_time()
        if now_s - self._obeyed_s >= RESYNC_S / 2:
            self._obeyed_s = now_s
            self.local.on_lost(self.peer)

    def _elements(self, document: Document) -> int:
        """Return how many numbers have come: those of the model, or of the part that the message says."""
        piece, learned = document.message().piece, self.local.learned_size
        if piece is None:
            return learned
        start, stop = piece.bounds(learned)
        return stop - start

    async def _read_transport(self) -> tuple[Document, Message]:
        """Read one message of the connection itself, before protocols may speak."""
        event = await self._receiver.next_event()
        self._count_received(event)
        if not event.document.type.transport:
            raise PeerError("garbage", f"a '{event.document.kind}' message before the connection is agreed")
        message = event.document.message()
        if isinstance(message, Goodbye):
            raise Farewell(message.reason, message.sentence)
        return event.document, message

    def _count_received(self, event: Received | Cancelled) -> None:
        whole = isinstance(event, Received)
        self.received_bytes += event.frame_bytes
        self.local.accounting.received.count(
            event.document.kind,
            event.frame_bytes,
            payload_bytes=event.payload_bytes if isinstance(event, Received) else 0,
            transport=event.document.type.transport,
            messages=1 if whole else 0,
        )
