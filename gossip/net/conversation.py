"""One transport from its first byte to its last: whose it is, as far as that is known, and how it is cut off."""

from __future__ import annotations

import trio

from gossip.net.connection import Connection
from gossip.net.peers_file import PeerEntry, PeersFile
from gossip.protocols.base import PeerId


class Conversation:
    """A transport, who is behind it, and the connection that becomes of it."""

    def __init__(self, transport: trio.SocketStream, *, dialled: PeerId | None, address: str) -> None:
        self.transport = transport
        self.dialled = dialled
        """Whom we called; None where we were called."""
        self.address = address
        self.entry: PeerEntry | None = None
        """The line of the peers file that it was let in by; None until a certificate (or, without TLS, the hello)
        has said."""
        self.connection: Connection | None = None
        self.is_cut_off = False
        self.goodbye: str | None = None
        """What it is told when it is cut off; None: nothing."""
        self.meeting = trio.CancelScope()
        """Around everything before the connection is in use."""
        self.ended = trio.Event()

    def stands_in(self, peers: PeersFile) -> bool:
        """Return whether this file lets in who is behind it; of a stranger, who is not in yet, nothing is known."""
        if self.entry is None:
            return True
        now = peers.find(self.entry.name)
        return now is not None and now.certificate == self.entry.certificate

    @property
    def host(self) -> str:
        """Its address without the port, which is another one with each call."""
        return self.address.rpartition(":")[0]

    def cut_off(self, goodbye: str | None = None) -> None:
        """Hear nothing more of it from this moment on, whatever it is at."""
        self.is_cut_off, self.goodbye = True, goodbye
        self.meeting.cancel()
        if self.connection is not None:
            self.connection.abandon()
