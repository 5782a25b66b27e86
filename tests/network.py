"""Peers of one process that talk over real sockets, for tests: tables of neighbours that record what happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trio

from gossip.errors import NetworkError, PeerError
from gossip.net import peers_file
from gossip.net.identity import Identity
from gossip.net.local import Local
from gossip.net.neighbours import NeighbourTable
from gossip.net.peers_file import PeersFile
from gossip.net.settings import NetSettings
from gossip.net.stream import EndOfStream, Stream
from gossip.net.tls import TlsContexts
from gossip.protocols.base import Message, ModelMessage
from gossip.telemetry.accounting import Accounting
from gossip.wire.agreement import Agreement
from gossip.wire.codecs.base import Codec
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import Document, Envelope
from gossip.wire.frames import FrameReader, FrameWriter, Received, writer
from gossip.wire.messages import Goodbye, Hello, Welcome
from scenarios.processes.homes import free_ports

PATIENCE_S = 20.0
"""Nothing here takes a second; a test that waits this long has failed."""

UNSEEN = "a model that nobody has looked at"

AGREEMENT = Agreement(run_id="run", sections=(("data", "1"), ("local", "2")), space_id="space")


class Value:
    """A model handle whose value may come later."""

    def __init__(self, vector: torch.Tensor | None = None) -> None:
        self._vector = vector
        self._known = trio.Event()
        if vector is not None:
            self._known.set()

    def set(self, vector: torch.Tensor) -> None:
        self._vector = vector
        self._known.set()

    def ready(self) -> bool:
        return self._vector is not None

    async def wait(self) -> torch.Tensor:
        await self._known.wait()
        assert self._vector is not None
        return self._vector


def model(round: int, vector: torch.Tensor | Value, step: int = 0) -> ModelMessage:
    """Return a model message."""
    handle = vector if isinstance(vector, Value) else Value(vector)
    return ModelMessage(round=round, step=step, model=handle)


class Peer:
    """One peer; `until` waits for what its table tells."""

    def __init__(self, table: Callable[..., NeighbourTable]) -> None:
        self.accounting = Accounting()
        self.messages: list[tuple[str, Message]] = []
        self.changes: list[tuple[str, bool]] = []
        self.rejected: list[tuple[str | None, str, str]] = []
        self.unseen: set[str] = set()
        """Whose models are not decoded."""
        self.lost: list[str] = []
        """Who did not get, or could not use, a model."""
        self._changed = trio.Event()
        self.table = table(
            accounting=self.accounting,
            unseen=lambda sender: UNSEEN if sender in self.unseen else None,
            on_message=lambda sender, message: self._note(self.messages, (sender, message)),
            on_lost=lambda peer: self._note(self.lost, peer),
            on_peer=lambda peer, up: self._note(self.changes, (peer, up)),
            on_rejected=lambda peer, reason, sentence: self._note(self.rejected, (peer, reason, sentence)),
        )

    def _note(self, record: list[Any], entry: Any) -> None:
        record.append(entry)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a change makes `condition` true."""
        with trio.fail_after(PATIENCE_S):
            while not condition():
                self._changed = trio.Event()
                await self._changed.wait()

    async def until_up(self, *names: str) -> None:
        await self.until(lambda: all(self.table.is_up(name) for name in names))

    def reasons(self) -> set[str]:
        return {reason for _, reason, _ in self.rejected}


class Net:
    """Identities and a peers file in a folder, and the peers made from them."""

    def __init__(self, folder: Path, *names: str, insecure: bool = False) -> None:
        self.folder = folder
        self.insecure = insecure
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.identities = {
            name: Identity.create(folder / name, name=name, advertise=f"127.0.0.1:{port}")
            for name, port in self.ports.items()
        }
        self.peers = self.file(*names)

    def file(self, *names: str) -> PeersFile:
        path = self.folder / f"peers-{'-'.join(names)}.txt"
        path.write_text("\n".join(self.identities[name].peers_line() for name in names))
        return peers_file.load(path)

    def peer(
        self,
        name: str,
        *,
        contacts: tuple[str, ...] | None = None,
        peers: PeersFile | None = None,
        agreement: Agreement = AGREEMENT,
        learned: int = 16,
        instance: str = "1",
        identity: Identity | None = None,
        codec: Codec | None = None,
        clock: Callable[[], float] = trio.current_time,
        **settings: Any,
    ) -> Peer:
        peers = peers or self.peers
        return Peer(
            lambda on_peer, on_rejected, **callbacks: NeighbourTable(
                Local(
                    name=name,
                    agreement=agreement,
                    codec=codec or Float32(),
                    learned_size=learned,
                    settings=NetSettings(**settings),
                    instance=instance,
                    insecure=self.insecure,
                    **callbacks,
                ),
                peers=peers,
                contacts=peers.names if contacts is None else contacts,
                identity=None if self.insecure else identity or self.identities[name],
                rng=np.random.default_rng(1),
                on_peer=on_peer,
                on_rejected=on_rejected,
                clock=clock,
            )
        )

    def by_hand(self, name: str, *, claims: str | None = None, learned: int = 16) -> ByHand:
        """Return a peer with the key of `name` that does only what it is told, and says that it is `claims`."""
        return ByHand(TlsContexts(self.identities[name], self.peers), claims or name, learned)


class ByHand:
    """A peer without a table: a test says what it sends, and when."""

    stream: Stream

    def __init__(self, tls: TlsContexts, name: str, learned: int) -> None:
        self.tls = tls
        self.frames: FrameWriter = writer(
            Envelope(AGREEMENT.run_id, AGREEMENT.space_id, name), "float32", Float32().specs(learned)
        )
        self._reader = FrameReader(lambda document: None)
        self._transports: list[trio.SocketStream] = []
        self.seq = 0

    async def __aenter__(self) -> ByHand:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Hang up, without a word."""
        for transport in self._transports:
            transport.socket.close()

    async def dial(self, port: int, name: str = "", *, transport: trio.SocketStream | None = None) -> None:
        """Connect, and shake hands with whoever listens there (`name`, where that is to be checked)."""
        transport = transport or await trio.open_tcp_stream("127.0.0.1", port)
        self._transports.append(transport)
        self.stream = await self.tls.connect(transport, name)

    async def answer(self, transport: trio.SocketStream) -> None:
        """Shake hands with who has called."""
        self._transports.append(transport)
        self.stream, _ = await self.tls.accept(transport)

    async def say(self, *messages: Message) -> None:
        """Send messages without a model."""
        for message in messages:
            self.seq += 1
            await self.stream.send(self.frames.small(message, self.seq))

    async def say_hello(self, instance: str = "1") -> None:
        """Send what a hello of this run is."""
        await self.say(Hello(agreement=AGREEMENT.sections, instance=instance, peers_digest=""))

    async def hear(self) -> Document:
        """Return the next message; a model is received and forgotten."""
        while True:
            await self.stream.receive_into(self._reader.next_buffer())
            event = self._reader.filled()
            if isinstance(event, Received):
                return event.document

    async def hear_the_end(self) -> str | None:
        """Wait until the other side ends it; return the reason, where it gave one in a goodbye."""
        reason = None
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    message = (await self.hear()).message()
                except (EndOfStream, NetworkError, PeerError):
                    return reason
                if isinstance(message, Goodbye):
                    reason = message.reason

    async def come_up(self, port: int, name: str) -> None:
        """Dial, greet and be welcomed, or welcome, as the names have it."""
        await self.dial(port, name)
        await self.say_hello()
        await self.greeted(name)

    async def greeted(self, name: str) -> None:
        """Hear the hello of `name`, and go on to where messages may be sent."""
        assert (await self.hear()).kind == "hello"
        if self.frames.documents.envelope.sender < name:
            await self.say(Welcome())
        else:
            assert (await self.hear()).kind == "welcome"
