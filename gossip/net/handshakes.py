"""From a transport to a connection that both sides have agreed on: who may come in, in which order, and as what.

    called      waits in the room before the door (`Admission`) until it says something
    TLS         one step of one handshake at a time (`Turns`); then its key says who it is
    standing    who is held off is refused here (`Standing`); of each key the newest call goes on
    hellos      the same run and model?
    welcome     the smaller name takes the connection, or has one already

Each stage is bounded by one deadline for all, and each ends at once when the peers file has the caller no more.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable

import trio

from gossip.errors import NetworkError, PeerError
from gossip.net.admission import Admission, KnownHosts
from gossip.net.connection import Connection, Farewell
from gossip.net.conversation import Conversation
from gossip.net.local import Local
from gossip.net.neighbour import Neighbour
from gossip.net.peers_file import PeersFile
from gossip.net.stream import PlainStream, Stream
from gossip.net.tls import TlsContexts
from gossip.net.turns import Turns
from gossip.protocols.base import Message, PeerId
from gossip.telemetry.offences import OffenceLog
from gossip.wire.messages import Welcome

RESOLVE_TIMEOUT_S = 5.0
"""For one host name of the peers file; one that is not found is no known host until a peer has come from there."""


class Handshakes:
    """All that are under way."""

    def __init__(
        self,
        local: Local,
        tls: TlsContexts | None,
        peers: PeersFile,
        *,
        neighbour: Callable[[PeerId], Neighbour],
        offences: OffenceLog,
    ) -> None:
        self._local = local
        self._settings = local.settings
        self._tls = tls
        self._neighbour = neighbour
        self._offences = offences
        self._hosts = KnownHosts()
        self._admission: Admission[Conversation] = Admission(
            callers_max=local.settings.handshakes_max,
            strangers_max=local.settings.strangers_max,
            known=self._hosts,
        )
        self._turns = Turns()
        self._calling: dict[PeerId, Conversation] = {}
        """Who has called, has shown its key, and is not agreed with yet."""
        self._listed = trio.Event()
        self.trust(peers)

    def trust(self, peers: PeersFile) -> None:
        """Take over a peers file; see `TlsContexts.trust`."""
        if self._tls is not None:
            self._tls.trust(peers)
        self._peers = peers
        self._hosts.list(entry.host for entry in peers)
        self._listed.set()

    async def run(self) -> None:
        """Give turns, and find the addresses of hosts that the peers file names, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._turns.run)
            while True:
                self._listed = trio.Event()
                await self._resolve(self._peers)
                await self._listed.wait()

    async def _resolve(self, peers: PeersFile) -> None:
        found = [entry.host for entry in peers]
        for host in found.copy():
            if _is_address(host):
                continue
            with trio.move_on_after(RESOLVE_TIMEOUT_S), contextlib.suppress(OSError):
                found += [str(info[4][0]) for info in await trio.socket.getaddrinfo(host, None)]
        if peers is self._peers:
            self._hosts.list(found)

    # --- the stages ---

    def enter(self, conversation: Conversation) -> None:
        """Have one that has called wait before the door; another may have to go for it."""
        leaving = self._admission.enter(conversation, conversation.host)
        if leaving is not None:
            leaving.cut_off()

    def leave(self, conversation: Conversation) -> None:
        """Forget it: it is agreed with, or gone."""
        self._admission.leave(conversation)
        if conversation.entry is not None and self._calling.get(conversation.entry.name) is conversation:
            del self._calling[conversation.entry.name]

    async def meet(self, conversation: Conversation) -> Message | None:
        """Make it a connection; return what is to be sent first.

        From its return to the connection's use nothing may wait, or two connections could both be the first.

        Raises:
            PeerError, NetworkError, EndOfStream, Farewell: it has become none.
        """
        stream = await self._secure(conversation)
        entry = conversation.entry
        connection = conversation.connection = Connection(
            self._local,
            stream,
            peer=None if entry is None else entry.name,
            dialled=conversation.dialled is not None,
            address=conversation.address,
            peers_digest=self._peers.digest,
        )
        if entry is not None:
            self._check_standing(entry.name)
            self._take_the_newest(entry.name, conversation)
            self._admission.leave(conversation)
        await connection.greet()
        peer = connection.peer
        if entry is None:
            # Without TLS the hello has said who it is.
            self._advance(conversation)
            conversation.entry = self._peers.find(peer)
        if peer == self._local.name or conversation.entry is None:
            connection.peer = ""
            raise PeerError("stranger", "gives a name that is not another peer's in our peers file")
        if entry is None:
            self._check_standing(peer)
        first = await self._settle(connection)
        if conversation.dialled is None:
            self._hosts.welcome(conversation.host)
        return first

    async def _secure(self, conversation: Conversation) -> Stream:
        """Encrypt, and note by which line of the file as it is now the other side was let in."""
        transport, name = conversation.transport, conversation.dialled
        if name is None:
            await self._wait_for_a_word(conversation)
        if self._tls is None:
            stream: Stream = PlainStream(transport)
            stream.upload = self._local.upload
        elif name is not None:
            stream = await self._tls.connect(
                transport, name, turn=lambda: self._turns.take(known=True, first=False)
            )
        else:
            stream, name = await self._tls.accept(transport, turn=self._turn_of(conversation))
        conversation.entry = None if name is None else self._peers.find(name)
        return stream

    async def _wait_for_a_word(self, conversation: Conversation) -> None:
        """Until something has come, a caller costs a socket and a task, and is the first to go."""
        try:
            word = await conversation.transport.socket.recv(1, trio.socket.MSG_PEEK)
        except OSError as error:
            raise NetworkError((error.strerror or "it failed").lower()) from error
        if not word:
            raise NetworkError("closed the connection")

    def _advance(self, conversation: Conversation) -> None:
        leaving = self._admission.advance(conversation)
        if leaving is not None:
            leaving.cut_off()

    def _turn_of(self, conversation: Conversation) -> Callable[[], Awaitable[None]]:
        known = self._admission.is_known(conversation)
        first = True

        async def take_turn() -> None:
            nonlocal first
            if first:
                self._advance(conversation)
            await self._turns.take(known=known, first=first)
            if first:
                self._advance(conversation)
            first = False

        return take_turn

    def _check_standing(self, peer: PeerId) -> None:
        """Let `peer` come in, or raise `PeerError` before anything is done for it."""
        standing, now_s = self._neighbour(peer).standing, trio.current_time()
        held_off_s = standing.held_off_s(now_s)
        if held_off_s:
            raise PeerError(
                "held off", f"comes too often, or broke rules: held off for {held_off_s:.1f} s more"
            )
        standing.note_arrival(now_s)

    def _take_the_newest(self, peer: PeerId, conversation: Conversation) -> None:
        """Of the calls with one key only the newest goes on.

        Nobody without the key can drive out who has it, and an old call whose other end is gone keeps nobody out.
        """
        if conversation.dialled is None:
            older = self._calling.get(peer)
            self._calling[peer] = conversation
            if older is not None:
                older.cut_off()

    async def _settle(self, connection: Connection) -> Message | None:
        """Settle with the other side whether this is the connection that is used."""
        peer = connection.peer
        if connection.theirs_digest != self._peers.digest:
            self._offences.note(
                logging.WARNING, peer, "peers file", f"{peer} has another peers file than we have"
            )
        if self._local.name > peer:
            await connection.wait_for_welcome()
            return None
        if self._is_duplicate(connection):
            await connection.part("duplicate", "there is a connection already")
            raise Farewell("duplicate", "there is a connection already")
        return Welcome()

    def _is_duplicate(self, new: Connection) -> bool:
        current = self._neighbour(new.peer).connection
        if current is None or current.instance != new.instance or current.dialled == new.dialled:
            return False
        return trio.current_time() - current.last_input_s < 2 * self._settings.heartbeat_s


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
