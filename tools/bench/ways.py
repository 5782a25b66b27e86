"""Ways to move a vector from one process to another, each with a receiving and a sending half: for `wire.py`."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trio

from gossip.draws import Draws
from gossip.net import peers_file
from gossip.net.identity import Identity
from gossip.net.local import Local
from gossip.net.neighbours import NeighbourTable
from gossip.net.settings import NetSettings
from gossip.net.tls import TlsContexts
from gossip.protocols.base import FinishedMessage, Message, ModelMessage
from gossip.telemetry.accounting import Accounting
from gossip.wire.agreement import Agreement
from gossip.wire.codecs.base import Codec
from gossip.wire.codecs.float32 import Float32
from gossip.wire.codecs.settings import CODECS
from gossip.wire.tensors import WireTensor

ACKNOWLEDGEMENT = b"!"
STREAM = 2
"""Models under way in a stream: one travels while the next is prepared, as many as a node lets wait for a peer."""
Tensors = tuple[WireTensor, ...]


def codec_of(kind: str) -> Codec:
    """Return a codec with its default settings."""
    choice = CODECS.validate({"kind": kind})
    codec: Codec = choice.load()(choice)
    return codec


class Coded:
    """The handle of a model that a thread codes as soon as the node is given it, as a node's learning thread does."""

    def __init__(self, thread: Executor, vector: torch.Tensor, codec: Codec, number: int) -> None:
        self._coded = coded = trio.Event()
        token = trio.lowlevel.current_trio_token()
        self._coming = thread.submit(codec.encode, vector, Draws(0, "b", number))
        # It keeps what it calls, so that a call of this object would keep what was coded until garbage is collected.
        self._coming.add_done_callback(lambda _: token.run_sync_soon(coded.set))

    def ready(self) -> bool:
        """Return whether it is coded."""
        return self._coded.is_set()

    async def wait(self) -> Tensors:
        """Return its tensors."""
        await self._coded.wait()
        return self._coming.result()


class Value:
    """A model handle whose value is there: a vector, or the tensors that it was coded to before."""

    def __init__(self, value: torch.Tensor | Tensors) -> None:
        self._value = value

    def ready(self) -> bool:
        """Return that it is."""
        return True

    async def wait(self) -> torch.Tensor | Tensors:
        """Return it."""
        await trio.lowlevel.checkpoint()
        return self._value


def make_table(
    folder: Path,
    name: str,
    learned: int,
    *,
    codec: Codec | None = None,
    on_peer: Callable[[str, bool], None],
    **callbacks: Any,
) -> NeighbourTable:
    """Return a table of a node as a user runs it."""
    return NeighbourTable(
        Local(
            name=name,
            agreement=Agreement(run_id="benchmark", sections=(), space_id="space"),
            codec=codec or Float32(),
            learned_size=learned,
            settings=NetSettings(),
            accounting=Accounting(),
            instance="1",
            insecure=False,
            **callbacks,
        ),
        peers=peers_file.load(folder / "peers.txt"),
        contacts=("a", "b"),
        identity=Identity.load(folder / name),
        rng=np.random.default_rng(0),
        on_peer=on_peer,
        on_rejected=lambda peer, reason, sentence: sys.exit(f"rejected: {peer} {reason} {sentence}"),
    )


def gossip_receive(folder: Path, port: int, elements: int, count: int, *, codec: str = "float32") -> None:
    """Receive models through a table of neighbours; acknowledge each with a message."""
    del port

    async def main() -> None:
        done = trio.Event()
        seen = 0

        def on_message(sender: str, message: Message) -> None:
            nonlocal seen
            assert isinstance(message, ModelMessage)
            assert message.model.shape == (elements,)
            seen += 1
            table.send(sender, FinishedMessage(round=seen))

        def on_peer(peer: str, up: bool) -> None:
            del peer
            if not up:
                done.set()

        table = make_table(
            folder, "a", elements, codec=codec_of(codec), on_message=on_message, on_peer=on_peer
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(table.run)
            await done.wait()
            nursery.cancel_scope.cancel()
        assert seen == count

    trio.run(main)


def gossip_send(
    folder: Path,
    port: int,
    vector: torch.Tensor,
    count: int,
    *,
    codec: str = "float32",
    again: bool = False,
    under_way: int = 1,
) -> float:
    """Send models through a table of neighbours; return the seconds.

    Args:
        folder: of the peers.
        port: not needed.
        vector: the model.
        count: how many are sent and acknowledged, after one that warms up.
        codec: what they are coded by.
        again: they were coded before, for another neighbour.
        under_way: how many are given to the table before the first of them is acknowledged.
    """
    del port
    used = codec_of(codec)
    before = used.encode(vector, Draws(0, "b", 0)) if again else vector if used.exact else None

    async def main(thread: Executor) -> float:
        up, came = trio.Event(), trio.Semaphore(0)
        table = make_table(
            folder,
            "b",
            vector.numel(),
            codec=used,
            on_message=lambda sender, message: came.release(),
            on_peer=lambda peer, is_up: up.set(),
        )

        def send(number: int) -> None:
            model: Any = Coded(thread, vector, used, number) if before is None else Value(before)
            table.send("a", ModelMessage(round=number, step=0, model=model))

        async with trio.open_nursery() as nursery:
            await nursery.start(table.run)
            await up.wait()
            send(0)
            await came.acquire()
            start = time.perf_counter()
            for number in range(1, count + 1):
                send(number)
                if number >= under_way:
                    await came.acquire()
            for _ in range(min(under_way - 1, count)):
                await came.acquire()
            seconds = time.perf_counter() - start
            await table.close("done")
        return seconds

    with ThreadPoolExecutor(1) as learning:
        return trio.run(main, learning)


def contexts(folder: Path, name: str) -> TlsContexts:
    """Return the same TLS settings for everybody who uses TLS."""
    return TlsContexts(Identity.load(folder / name), peers_file.load(folder / "peers.txt"))


def socket_receive(folder: Path, port: int, elements: int, count: int, *, tls: bool) -> None:
    """Receive with a blocking socket into one preallocated vector."""
    view = memoryview(np.empty(elements, np.float32)).cast("B")
    with socket.create_server(("127.0.0.1", port)) as listener:
        connection = listener.accept()[0]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        connection = contexts(folder, "a")._server.wrap_socket(connection, server_side=True)
    with connection:
        for _ in range(count):
            filled = 0
            while filled < len(view):
                filled += connection.recv_into(view[filled:])
            connection.sendall(ACKNOWLEDGEMENT)


def socket_send(folder: Path, port: int, vector: torch.Tensor, count: int, *, tls: bool) -> float:
    """Send with a blocking socket; return the seconds."""
    view = memoryview(vector.numpy()).cast("B")
    connection = connect(port)
    if tls:
        connection = contexts(folder, "b")._client.wrap_socket(connection)
    with connection:
        return timed(count, lambda: (connection.sendall(view), connection.recv(1)))


def trio_receive(folder: Path, port: int, elements: int, count: int) -> None:
    """Receive with `trio.SSLStream`."""

    async def serve(transport: trio.SocketStream) -> None:
        stream = trio.SSLStream(transport, contexts(folder, "a")._server, server_side=True)
        view = memoryview(np.empty(elements, np.float32)).cast("B")
        for _ in range(count):
            filled = 0
            while filled < len(view):
                piece = await stream.receive_some(min(512 * 1024, len(view) - filled))
                view[filled : filled + len(piece)] = piece
                filled += len(piece)
            await stream.send_all(ACKNOWLEDGEMENT)
        await transport.aclose()

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        async with listener:
            await serve(await listener.accept())

    trio.run(main)


def trio_send(folder: Path, port: int, vector: torch.Tensor, count: int) -> float:
    """Send with `trio.SSLStream`; return the seconds."""
    view = memoryview(vector.numpy()).cast("B")

    async def main() -> float:
        transport = trio.SocketStream(trio.socket.from_stdlib_socket(connect(port)))
        stream = trio.SSLStream(transport, contexts(folder, "b")._client)
        seconds = 0.0
        for number in range(count + 1):
            start = time.perf_counter()
            await stream.send_all(view)
            await stream.receive_some(1)
            seconds += (time.perf_counter() - start) * bool(number)
        await transport.aclose()
        return seconds

    return trio.run(main)


def connect(port: int) -> socket.socket:
    """Connect to the other process, which may not be listening yet."""
    for _ in range(1000):
        try:
            connection = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.01)
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    sys.exit("the other process does not listen")


def timed(count: int, send: Callable[[], object]) -> float:
    """Return the seconds of `count` calls after one that warms up."""
    send()
    start = time.perf_counter()
    for _ in range(count):
        send()
    return time.perf_counter() - start


WAYS: dict[str, tuple[Callable[..., None], Callable[..., float]]] = {
    "gossip": (gossip_receive, gossip_send),
    "ssl": (lambda *a: socket_receive(*a, tls=True), lambda *a: socket_send(*a, tls=True)),
    "trio ssl": (trio_receive, trio_send),
    "raw": (lambda *a: socket_receive(*a, tls=False), lambda *a: socket_send(*a, tls=False)),
}


def way_of(name: str) -> tuple[Callable[..., None], Callable[..., float]]:
    """Return how to receive and send: one of `WAYS`, or ``gossip CODEC``, with more words of what `gossip_send` does.

    With ``stream`` the next is given to the table before the last is acknowledged; with ``again`` it is coded before.
    """
    if name in WAYS:
        return WAYS[name]
    _, codec, *more = name.split()
    under_way = STREAM if "stream" in more else 1
    return (
        partial(gossip_receive, codec=codec),
        partial(gossip_send, codec=codec, again="again" in more, under_way=under_way),
    )


def make_peers(folder: Path) -> int:
    """Make two identities and their peers file; return the first one's port."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = {"a": first.getsockname()[1], "b": second.getsockname()[1]}
    made = [Identity.create(folder / n, name=n, advertise=f"127.0.0.1:{p}") for n, p in ports.items()]
    (folder / "peers.txt").write_text("\n".join(identity.peers_line() for identity in made))
    return ports["a"]
