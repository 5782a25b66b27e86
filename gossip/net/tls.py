"""Mutual TLS 1.3 whose only trust anchors are the certificates in the peers file.

There is no certificate authority: every peer's self-signed certificate is an anchor of its own, and after the handshake
the certificate shown must be, byte for byte, one of the file.
"""

from __future__ import annotations

import ssl

import trio

from gossip.errors import PeerError, SettingError
from gossip.net.identity import Identity
from gossip.net.peers_file import PeersFile
from gossip.net.stream import RECEIVED_PIECE_BYTES, TlsStream, Turn
from gossip.net.upload import Upload


class TlsContexts:
    """What TLS needs to know about us and about all others."""

    def __init__(self, identity: Identity, peers: PeersFile, upload: Upload | None = None) -> None:
        self._identity = identity
        self._upload = upload
        self._ciphertext = memoryview(bytearray(RECEIVED_PIECE_BYTES))
        self.trust(peers)

    def trust(self, peers: PeersFile) -> None:
        """Trust those of this file and nobody else, also in handshakes that are under way.

        A handshake keeps the anchors that it began with; what it finds is looked up in the file as it is at its end.

        Raises:
            SettingError: TLS cannot use our identity, or a certificate of the file; nothing has changed.
        """
        own = self._identity.certificate_der
        anchors = b"".join(
            entry.certificate for entry in peers if entry.certificate is not None and entry.certificate != own
        )
        server = _context(ssl.PROTOCOL_TLS_SERVER, self._identity, anchors)
        # Sessions are not resumed: a ticket would only be bytes that nobody reads.
        server.num_tickets = 0
        self._client = _context(ssl.PROTOCOL_TLS_CLIENT, self._identity, anchors)
        self._server, self._peers = server, peers

    async def connect(self, transport: trio.SocketStream, name: str, *, turn: Turn = None) -> TlsStream:
        """Shake hands with the peer we dialled; it must be `name`. `turn` and errors as `TlsStream.handshake`."""
        stream = TlsStream(transport, self._client, server_side=False, ciphertext=self._ciphertext)
        stream.upload = self._upload
        found = await self._identify(stream, turn)
        if found != name:
            raise PeerError("certificate", f"is not '{name}' but '{found}', who should be at another address")
        return stream

    async def accept(self, transport: trio.SocketStream, *, turn: Turn = None) -> tuple[TlsStream, str]:
        """Shake hands with whoever dialled us; return the stream and its name. The rest as in `connect`."""
        stream = TlsStream(transport, self._server, server_side=True, ciphertext=self._ciphertext)
        stream.upload = self._upload
        # Who says nothing, or little, takes no turn.
        await stream.hear_out()
        return stream, await self._identify(stream, turn)

    async def _identify(self, stream: TlsStream, turn: Turn) -> str:
        certificate = await stream.handshake(turn)
        entry = self._peers.find_certificate(certificate)
        if entry is None or certificate == self._identity.certificate_der:
            raise PeerError("certificate", "shows a certificate that is not in our peers file")
        return entry.name


def _context(protocol: int, identity: Identity, anchors: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Names are not in DNS: who it is follows from the certificate itself.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(identity.path)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"{identity.path}: TLS cannot use this identity; make a new one") from error
    if anchors:
        try:
            context.load_verify_locations(cadata=anchors)
        except ssl.SSLError as error:
            raise SettingError(f"TLS cannot use a certificate of the peers file: {error.reason}") from error
    return context
