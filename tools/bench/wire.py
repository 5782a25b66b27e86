"""How fast do models travel? Tensors to tensors, acknowledged, between two processes on this machine.

    python tools/bench/wire.py [--sizes-mb 1 10 100] [--codecs int8] [--repetitions 5] [--models 60] [--json] [--smoke]

Compared, in one run and interleaved, each as fast as its own interface allows and received into preallocated memory
where it can be:

    gossip       the node's own code: NeighbourTable, messages, codec, frames, TLS
    ssl          a blocking `ssl` socket: `sendall` and `recv_into`
    trio ssl     `trio.SSLStream`: `send_all` and `receive_some`
    raw          a blocking TCP socket without TLS

A repetition sends a number of models one after another, each acknowledged before the next; the table has medians.
Below it: models of float32's size that arrive per second by a codec, beside float32 in the same repetition: sent to
one neighbour, which takes coding, transfer and decoding, one after the other; and to a further one, for a model is
coded once, however many it goes to. Then CPU time per small message outside TLS, and the bytes that a message costs
beyond its tensors.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection as Pipe
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
from gossip.wire.documents import Envelope
from gossip.wire.frames import FrameReader, writer
from gossip.wire.tensors import WireTensor
from scenarios.virtual.engine import quiet_collector

BYTES_PER_REPETITION = 200_000_000
MODELS_PER_REPETITION_MAX = 60
ACKNOWLEDGEMENT = b"!"
Tensors = tuple[WireTensor, ...]


def codec_of(kind: str) -> Codec:
    """Return a codec with its default settings."""
    choice = CODECS.validate({"kind": kind})
    codec: Codec = choice.load()(choice)
    return codec


class Coded:
    """The handle of a model that is coded when it is sent, in a thread as a node's learning is; or was before."""

    def __init__(
        self, vector: torch.Tensor, codec: Codec, number: int, tensors: Tensors | None = None
    ) -> None:
        self._encode = partial(codec.encode, vector, Draws(0, "b", number))
        self._tensors = tensors

    def ready(self) -> bool:
        """Return whether it is coded."""
        return self._tensors is not None

    async def wait(self) -> Tensors:
        """Return its tensors."""
        await trio.lowlevel.checkpoint()
        if self._tensors is None:
            self._tensors = await trio.to_thread.run_sync(self._encode)
        return self._tensors


class Value:
    """A model handle whose value is there."""

    def __init__(self, vector: torch.Tensor) -> None:
        self._vector = vector

    def ready(self) -> bool:
        """Return that it is."""
        return True

    async def wait(self) -> torch.Tensor:
        """Return it."""
        await trio.lowlevel.checkpoint()
        return self._vector


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


# --- ways to move a vector: each has a receiving and a sending half ---


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
    folder: Path, port: int, vector: torch.Tensor, count: int, *, codec: str = "float32", again: bool = False
) -> float:
    """Send models through a table of neighbours; return the seconds. `again`: they were coded for another."""
    del port
    used = codec_of(codec)
    coded = used.encode(vector, Draws(0, "b", 0)) if again else None

    def handle(number: int) -> Any:
        return Value(vector) if used.exact else Coded(vector, used, number, coded)

    async def main() -> float:
        up, acknowledged = trio.Event(), trio.Event()
        table = make_table(
            folder,
            "b",
            vector.numel(),
            codec=used,
            on_message=lambda sender, message: acknowledged.set(),
            on_peer=lambda peer, is_up: up.set(),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(table.run)
            await up.wait()
            seconds = 0.0
            for number in range(count + 1):
                start = time.perf_counter()
                table.send("a", ModelMessage(round=number, step=0, model=handle(number)))
                await acknowledged.wait()
                if number:  # the first one warms up
                    seconds += time.perf_counter() - start
                acknowledged = trio.Event()
            await table.close("done")
        return seconds

    return trio.run(main)


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
    """Return how to receive and send: one of `WAYS`, or ``gossip CODEC``, with `` again`` where it is coded before."""
    if name in WAYS:
        return WAYS[name]
    _, codec, *again = name.split()
    return partial(gossip_receive, codec=codec), partial(gossip_send, codec=codec, again=bool(again))


def use_core(number: int) -> None:
    """Keep this process on one core: two peers are two machines, and do not take turns on one core."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def receiver_process(pipe: Pipe) -> None:
    """The other process."""
    torch.set_num_threads(1)
    use_core(1)
    receive(pipe)


def receive(pipe: Pipe) -> None:
    """Receive in whichever way it is told, until told to end."""
    while (order := pipe.recv()) is not None:
        way, folder, port, elements, count = order
        gc.collect()
        way_of(way)[0](folder, port, elements, count + 1)


def measure(
    pipe: Pipe, sizes_mb: Sequence[float], repetitions: int, models_max: int, ways: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the median MB/s of every way at every size, measured in turns, to the receiver behind the pipe.

    MB are those of float32, whatever travels.
    """
    vectors = {size: torch.rand(int(size * 1e6) // 4) for size in sizes_mb}
    speeds: dict[float, dict[str, list[float]]] = {s: {way: [] for way in ways} for s in sizes_mb}
    with tempfile.TemporaryDirectory() as temporary:
        for repetition in range(repetitions):
            for size, vector in vectors.items():
                count = max(2, min(models_max, int(BYTES_PER_REPETITION / (size * 1e6))))
                for way in ways:
                    folder = Path(temporary) / f"{repetition}-{size}-{way.replace(' ', '-')}"
                    port = make_peers(folder)
                    gc.collect()
                    pipe.send((way, folder, port, vector.numel(), count))
                    seconds = way_of(way)[1](folder, port, vector, count)
                    speeds[size][way].append(count * vector.numel() * 4 / 1e6 / seconds)
    rows = []
    for size, by_way in speeds.items():
        medians = {way: statistics.median(values) for way, values in by_way.items()}
        # The ratio of neighbours in time: a machine that slows down for a while slows both.
        ratios = {
            way: statistics.median(g / w for g, w in zip(by_way["gossip"], by_way[way], strict=True))
            for way in ways
        }
        rows.append({"size_mb": size, "mb_per_s": medians, "gossip_against": ratios})
    return rows


@contextmanager
def other_process() -> Iterator[Pipe]:
    """Start the receiving process; end it at the end."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=receiver_process, args=(theirs,), daemon=True
    )
    process.start()
    use_core(0)
    try:
        yield ours
        ours.send(None)
        process.join(10)
    finally:
        process.kill()


@contextmanager
def other_thread() -> Iterator[Pipe]:
    """Have a thread of this process receive: it need not import anything first."""
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=receive, args=(theirs,), daemon=True)
    thread.start()
    with ours, theirs:
        yield ours
        ours.send(None)
        thread.join(10)


def make_peers(folder: Path) -> int:
    """Make two identities and their peers file; return the first one's port."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = {"a": first.getsockname()[1], "b": second.getsockname()[1]}
    made = [Identity.create(folder / n, name=n, advertise=f"127.0.0.1:{p}") for n, p in ports.items()]
    (folder / "peers.txt").write_text("\n".join(identity.peers_line() for identity in made))
    return ports["a"]


def cpu_per_message(rounds: int) -> dict[str, float]:
    """Return microseconds of CPU for a small message and for a model's head, in both directions, without TLS."""
    envelope = Envelope("benchmark", "0" * 64, "alice")
    codec = Float32()
    vector = torch.zeros(64)
    frames = writer(envelope, codec.name, codec.specs(64))
    small = FinishedMessage(round=7)
    model = ModelMessage(round=7, step=1, model=None)

    def each(action: Callable[[], object]) -> float:
        start = time.process_time()
        for _ in range(rounds):
            action()
        return (time.process_time() - start) / rounds * 1e6

    def read(stream: bytes) -> Callable[[], None]:
        def action() -> None:
            reader = FrameReader(lambda document: None)
            start = 0
            while start < len(stream):
                buffer = reader.next_buffer()
                buffer[:] = stream[start : start + len(buffer)]
                start += len(buffer)
                event = reader.filled()
            event.document.message(None)  # type: ignore[union-attr]

        return action

    small_bytes = b"".join(frames.small(small, 1))
    model_bytes = b"".join(p for f in frames.model(model, 1, codec.encode(vector)) for p in f)
    return {
        "small message, encode": each(lambda: frames.small(small, 1)),
        "small message, decode": each(read(small_bytes)),
        "model message, encode": each(lambda: list(frames.model(model, 1, codec.encode(vector)))),
        "model message, decode": each(read(model_bytes)),
    }


def overhead(sizes_mb: list[float]) -> dict[str, float]:
    """Return the bytes that a model message has beyond its tensors."""
    envelope, codec = Envelope("benchmark", "0" * 64, "alice"), Float32()
    result = {}
    for size in sizes_mb:
        frames = writer(envelope, codec.name, codec.specs(int(size * 1e6) // 4))
        total, payload = frames.frame_bytes(ModelMessage(round=7, step=1, model=None))
        result[f"{size:g} MB"] = total - payload
    return result


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes-mb", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--models", type=int, default=MODELS_PER_REPETITION_MAX, help="most models of one repetition"
    )
    parser.add_argument("--codecs", nargs="*", default=["int8"], help="beside float32: int8, int4, …")
    parser.add_argument("--messages", type=int, default=20_000, help="for the CPU time of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="two tiny models, to a thread of this process: to see that it works",
    )
    options = parser.parse_args(arguments)
    other = other_process
    if options.smoke:
        options.sizes_mb, options.repetitions, options.models, options.messages = [0.01], 1, 2, 50
        other = other_thread
    torch.set_num_threads(1)
    with quiet_collector(), other() as pipe:
        coded = [f"gossip {codec}{again}" for codec in options.codecs for again in ("", " again")]
        rows = measure(pipe, options.sizes_mb, options.repetitions, options.models, [*WAYS, *coded])
    cpu, extra = cpu_per_message(options.messages), overhead(options.sizes_mb)
    if options.json:
        print(json.dumps({"throughput": rows, "cpu_us_per_message": cpu, "overhead_bytes": extra}))
        return 0
    print(
        f"{ssl.OPENSSL_VERSION}, Python {sys.version.split()[0]}, {os.cpu_count()} cores; MB/s, median of repetitions"
    )
    print(
        f"{'':>8}"
        + "".join(f"{way:>11}" for way in WAYS)
        + "".join(f"  gossip/{way}" for way in WAYS if way != "gossip")
    )
    for row in rows:
        speeds = "".join(f"{row['mb_per_s'][way]:>11.0f}" for way in WAYS)
        ratios = "".join(
            f"{row['gossip_against'][way]:>{9 + len(way)}.2f}" for way in WAYS if way != "gossip"
        )
        print(f"{row['size_mb']:>5g} MB{speeds}{ratios}")
    if coded:
        print("\nmodels per second, × those of float32" + "".join(f"{way:>20}" for way in coded))
        for row in rows:
            ratios = "".join(f"{1 / row['gossip_against'][way]:>20.2f}" for way in coded)
            print(f"{row['size_mb']:>5g} MB{'':29}{ratios}")
    print("\nCPU outside TLS, µs per message")
    for what, microseconds in cpu.items():
        print(f"  {what:<24}{microseconds:>8.1f}")
    print("\nbytes beyond the tensors: " + ", ".join(f"{n} at {size}" for size, n in extra.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
