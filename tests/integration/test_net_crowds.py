"""Crowds before the door: floods of calls, calls without a word, many calls with one key."""

from __future__ import annotations

import resource
import socket
import ssl
import tracemalloc
from collections import deque
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from gossip.net.listening import accept_each
from gossip.net.tls import TlsContexts
from tests.network import PATIENCE_S, Net


async def call_from(host: str, port: int) -> trio.SocketStream:
    """Call the port from another address of this machine."""
    caller = trio.socket.socket()
    try:
        await caller.bind((host, 0))
        await caller.connect(("127.0.0.1", port))
    except BaseException:
        caller.close()
        raise
    return trio.SocketStream(caller)


def client_hello() -> bytes:
    """Return what anybody may say to begin with."""
    sent = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("word", [b"", b"\x16\x03\x01", client_hello()], ids=["silent", "a little", "hello"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9"])
def test_a_flood_of_calls_that_does_not_end_keeps_no_peer_out(
    tmp_path: Path, host: str, word: bytes, insecure: bool
) -> None:
    """A peer comes up, calling and called, while calls come without a pause, even from its own address."""
    net = Net(tmp_path, "bob", "zoe", insecure=insecure)

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), handshakes_max=48, strangers_max=12, handshake_timeout_s=3600.0)
        bob = net.peer("bob", contacts=("zoe",))
        calls: deque[trio.SocketStream] = deque()

        async def flood() -> None:
            while True:
                stream = await call_from(host, net.ports["zoe"])
                calls.append(stream)
                if word:
                    with suppress(OSError):  # it may have been turned away already
                        await stream.socket.send(word)
                if len(calls) > 200:
                    calls.popleft().socket.close()

        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(zoe.table.run)
                nursery.start_soon(flood)
                with trio.fail_after(PATIENCE_S):
                    while len(calls) < 100:
                        await trio.lowlevel.checkpoint()
                await nursery.start(bob.table.run)
                await bob.until_up("zoe")
                await zoe.until_up("bob")
                nursery.cancel_scope.cancel()
        finally:
            for stream in calls:
                stream.socket.close()

    trio.run(main)


def test_strangers_have_their_own_small_part_of_the_room(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), handshakes_max=48, strangers_max=6, handshake_timeout_s=3600.0)
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            at_home = await call_from("127.0.0.1", net.ports["zoe"])
            strangers = [await call_from(f"127.0.1.{number}", net.ports["zoe"]) for number in range(1, 6)]
            ended = 0

            async def wait_for_the_end(stream: trio.SocketStream) -> None:
                nonlocal ended
                with suppress(trio.BrokenResourceError):
                    assert not await stream.receive_some(1)
                ended += 1

            for stream in (at_home, *strangers):
                nursery.start_soon(wait_for_the_end, stream)
            with trio.fail_after(PATIENCE_S):
                while ended < 3:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert ended == 3
            assert len(zoe.table._conversations) == 3
            nursery.cancel_scope.cancel()
        for stream in (at_home, *strangers):
            stream.socket.close()

    trio.run(main)


def test_who_has_not_said_all_of_the_first_thing_is_among_the_silent(tmp_path: Path) -> None:
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), handshake_timeout_s=3600.0)
        rooms = zoe.table._handshakes._admission._rooms
        async with trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            async with await call_from("127.0.0.1", net.ports["zoe"]) as caller:
                hello = client_hello()
                await caller.send_all(hello[:-1])
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert [len(room.callers) for room in rooms] == [1, 0, 0]
                await caller.send_all(hello[-1:])
                with trio.fail_after(PATIENCE_S):
                    while not rooms[2].callers:
                        await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_of_the_calls_with_one_key_the_newest_goes_on(tmp_path: Path) -> None:
    """So an old one whose process is gone keeps nobody out, and hundreds with one key cost as much as one."""
    net = Net(tmp_path, "bob", "zoe")

    async def main() -> None:
        zoe = net.peer("zoe", contacts=(), handshake_timeout_s=3600.0, heartbeat_timeout_s=3600.0)
        async with net.by_hand("bob") as old, net.by_hand("bob") as new, trio.open_nursery() as nursery:
            await nursery.start(zoe.table.run)
            await old.dial(net.ports["zoe"], "zoe")
            assert (await old.hear()).kind == "hello"
            await new.dial(net.ports["zoe"], "zoe")
            assert await old.hear_the_end() is None
            await new.say_hello()
            await new.greeted("zoe")
            await zoe.until_up("bob")
            assert len(zoe.table._conversations) == 1
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_connection_costs_little_memory_until_it_is_in_use(tmp_path: Path) -> None:
    """Also one that has shown a key of the file, and then says nothing."""
    net = Net(tmp_path, "alice", "bob")
    alice, bob = (TlsContexts(net.identities[name], net.peers) for name in ("alice", "bob"))
    count = 20

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            near = [await trio.open_tcp_stream(*listener.socket.getsockname()) for _ in range(count)]
            far = [await listener.accept() for _ in near]
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            held = []
            for one, other in zip(near, far, strict=True):
                nursery.start_soon(bob.connect, one, "alice")
                held.append(await alice.accept(other))
            after, _ = tracemalloc.get_traced_memory()
            assert len(held) == count
            nursery.cancel_scope.cancel()
        for stream in (*near, *far, listener):
            await stream.aclose()
        # Both sides of each are in this process.
        assert after - before < count * 64 * 1024

    try:
        trio.run(main)
    finally:
        tracemalloc.stop()


def test_without_descriptors_calls_wait_and_are_taken_when_there_are_some_again() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    troubles: list[str] = []
    taken: list[trio.SocketStream] = []

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        caller = socket.socket()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_each, listener, taken.append, troubles.append)
            await trio.testing.wait_all_tasks_blocked()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                caller.connect(listener.socket.getsockname())
                with trio.fail_after(PATIENCE_S):
                    while not troubles:
                        await trio.lowlevel.checkpoint()
                    assert not taken
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            with trio.fail_after(PATIENCE_S):
                while not taken:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        caller.close()
        await taken[0].aclose()
        await listener.aclose()

    trio.run(main)
    # Said at a pace, not with each pass of the loop.
    assert troubles == ["cannot take calls: too many open files"]
