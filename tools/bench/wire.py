"""How fast do models travel? Tensors to tensors, acknowledged, between two processes on this machine.

    python tools/bench/wire.py [--sizes-mb 1 10 100] [--codecs int8] [--repetitions 5] [--models 60] [--torch] [--json]

Compared, in one run and interleaved, each as fast as its own interface allows and received into preallocated memory
where it can be:

    gossip       the node's own code: NeighbourTable, messages, codec, frames, TLS
    ssl          a blocking `ssl` socket: `sendall` and `recv_into`
    trio ssl     `trio.SSLStream`: `send_all` and `receive_some`
    raw          a blocking TCP socket without TLS

A repetition sends a number of models one after another, each acknowledged before the next; the table has medians.
Below it: models of float32's size that arrive per second by a codec, beside float32 in the same repetition:

    gossip CODEC           one after another: each is coded, sent, decoded and acknowledged before the next
    gossip CODEC stream    the next is given to the node while the last one travels, as it is for float32 beside it
    gossip CODEC again     one after another, to a further neighbour: a model is coded once, however many it goes to

int8 and int4 are coded by numba where the extra `fast` is installed and the model is large, otherwise by torch, as
--torch has it: which one it was is told.

Then milliseconds of CPU per model, of the sending process (which has the coding) and of the receiving one: of a stream,
no more can come per second than the busier of the two lets through, each on a core of its own. Then CPU time per small
message outside TLS, and the bytes that a message costs beyond its tensors. --smoke is the smallest form.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ways import WAYS, make_peers, way_of

from gossip.protocols.base import FinishedMessage, ModelMessage
from gossip.wire.codecs import compiled
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import Envelope
from gossip.wire.frames import FrameReader, writer
from scenarios.virtual.quiet import quiet_collector

BYTES_PER_REPETITION = 600_000_000
"""Six models of 100 MB: of a stream the first and the last have nobody beside them."""
MODELS_PER_REPETITION_MAX = 60
FLOAT32_STREAM = "gossip float32 stream"


def use_core(number: int) -> None:
    """Keep this process on one core: two peers are two machines, and do not take turns on one core."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def receiver_process(pipe: Pipe, numbers_min: int) -> None:
    """The other process."""
    compiled.NUMBERS_MIN = numbers_min
    torch.set_num_threads(1)
    use_core(1)
    receive(pipe)


def receive(pipe: Pipe) -> None:
    """Receive in whichever way it is told, and tell the CPU time for each, until told to end."""
    while (order := pipe.recv()) is not None:
        way, folder, port, elements, count = order
        gc.collect()
        began_s = time.process_time()
        way_of(way)[0](folder, port, elements, count + 1)
        pipe.send((time.process_time() - began_s) / (count + 1))


class Measured(NamedTuple):
    """One repetition of a way."""

    mb_per_s: float
    """Of float32, whatever travels."""
    sender_cpu_ms: float
    """Per model."""
    receiver_cpu_ms: float


def once(pipe: Pipe, way: str, folder: Path, vector: torch.Tensor, count: int) -> Measured:
    """Send `count` models to the receiver behind the pipe."""
    port = make_peers(folder)
    gc.collect()
    pipe.send((way, folder, port, vector.numel(), count))
    began_s = time.process_time()
    seconds = way_of(way)[1](folder, port, vector, count)
    sender_s = (time.process_time() - began_s) / (count + 1)
    return Measured(count * vector.nbytes / 1e6 / seconds, sender_s * 1e3, pipe.recv() * 1e3)


def measure(
    pipe: Pipe, sizes_mb: Sequence[float], repetitions: int, models_max: int, ways: Sequence[str]
) -> list[dict[str, Any]]:
    """Return medians of every way at every size, measured in turns, to the receiver behind the pipe."""
    vectors = {size: torch.rand(int(size * 1e6) // 4) for size in sizes_mb}
    found: dict[float, dict[str, list[Measured]]] = {s: {way: [] for way in ways} for s in sizes_mb}
    with tempfile.TemporaryDirectory() as temporary:
        for repetition in range(repetitions):
            for size, vector in vectors.items():
                count = max(2, min(models_max, int(BYTES_PER_REPETITION / (size * 1e6))))
                for way in ways:
                    folder = Path(temporary) / f"{repetition}-{size}-{way.replace(' ', '-')}"
                    found[size][way].append(once(pipe, way, folder, vector, count))
    return [
        {"size_mb": size, "blocks_by": compiled.coder(vectors[size].numel()), **summary(by_way)}
        for size, by_way in found.items()
    ]


def summary(by_way: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
    """Return medians, and how float32 does beside each way."""
    medians = {
        way: Measured(*map(statistics.median, zip(*values, strict=True))) for way, values in by_way.items()
    }
    # The ratio of neighbours in time: a machine that slows down for a while slows both.
    ratios = {
        way: statistics.median(
            ours.mb_per_s / theirs.mb_per_s for ours, theirs in zip(by_way[beside(way)], values, strict=True)
        )
        for way, values in by_way.items()
    }
    cpu = {way: (median.sender_cpu_ms, median.receiver_cpu_ms) for way, median in medians.items()}
    speeds = {way: median.mb_per_s for way, median in medians.items()}
    return {"mb_per_s": speeds, "gossip_against": ratios, "cpu_ms_per_model": cpu}


def beside(way: str) -> str:
    """Return which way of float32 another is held against."""
    return FLOAT32_STREAM if way.endswith("stream") else "gossip"


@contextmanager
def other_process() -> Iterator[Pipe]:
    """Start the receiving process; end it at the end."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=receiver_process, args=(theirs, compiled.NUMBERS_MIN), daemon=True
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


def show_coded(rows: Sequence[Mapping[str, Any]], coded: Sequence[str]) -> None:
    """Print how coded models do beside float32."""
    by = ", ".join(f"{row['size_mb']:g} MB by {row['blocks_by']}" for row in rows)
    print(f"\nint8 and int4 are coded, of {by}")
    print("models per second, × those of float32" + "".join(f"{way:>20}" for way in coded))
    for row in rows:
        print(
            f"{row['size_mb']:>5g} MB{'':29}"
            + "".join(f"{1 / row['gossip_against'][w]:>20.2f}" for w in coded)
        )
    print("\nCPU per model, ms                  of the sender   of the receiver")
    for row in rows:
        for way, (sender, receiver) in row["cpu_ms_per_model"].items():
            print(f"{row['size_mb']:>5g} MB   {way:<22}{sender:>16.2f}{receiver:>18.2f}")


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes-mb", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--models", type=int, default=MODELS_PER_REPETITION_MAX, help="most models of one repetition"
    )
    parser.add_argument("--codecs", nargs="*", default=["int8"], help="beside float32: int8, int4, …")
    parser.add_argument("--torch", action="store_true", help="leave int8 and int4 to torch")
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
    if options.torch:
        compiled.NUMBERS_MIN = sys.maxsize
    torch.set_num_threads(1)
    coded = [f"gossip {codec}{how}" for codec in options.codecs for how in ("", " stream", " again")]
    ways = [*WAYS, *([FLOAT32_STREAM, *coded] if coded else [])]
    with quiet_collector(), other() as pipe:
        rows = measure(pipe, options.sizes_mb, options.repetitions, options.models, ways)
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
        show_coded(rows, coded)
    print("\nCPU outside TLS, µs per message")
    for what, microseconds in cpu.items():
        print(f"  {what:<24}{microseconds:>8.1f}")
    print("\nbytes beyond the tensors: " + ", ".join(f"{n} at {size}" for size, n in extra.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
