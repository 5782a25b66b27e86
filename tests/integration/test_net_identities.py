"""Who may pass as whom: a key stands for one name, over TLS 1.3 and nothing else."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from gossip.errors import NetworkError, PeerError
from gossip.net.identity import Identity
from gossip.net.tls import TlsContexts
from tests.network import PATIENCE_S, Net


def test_a_trusted_peer_cannot_answer_at_anothers_address(tmp_path: Path) -> None:
    """Bob's key is in the file, his documents name alice, and he has got hold of her address."""
    net = Net(tmp_path, "alice", "bob", "carol")

    async def main() -> None:
        carol = net.peer("carol", contacts=("alice",), dial_delay_s=0.0)
        bob = net.peer("alice", identity=net.identities["bob"], contacts=())
        async with trio.open_nursery() as nursery:
            await nursery.start(bob.table.run)
            await nursery.start(carol.table.run)
            await carol.until(lambda: bool(carol.rejected))
            assert carol.rejected[0] == (
                "alice",
                "certificate",
                "is not 'alice' but 'bob', who should be at another address",
            )
            assert not carol.changes
            # Not even a hello: what run this is, is nothing that bob is told in alice's place.
            assert carol.accounting.sent.total == 0
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_trusted_peer_cannot_call_as_another(tmp_path: Path) -> None:
    net = Net(tmp_path, "alice", "bob", "carol")

    async def main() -> None:
        carol = net.peer("carol", contacts=())
        async with net.by_hand("bob", claims="alice") as bob, trio.open_nursery() as nursery:
            await nursery.start(carol.table.run)
            await bob.dial(net.ports["carol"], "carol")
            await bob.say_hello()
            assert await bob.hear_the_end() == "refused"
            assert [(peer, reason) for peer, reason, _ in carol.rejected] == [("bob", "sender")]
            assert not carol.changes
            nursery.cancel_scope.cancel()

    trio.run(main)


async def connected() -> tuple[trio.SocketStream, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    near = await trio.open_tcp_stream(*listener.socket.getsockname())
    far = await listener.accept()
    await listener.aclose()
    return near, far


def outdated(identity: Identity, protocol: int) -> ssl.SSLContext:
    """Return what a peer with this key would use that speaks TLS 1.2 and nothing newer."""
    context = ssl.SSLContext(protocol)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(identity.path)
    return context


@pytest.mark.parametrize("side", ["client", "server"])
def test_tls_1_2_is_refused_though_the_key_is_in_the_file(tmp_path: Path, side: str) -> None:
    net = Net(tmp_path, "alice", "bob")
    identity = net.identities["bob"]

    async def main() -> None:
        tls = TlsContexts(net.identities["alice"], net.peers)
        ours, theirs = await connected()
        refused = False

        async def alice() -> None:
            nonlocal refused
            try:
                await (tls.accept(ours) if side == "client" else tls.connect(ours, "bob"))
            except (PeerError, NetworkError):
                refused = True
            finally:
                ours.socket.close()

        context = outdated(identity, ssl.PROTOCOL_TLS_CLIENT if side == "client" else ssl.PROTOCOL_TLS_SERVER)
        bob = trio.SSLStream(theirs, context, server_side=side == "server")
        try:
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(alice)
                    with suppress(trio.BrokenResourceError):
                        await bob.do_handshake()
                    await bob.aclose()
        finally:
            theirs.socket.close()
        assert refused

    trio.run(main)
