"""The table of neighbours: who is connected, and how connections come, meet and go.

Both sides of a pair may dial, since either may be behind a router. To end with one connection, and to agree which
without losing a message, the peer with the smaller name decides: it sends `welcome` on the connection it takes, and the
other side uses none before that. It keeps the connection it has, unless the new one comes from a restarted process, or
from the side that dialled the old one (which dials only when it has lost that), or the old one has gone quiet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import trio

from gossip.errors import GossipError, NetworkError, PeerError, SettingError
from gossip.net.connection import Connection, Farewell
from gossip.net.conversation import Conversation
from gossip.net.dialling import Dialling
from gossip.net.handshakes import Handshakes
from gossip.net.identity import Identity
from gossip.net.listening import accept_each, open_listeners, remote_address
from gossip.net.local import Local
from gossip.net.neighbour import Neighbour
from gossip.net.peers_file import PeersFile
from gossip.net.standing import OFFENCES
from gossip.net.stream import EndOfStream
from gossip.net.tls import TlsContexts
from gossip.protocols.base import Message, PeerId
from gossip.telemetry.offences import OffenceLog
from gossip.wire.memory import IDLE_S

logger = logging.getLogger("gossip.net.neighbours")

OFFENCES_TOLD_S = 10.0
"""How often counted offences are looked through for lines that are due."""

NETWORK = "network"
"""Why a connection ended that nobody did anything wrong to."""

FAREWELLS = frozenset({"leaving", "finished", "removed", "refused"})
"""Reasons of a goodbye that are told apart in the log; they are what the other side says."""


class NeighbourTable:
    """Keeps at most one connection to each peer, and dials the contacts until there is one."""

    def __init__(
        self,
        local: Local,
        *,
        peers: PeersFile,
        contacts: Sequence[PeerId],
        identity: Identity | None,
        rng: np.random.Generator,
        on_peer: Callable[[PeerId, bool], None],
        on_rejected: Callable[[PeerId | None, str, str], None],
        listen: str | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """Make a table; `run` starts it.

        Args:
            local: our side of every connection.
            peers: everybody who may connect to us.
            contacts: those whom we dial.
            identity: ours; None where `local` is insecure.
            rng: for the jitter of dialling.
            on_peer: called when a peer can be reached, and when it no longer can.
            on_rejected: called with (peer or None, reason, sentence) when something received was not used.
            listen: host:port to bind instead of the peers file's.
            clock: seconds, for what is said at most once a minute.
        """
        self._local = local
        self._peers = peers
        self._contacts = frozenset(contacts) - {local.name}
        self._settings = local.settings
        self._accounting = local.accounting
        self._rng = rng
        self._on_peer = on_peer
        self._on_rejected = on_rejected
        self._listen = listen
        self._neighbours: dict[PeerId, Neighbour] = {}
        self._open: set[Connection] = set()
        self._conversations: set[Conversation] = set()
        self._one_closed = trio.Event()
        self._offences = OffenceLog(logger, clock)
        self._handshakes = Handshakes(
            local,
            None if identity is None else TlsContexts(identity, peers, local.upload),
            peers,
            neighbour=self._neighbour,
            offences=self._offences,
        )
        self._closing = False
        self._nursery: trio.Nursery | None = None
        self._dialling: Dialling | None = None
        self._accepting = trio.CancelScope()

    # --- what the node calls ---

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, dial and talk until `close` or cancellation.

        Raises:
            SettingError: we cannot listen, or are not in the peers file.
        """
        entry = self._peers.find(self._local.name)
        if entry is None:
            raise SettingError(f"{self._peers.path}: has no line for this peer, '{self._local.name}'")
        listeners = await open_listeners(entry, self._listen)
        for listener in listeners:
            logger.info("listening on %s%s", _bound_to(listener), self._insecurity())
        if self._local.upload is not None:
            logger.info("sending at most %g Mbit/s ([net] upload_mbps_max)", self._local.upload.mbps)
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._accept, listeners)
            self._nursery.start_soon(self._tell_offences)
            self._nursery.start_soon(self._give_memory_back)
            self._nursery.start_soon(self._handshakes.run)
            self._dialling = Dialling(
                self._local,
                self._nursery,
                find=lambda name: self._peers.find(name),
                converse=self._converse,
                on_failure=self._note_failure,
            )
            for name in sorted(self._contacts):
                self._dialling.start(self._neighbour(name))
            task_status.started()
        self._nursery = self._dialling = None

    def send(self, peer: PeerId, message: Message) -> None:
        """Queue a message; a model message's `model` has `ready()` and `async wait() -> tensor [L]`.

        To a peer that is down it is dropped, and counted.
        """
        connection = self._connection(peer)
        if connection is None or self._closing:
            self._accounting.drop("peer down")
        else:
            connection.outbox.put(message)

    def make_room(self, peer: PeerId) -> None:
        """Have models that wait for `peer` give way to one that is to come, if there are too many of them."""
        connection = self._connection(peer)
        if connection is not None:
            connection.outbox.make_room()

    def note_rejected(self, peer: PeerId) -> None:
        """Note that a message of `peer` was of no use to the protocol; one that sends many of them is cut off."""
        connection = self._connection(peer)
        if connection is not None:
            connection.note_rejected()

    def is_up(self, peer: PeerId) -> bool:
        """Return whether there is a connection to `peer` that both sides use."""
        return self._connection(peer) is not None

    def status(self) -> list[dict[str, Any]]:
        """Return one entry for each contact and each other peer that was ever connected, by name.

        Who was taken out of the peers file is told of no longer than it takes to say goodbye.
        """
        names = sorted(self._contacts | self._neighbours.keys())
        known = (self._neighbour(name) for name in names)
        return [
            each.as_dict(trio.current_time())
            for each in known
            if each.connection is not None or each.name in self._peers
        ]

    def upload(self) -> dict[str, float] | None:
        """Return what `gossip-node status` says of `[net] upload_mbps_max`; None where nothing is set."""
        return None if self._local.upload is None else self._local.upload.as_dict()

    async def close(self, reason: str) -> None:
        """Say goodbye to all, let messages in hand finish, and end `run`; bounded by `close_timeout_s`."""
        self._closing = True
        self._accepting.cancel()
        if self._dialling is not None:
            self._dialling.end()
        for connection in list(self._open):
            connection.leave(reason, within_s=self._settings.close_timeout_s)
        with trio.move_on_after(self._settings.close_timeout_s):
            while self._open:
                self._one_closed = trio.Event()
                await self._one_closed.wait()
        self._offences.tell(all=True)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def certificate_of(self, peer: PeerId) -> bytes | None:
        """Return a peer's certificate (DER) by the peers file as it was read last; None: it has none there."""
        entry = self._peers.find(peer)
        return None if entry is None else entry.certificate

    def replace_peers(self, peers: PeersFile, contacts: Sequence[PeerId] | None = None) -> None:
        """Take over a peers file that was read again: new contacts are dialled, who is not in it is not heard any more.

        That holds from the return of this call on, for connections and for handshakes at whatever stage; also for a
        peer that is in the file with another key. A goodbye may still be sent to it.

        Raises:
            SettingError: as `TlsContexts.trust`; nothing has changed.
        """
        self._handshakes.trust(peers)
        self._peers = peers
        if contacts is not None:
            self._contacts = frozenset(contacts) - {self._local.name}
        for conversation in list(self._conversations):
            if not conversation.stands_in(peers):
                self._cut_off(conversation)
        for name, neighbour in list(self._neighbours.items()):
            now = peers.find(name)
            if now is not None:
                neighbour.identify(now.certificate)
            if now is None or name not in self._contacts:
                neighbour.stop_dialling()
            else:
                neighbour.address = now.address
                neighbour.backoff.reset()
        for name in sorted(self._contacts):
            if name in peers and self._dialling is not None:
                self._dialling.start(self._neighbour(name))

    def _cut_off(self, conversation: Conversation) -> None:
        conversation.cut_off("removed")
        entry, connection = conversation.entry, conversation.connection
        assert entry is not None
        neighbour = self._neighbour(entry.name)
        logger.info(
            "%s (%s) is cut off: the peers file has no line for its key", entry.name, conversation.address
        )
        if connection is not None and neighbour.connection is connection:
            self._detach(neighbour)

    # --- the table ---

    def _neighbour(self, name: PeerId) -> Neighbour:
        neighbour = self._neighbours.get(name)
        if neighbour is None:
            entry = self._peers.find(name)
            address = "" if entry is None else entry.address
            neighbour = self._neighbours[name] = Neighbour(name, address, self._settings, self._rng)
            if entry is not None:
                neighbour.identify(entry.certificate)
        return neighbour

    def _connection(self, peer: PeerId) -> Connection | None:
        neighbour = self._neighbours.get(peer)
        return None if neighbour is None else neighbour.connection

    def _insecurity(self) -> str:
        return (
            " (INSECURE: no encryption, anybody can pretend to be any peer)" if self._local.insecure else ""
        )

    # --- coming ---

    async def _accept(self, listeners: list[trio.SocketListener]) -> None:
        async with trio.open_nursery() as handlers:

            def serve(transport: trio.SocketStream) -> None:
                conversation = Conversation(transport, dialled=None, address=remote_address(transport))
                self._handshakes.enter(conversation)
                handlers.start_soon(self._converse, conversation)

            try:
                with self._accepting:
                    async with trio.open_nursery() as queues:
                        for listener in listeners:
                            queues.start_soon(accept_each, listener, serve, self._note_trouble)
            finally:
                for listener in listeners:
                    listener.socket.close()

    def _note_trouble(self, sentence: str) -> None:
        self._offences.note(logging.ERROR, self._local.name, "descriptors", sentence)

    # --- meeting ---

    async def _converse(self, conversation: Conversation) -> None:
        """Shake hands, greet, agree, talk. Errors of this connection end here."""
        self._conversations.add(conversation)
        try:
            await self._meet_and_talk(conversation)
        except (GossipError, EndOfStream) as error:
            connection = conversation.connection
            who = connection.peer if connection is not None else conversation.dialled
            self._note_failure(who or None, conversation.address, error)
            if isinstance(error, PeerError) and connection is not None:
                if conversation.entry is not None and error.reason in OFFENCES:
                    self._neighbour(conversation.entry.name).standing.note_offence(trio.current_time())
                await connection.part("refused", f"{self._local.name} refuses: {error}")
        except Exception as error:
            # A bug of ours in one connection must not take the others with it.
            who = "a stranger" if conversation.entry is None else conversation.entry.name
            sentence = f"the connection with {who} ({conversation.address}) failed"
            self._offences.note(logging.ERROR, who, "bug", sentence, error=error)
        finally:
            self._conversations.discard(conversation)
            self._handshakes.leave(conversation)
            conversation.transport.socket.close()
            conversation.ended.set()

    async def _meet_and_talk(self, conversation: Conversation) -> None:
        first: Message | None = None
        conversation.meeting.deadline = trio.current_time() + self._settings.handshake_timeout_s
        with conversation.meeting:
            first = await self._handshakes.meet(conversation)
        if conversation.meeting.cancelled_caught and not conversation.is_cut_off:
            raise NetworkError(f"no hello within {self._settings.handshake_timeout_s:g} s")
        connection = conversation.connection
        if connection is not None and not conversation.is_cut_off:
            self._handshakes.leave(conversation)
            await self._talk(connection, first)
        if connection is not None and conversation.is_cut_off and conversation.goodbye is not None:
            await connection.part(conversation.goodbye, f"{self._local.name} says: {conversation.goodbye}")

    async def _talk(self, connection: Connection, first: Message | None) -> None:
        """Put the connection into the table and run it to its end."""
        neighbour = self._neighbour(connection.peer)
        self._open.add(connection)
        try:
            self._attach(neighbour, connection)
            await connection.run(first)
        finally:
            self._open.discard(connection)
            self._one_closed.set()
            if neighbour.connection is connection:
                self._detach(neighbour)

    def _attach(self, neighbour: Neighbour, connection: Connection) -> None:
        old = neighbour.connection
        if old is not None:
            old.abandon()
            self._detach(neighbour)
        neighbour.attach(connection)
        name = neighbour.name
        failures = self._offences.untold(name, NETWORK)
        after = f", after {failures} more failure{'s' * (failures > 1)}" if failures else ""
        sentence = f"{name} is up ({connection.address}){after}{self._insecurity()}"
        if self._offences.note(logging.INFO, name, "up", sentence):
            # They would be told later, as if they came later.
            self._offences.drop(name, NETWORK)
        if self._closing:
            connection.leave("leaving", within_s=self._settings.close_timeout_s)
        self._on_peer(neighbour.name, True)

    # --- going ---

    def _detach(self, neighbour: Neighbour) -> None:
        if neighbour.detach():
            self._offences.calm(neighbour.name)
        self._on_peer(neighbour.name, False)

    def _note_failure(self, peer: PeerId | None, address: str, error: Exception) -> None:
        """Count what a peer did wrong, and log every failure, as far as a line about it is due."""
        sentence = str(error) or "closed the connection"
        level, why = logging.INFO, NETWORK
        if isinstance(error, PeerError):
            level, why = logging.WARNING, error.reason
            self._accounting.reject(error.reason)
            self._on_rejected(peer, error.reason, sentence)
        elif isinstance(error, Farewell):
            if error.reason in ("duplicate", "replaced"):
                return
            level = logging.WARNING if error.reason == "refused" else logging.INFO
            why = f"goodbye: {error.reason}" if error.reason in FAREWELLS else "goodbye"
            sentence = f"says goodbye: {sentence}"
        if peer is not None and peer in self._peers:
            self._neighbour(peer).error = sentence
            self._offences.note(level, peer, why, f"{peer} ({address}): {sentence}")
        elif level >= logging.WARNING:
            # Anybody may connect and leave; that alone is not worth a line.
            host = address.rpartition(":")[0]
            self._offences.note(level, host, why, f"from {address}: {sentence}", crowd="strangers")

    async def _tell_offences(self) -> None:
        while True:
            await trio.sleep(OFFENCES_TOLD_S)
            self._offences.tell()

    async def _give_memory_back(self) -> None:
        while True:
            await trio.sleep(IDLE_S)
            self._local.give_back()


def _bound_to(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
