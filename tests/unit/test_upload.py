"""`[net] upload_mbps_max`: what leaves in any time is bounded, nothing starves, and what is short passes models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import scenarios
from gossip.net.local import Local
from gossip.net.sending import Sender
from gossip.net.settings import (
    SLOW_CHUNK_BYTES_MIN,
    UPLOAD_BURST_S,
    NetSettings,
    bytes_per_second,
    sent_chunk_bytes,
)
from gossip.net.stream import PlainStream
from gossip.net.upload import SHORT_BYTES, Upload
from gossip.telemetry.accounting import Accounting
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import Envelope
from gossip.wire.frames import writer
from scenarios import scenario
from tests.laws import tried
from tests.network import AGREEMENT, Net, Value, model


class Wire(PlainStream):
    """A stream whose socket takes everything at once, and remembers when."""

    def __init__(self, upload: Upload | None, log: list[tuple[float, int, str]], name: str) -> None:
        self._send_lock, self._send_broken = trio.Lock(), False
        self.upload, self._log, self._name = upload, log, name

    async def _wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def _write_all(self, data: memoryview) -> None:
        self._log.append((trio.current_time(), len(data), self._name))


Log = list[tuple[float, int, str]]


def run(scene: Callable[[], Awaitable[None]]) -> None:
    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))


def most_beyond(log: Log, rate: float) -> float:
    """Return the largest over all windows of what left in it beyond ``rate * its length``, bytes."""
    most, ahead = 0.0, 0.0
    for number, (now_s, nbytes, _) in enumerate(log):
        since_s = now_s - log[number - 1][0] if number else 0.0
        ahead = max(0.0, ahead - rate * since_s) + nbytes
        most = max(most, ahead)
    return most


sends = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 300_000)), max_size=6)


@tried(20)
@given(st.lists(sends, min_size=1, max_size=4), st.floats(0.05, 20))
def test_in_any_time_no_more_leaves_than_the_rate_and_a_burst_and_all_of_it_does(
    peers: list[list[tuple[float, int]]], mbps: float
) -> None:
    log: Log = []

    async def scene() -> None:
        upload = Upload(mbps)

        async def speak(name: str, what: list[tuple[float, int]]) -> None:
            stream = Wire(upload, log, name)
            for pause_s, nbytes in what:
                await trio.sleep(pause_s)
                await stream.send([bytes(nbytes)])

        async with trio.open_nursery() as nursery:
            for number, what in enumerate(peers):
                nursery.start_soon(speak, str(number), what)
        assert most_beyond(log, bytes_per_second(mbps)) <= upload.burst_bytes * (1 + 1e-9) + 1e-3
        assert not upload.waiting
        assert upload.taken_bytes == sum(nbytes for _, nbytes, _ in log)

    run(scene)
    assert sum(n for _, n, _ in log) == sum(n for what in peers for _, n in what)


def test_nothing_leaves_later_than_the_rate_asks_for() -> None:
    async def scene() -> None:
        log: Log = []
        await Wire(Upload(1.0), log, "a").send([bytes(1_000_000)])
        assert log[-1][0] - log[0][0] == pytest.approx(8.0 - UPLOAD_BURST_S, rel=0.01)

    run(scene)


def test_connections_share_alike_and_one_that_ends_leaves_its_share_to_the_others() -> None:
    async def scene() -> None:
        log: Log = []
        upload = Upload(1.0)
        async with trio.open_nursery() as nursery:
            for name, nbytes in (("a", 250_000), ("b", 500_000), ("c", 500_000)):
                nursery.start_soon(Wire(upload, log, name).send, [bytes(nbytes)])
        ends = {name: max(at for at, _, who in log if who == name) - log[0][0] for name in "abc"}
        assert ends["a"] == pytest.approx(6, abs=0.5)
        assert ends["b"] == pytest.approx(10, abs=0.5) == ends["c"]

    run(scene)


def test_what_is_short_passes_models_and_models_go_on_however_much_is_said() -> None:
    async def scene() -> None:
        log: Log = []
        upload = Upload(1.0)
        late: list[float] = []

        async def chatter(name: str) -> None:
            stream = Wire(upload, log, name)
            for _ in range(200):
                began_s = trio.current_time()
                await stream.send([bytes(SHORT_BYTES)])
                late.append(trio.current_time() - began_s)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(Wire(upload, log, f"model-{name}").send, [bytes(1_000_000)])
            for number in range(10):
                nursery.start_soon(chatter, f"{number}")
            await trio.sleep(30)
            sent = sum(n for _, n, who in log if who.startswith("model"))
            # Eight short ones, 32 KB, then a piece of a model, 12.5 KB.
            assert sent == pytest.approx(30 * 125_000 * 12.5 / 45, rel=0.1)
            nursery.cancel_scope.cancel()
        # Ten at 4 KB each and two pieces of models: not the 24 s that the three models would take.
        assert max(late) < 1.0

    run(scene)


def test_one_who_gives_up_waiting_takes_no_turn_from_the_others() -> None:
    async def scene() -> None:
        log: Log = []
        upload = Upload(0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Wire(upload, log, "a").send, [bytes(30_000)])
            for _ in range(5):
                with trio.move_on_after(0.05):
                    await Wire(upload, log, "b").send([bytes(10_000)])
            await Wire(upload, log, "c").send([bytes(5_000)])
        assert not upload.waiting

    run(scene)


def sender_of(settings: NetSettings, log: Log, local: Any) -> Sender:
    elements = local.learned_size
    frames = writer(
        Envelope("run", "space", "alice"),
        "float32",
        Float32().specs(elements),
        chunk_bytes=sent_chunk_bytes(settings.chunk_bytes, settings.upload_mbps_max),
    )
    return Sender(local, Wire(local.upload, log, "wire"), frames, on_replaced=lambda: None)


def test_heartbeats_go_out_in_time_while_a_hundred_megabytes_are_sent_at_one_megabit() -> None:
    settings = NetSettings(upload_mbps_max=1.0)
    log: Log = []
    local = Local(
        name="alice",
        agreement=AGREEMENT,
        codec=Float32(),
        learned_size=25_000_000,
        settings=settings,
        accounting=Accounting(),
        instance="1",
        insecure=True,
        on_message=lambda *_: None,
    )
    beats: list[float] = []

    async def scene() -> None:
        sender = sender_of(settings, log, local)
        small = sender.send_small

        async def noted(message: Any) -> None:
            await small(message)
            beats.append(trio.current_time())

        sender.send_small = noted  # type: ignore[method-assign]
        sender.put_off_heartbeat()
        sender.outbox.put(model(1, Value(torch.zeros(25_000_000))))
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.write, None)
            nursery.start_soon(sender.beat)
            with trio.fail_after(1000):
                while not local.accounting.as_dict()["messages"]["by_type"].get("model"):
                    await trio.sleep(1)
            nursery.cancel_scope.cancel()
        took_s = trio.current_time() - began_s
        assert took_s == pytest.approx(800, rel=0.02)
        gaps = [b - a for a, b in zip([began_s, *beats], beats, strict=False)]
        assert max(gaps) < 1.2 * settings.heartbeat_s

    run(scene)


def test_all_connections_of_a_node_share_the_limit_on_real_sockets(tmp_path: Path) -> None:
    """Three models of 100 KB at 4 Mbit/s take 0.6 s, and without the limit a few milliseconds."""

    async def scene() -> None:
        net = Net(tmp_path, "alice", "bob", "carol", "dave")
        learned = 25_000
        alice = net.peer("alice", learned=learned, upload_mbps_max=4.0)
        others = [net.peer(name, learned=learned, contacts=()) for name in ("bob", "carol", "dave")]
        async with trio.open_nursery() as nursery:
            for peer in (alice, *others):
                await nursery.start(peer.table.run)
            await alice.until_up("bob", "carol", "dave")
            before, began_s = alice.table.upload(), trio.current_time()
            assert before is not None
            assert before["mbps_max"] == 4.0
            for name in ("bob", "carol", "dave"):
                alice.table.send(name, model(1, Value(torch.ones(learned))))
            for peer in others:
                await peer.until(lambda peer=peer: any(m.kind == "model" for _, m in peer.messages))
            took_s = trio.current_time() - began_s
            sent = alice.table.upload()["bytes"] - before["bytes"]
            assert sent >= 3 * 4 * learned
            assert took_s >= sent / bytes_per_second(4.0) - UPLOAD_BURST_S - 0.01
            assert others[0].table.upload() is None
            nursery.cancel_scope.cancel()

    trio.run(scene)


@given(st.floats(0.001, 10_000), st.integers(1024, 512 * 1024))
def test_chunks_are_no_longer_than_asked_for_and_leave_in_a_burst(mbps: float, wanted: int) -> None:
    chunk = sent_chunk_bytes(wanted, mbps)
    assert chunk <= wanted
    assert chunk <= max(SLOW_CHUNK_BYTES_MIN, bytes_per_second(mbps) * UPLOAD_BURST_S)
    assert sent_chunk_bytes(wanted, None) == wanted


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError):
        NetSettings(upload_mbps_max=0)


@pytest.mark.parametrize(
    ("mbps", "degree", "said"),
    [
        (1.0, 1, None),
        (
            1.0,
            4,
            "4 models at one time get 31.2 kB/s each, and who receives one of more than 0.597 MB gives it",
        ),
        (
            0.1,
            1,
            "1 model at one time gets 12.5 kB/s each, and who receives one of more than 0.154 MB gives it",
        ),
    ],
)
def test_models_that_would_come_too_slowly_for_their_receivers_are_told_of_at_the_start(
    mbps: float, degree: int, said: str | None
) -> None:
    graph = {"topology.kind": "full", "scenario.peers": degree + 1}
    notes = scenario.load("quickstart", values={**graph, "net.upload_mbps_max": mbps}).notes
    assert bool(notes) == (said is not None)
    assert said is None or any(said in note for note in notes)
    paced = {"net.upload_mbps_max": mbps, "net.model_bytes_per_s_min": 1}
    assert not scenario.load("quickstart", values=graph | paced).notes


def test_engines_take_the_same_seconds_and_bytes_for_a_round_at_a_limit(tmp_path: Path) -> None:
    """A model of 19 KB to each of two neighbours a round, 0.5 Mbit/s: 0.6 s."""
    said = {
        "scenario.peers": 3,
        "scenario.algorithm": "dfedavg",
        "topology.kind": "ring",
        "data.train_max": 60,
        "stop.rounds": 4,
        "net.upload_mbps_max": 0.5,
    }
    seconds, traffic = [], []
    for engine in ("virtual", "processes"):
        summary = scenarios.run(
            "quickstart", engine=engine, out=tmp_path / engine, report=False, overrides=said
        ).summary
        first, *_, last = (entry["time"] for entry in summary["curve"])
        seconds.append((last - first) / 3)
        traffic.append(summary["bytes"]["protocol"])
    assert traffic[0] == traffic[1]
    # Real machines are held up by more than the wire, and what has been left in the bucket is a burst at most.
    assert 0.95 * seconds[0] < seconds[1] + UPLOAD_BURST_S
    assert seconds[1] < 2 * seconds[0]
