"""Laws of simulated links: when messages arrive, what they cost, and in what order they come."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import SettingError
from gossip.protocols.base import FinishedMessage, Message, ModelMessage
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import Envelope
from gossip.wire.frames import writer
from scenarios.sections import NetworkSettings
from scenarios.traces import Trace
from scenarios.virtual.events.frame_sizes import FrameSizes
from scenarios.virtual.events.network import (
    RETRANSMISSIONS_MAX,
    RETRANSMIT_MAX_S,
    WAITING_MODELS_MAX,
    Latency,
    Network,
)
from tests.laws import tried

MBIT = 1e6 / 8
"""Bytes per second."""


class Wires:
    """A network and its clock; `arrivals` are (time, sender, receiver, number of the message)."""

    def __init__(
        self, peers: int = 10, seed: int = 0, trace: Trace | None = None, uploads: Any = (), **settings: Any
    ) -> None:
        self._heap: list[Any] = []
        self._sequence = itertools.count()
        self.now = 0.0
        self.arrivals: list[tuple[float, int, int, int]] = []
        self.network = Network(
            NetworkSettings(**settings),
            peers=peers,
            seed=seed,
            schedule=self.at,
            trace=trace,
            uploads_mbps=uploads,
        )

    def at(self, time_s: float, function: Callable[..., None], *arguments: Any) -> None:
        assert time_s >= self.now, "nothing happens in the past"
        heapq.heappush(self._heap, (time_s, next(self._sequence), function, arguments))

    def send(
        self, sender: int, receiver: int, nbytes: int, *, at_s: float = 0.0, message: Message | None = None
    ) -> int:
        """Send at a time; return the message's number."""
        number = next(self._sequence)
        told = message or ModelMessage(round=number, step=0, model=None)

        def arrive(time_s: float) -> None:
            self.at(time_s, lambda: self.arrivals.append((time_s, sender, receiver, number)))

        self.at(at_s, lambda: self.network.send(sender, receiver, told, nbytes, self.now, arrive))
        return number

    def run(self) -> dict[int, float]:
        """Let everything arrive; return number -> when."""
        while self._heap:
            self.now, _, function, arguments = heapq.heappop(self._heap)
            function(*arguments)
        return {number: time_s for time_s, _, _, number in self.arrivals}


times = st.floats(0, 5)
sizes = st.integers(1, 10**7)
pairs = st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda pair: pair[0] != pair[1])
transfers = st.lists(st.tuples(pairs, sizes, times), min_size=1, max_size=20)


@given(transfers, st.floats(0, 500))
def test_without_bandwidth_a_message_takes_the_latency_whatever_its_size(sends, latency_ms):
    wires = Wires(latency_ms=latency_ms)
    sent = {wires.send(*pair, nbytes, at_s=at_s): at_s for pair, nbytes, at_s in sends}
    for number, time_s in wires.run().items():
        assert time_s == pytest.approx(sent[number] + latency_ms / 1000)


@given(sizes, st.floats(0.01, 100), st.none() | st.floats(0.01, 100), st.floats(0, 500))
def test_an_upload_bounds_what_its_peer_sends_and_nothing_that_it_receives(nbytes, mbps, link, latency_ms):
    wires = Wires(latency_ms=latency_ms, bandwidth_mbps=link, uploads=[mbps] + [None] * 9)
    out, back = wires.send(0, 1, nbytes), wires.send(1, 0, nbytes)
    arrived = wires.run()
    slowest = min(mbps, link or math.inf)
    assert arrived[out] == pytest.approx(nbytes / (slowest * MBIT) + latency_ms / 1000)
    assert arrived[back] == pytest.approx(nbytes / ((link or math.inf) * MBIT) + latency_ms / 1000)


@given(sizes, st.floats(0.1, 1000), st.floats(0, 500))
def test_with_bandwidth_one_transfer_takes_its_bytes_at_the_rate_and_the_latency(nbytes, mbps, latency_ms):
    wires = Wires(latency_ms=latency_ms, bandwidth_mbps=mbps)
    number = wires.send(0, 1, nbytes)
    assert wires.run()[number] == pytest.approx(nbytes / (mbps * MBIT) + latency_ms / 1000)


@given(st.integers(1, 9), sizes, st.booleans())
def test_k_equal_transfers_out_of_one_peer_or_into_one_take_k_times_as_long(k, nbytes, out):
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    for other in range(1, k + 1):
        wires.send(*((0, other) if out else (other, 0)), nbytes)
    for time_s in wires.run().values():
        assert time_s == pytest.approx(k * nbytes / (8 * MBIT))


links = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=6, max_size=6)
"""Mbit/s up and down of six peers."""


def of_links(ends: list[tuple[float, float]]) -> Trace:
    up, down = zip(*ends, strict=True)
    return Trace(up=up, down=down, lines=len(ends))


@given(links, pairs, sizes)
def test_alone_a_transfer_takes_the_smaller_of_its_two_ends(ends, pair, nbytes):
    wires = Wires(peers=6, latency_ms=0, trace=of_links(ends))
    number = wires.send(*pair, nbytes)
    slower = min(ends[pair[0]][0], ends[pair[1]][1])
    assert wires.run()[number] == pytest.approx(nbytes / (slower * MBIT))


@given(links, transfers)
def test_no_machine_sends_or_receives_more_than_its_own_bandwidth_and_none_waits_for_ever(ends, sends):
    wires = Wires(peers=6, latency_ms=0, trace=of_links(ends))
    nbytes = {wires.send(*pair, size, at_s=at_s): size for pair, size, at_s in sends}
    arrived = wires.run()
    assert len(arrived) == len(sends) - wires.network.replaced
    first_s = min(at_s for _, _, at_s in sends)
    for end in (1, 2):
        total: dict[int, int] = {}
        for arrival in wires.arrivals:
            peer = arrival[end]
            total[peer] = total.get(peer, 0) + nbytes[arrival[3]]
            most = ends[peer][end - 1] * MBIT * (arrival[0] - first_s)
            assert total[peer] <= most * (1 + 1e-9) + 1e-3


@given(transfers, st.floats(0.1, 100), st.floats(0, 0.2))
def test_equal_links_are_what_one_bandwidth_for_all_is(sends, mbps, loss):
    arrivals = []
    for chosen in ({"bandwidth_mbps": mbps}, {"trace": of_links([(mbps, mbps)] * 6)}):
        wires = Wires(peers=6, latency_ms=20, loss=loss, **chosen)
        for pair, size, at_s in sends:
            wires.send(*pair, size, at_s=at_s)
            wires.send(*pair, 100, at_s=at_s, message=FinishedMessage(round=1))
        wires.run()
        arrivals.append(wires.arrivals)
    assert arrivals[0] == arrivals[1]


def test_two_peers_that_exchange_do_not_slow_each_other_down():
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    for pair in ((0, 1), (1, 0)):
        wires.send(*pair, 10**6)
    assert list(wires.run().values()) == pytest.approx([1.0, 1.0])


def test_what_a_finished_transfer_leaves_is_shared_by_the_others():
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    short, long = wires.send(0, 1, 10**6), wires.send(0, 2, 3 * 10**6)
    late = wires.send(0, 3, 10**6, at_s=3.0)
    arrived = wires.run()
    assert arrived[short] == pytest.approx(2.0), "half of the rate"
    # Of its 3 MB one had passed at 2 s and two at 3 s; the last is shared with the late one.
    assert arrived[long] == pytest.approx(5.0)
    assert arrived[late] == pytest.approx(5.0)


@given(transfers)
def test_no_peer_ever_sends_or_receives_more_than_its_bandwidth(sends):
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    nbytes = {wires.send(*pair, size, at_s=at_s): size for pair, size, at_s in sends}
    wires.run()
    first_s = min(at_s for _, _, at_s in sends)
    for end in (1, 2):
        total: dict[int, int] = {}
        for arrival in wires.arrivals:
            peer = arrival[end]
            total[peer] = total.get(peer, 0) + nbytes[arrival[3]]
            assert total[peer] <= 8 * MBIT * (arrival[0] - first_s) * (1 + 1e-9) + 1e-3


@given(transfers)
def test_no_bandwidth_is_left_idle_the_last_arrives_as_soon_as_the_busiest_end_allows(sends):
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    for (_, receiver), size, _ in sends[:3]:
        wires.send(0, receiver or 1, size)  # all at once, out of one peer
    total = sum(size for _, size, _ in sends[:3])
    assert max(wires.run().values()) == pytest.approx(total / (8 * MBIT))


@given(
    transfers,
    st.sampled_from([0.0, 100.0]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([None, 10.0]),
    st.integers(0, 99),
)
@tried(0.6)
def test_models_of_one_link_arrive_in_order_under_jitter_and_loss_and_none_is_lost(
    sends, jitter_ms, loss, bandwidth_mbps, seed
):
    wires = Wires(
        seed=seed, latency_ms=(0, 200), jitter_ms=jitter_ms, loss=loss, bandwidth_mbps=bandwidth_mbps
    )
    sends = sorted(sends, key=lambda send: send[2])
    numbers = [wires.send(*pair, size, at_s=at_s) for pair, size, at_s in sends]
    arrived = wires.run()
    assert len(arrived) == len(numbers) - wires.network.replaced
    if bandwidth_mbps is None:
        assert not wires.network.replaced
    for pair in {pair for pair, _, _ in sends}:
        came = [number for _, sender, receiver, number in wires.arrivals if (sender, receiver) == pair]
        assert came == sorted(came)


@given(st.integers(0, 99), st.floats(0.01, 0.5), st.integers(1, 10**6))
def test_loss_costs_time_and_never_saves_any(seed, loss, nbytes):
    without, with_loss = (Wires(seed=seed, latency_ms=50, loss=share) for share in (0.0, loss))
    for wires in (without, with_loss):
        for index in range(50):
            wires.send(0, 1, nbytes, at_s=100.0 * index)
    before, after = (np.array(sorted(wires.run().values())) for wires in (without, with_loss))
    assert len(after) == 50
    assert (after >= before - 1e-9).all()


def test_where_nearly_everything_is_lost_a_message_still_arrives_and_after_a_bounded_time():
    wires = Wires(latency_ms=50, loss=0.999999)
    number = wires.send(0, 1, 100)
    assert wires.run()[number] <= RETRANSMISSIONS_MAX * RETRANSMIT_MAX_S


def test_two_models_wait_for_a_link_and_then_the_newest_replaces_the_oldest():
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    numbers = [wires.send(0, 1, 10**6, at_s=0.1 * index) for index in range(5)]
    arrived = wires.run()
    assert WAITING_MODELS_MAX == 2
    assert sorted(arrived) == [numbers[0], numbers[3], numbers[4]]
    assert list(arrived.values()) == pytest.approx([1.0, 2.0, 3.0])
    assert wires.network.replaced == 2


def test_a_farewell_waits_for_the_models_before_it():
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    model = wires.send(0, 1, 10**6)
    farewell = wires.send(0, 1, 100, at_s=0.5, message=FinishedMessage(round=3))
    arrived = wires.run()
    assert arrived[farewell] > arrived[model]


def test_a_dropped_connection_takes_its_transfers_along_and_leaves_the_rate_to_the_others():
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    gone, kept = wires.send(0, 1, 10**6), wires.send(0, 2, 10**6)
    wires.send(0, 1, 10**6, at_s=0.1)
    wires.at(1.0, lambda: wires.network.drop(1, 0, wires.now))
    again = wires.send(0, 1, 10**6, at_s=5.0)
    arrived = wires.run()
    assert gone not in arrived
    assert arrived[kept] == pytest.approx(1.5)
    assert arrived[again] == pytest.approx(6.0)
    assert len(arrived) == 2


@given(st.integers(0, 2**32), st.integers(2, 30))
def test_latencies_are_drawn_within_bounds_alike_both_ways_and_from_the_seed_alone(seed, peers):
    drawn = NetworkSettings(latency_ms=(50, 300))
    one, two = (Latency(drawn, peers=peers, seed=seed) for _ in range(2))
    for a, b in itertools.combinations(range(peers), 2):
        assert 0.05 <= one.between(a, b) <= 0.3
        assert one.between(a, b) == two.between(b, a)


def test_cities_take_turns_and_a_missing_direction_is_as_the_other(tmp_path):
    path = tmp_path / "cities.csv"
    path.write_text("# one way\n\nOslo,Rome,20\nRome,Oslo,30\nOslo, Lima ,100\nRome,Lima,90\n")
    latency = Latency(NetworkSettings(cities_path=str(path)), peers=7, seed=0)
    oslo, rome, lima = 0, 1, 2
    assert latency.between(oslo, rome) == 0.02
    assert latency.between(rome, oslo) == 0.03
    assert latency.between(lima, oslo) == latency.between(oslo, lima) == 0.1
    assert latency.between(3, 5) == 0.1, "peers 3 and 5 are in the cities of 0 and 2"
    assert latency.between(0, 3) == 0.001


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# from,to,ms\n\nOslo,Rome,quick\n", ":3: 'Oslo,Rome,quick': must be 'from,to,milliseconds'"),
        ("Oslo,Rome\n", ":1: 'Oslo,Rome': must be"),
        ("Oslo,Rome,1,2\n", ":1: 'Oslo,Rome,1,2': must be"),
        ("Oslo,Rome,-1\n", ":1: 'Oslo,Rome,-1': must be"),
        ("Oslo,Rome,nan\n", ":1: 'Oslo,Rome,nan': must be"),
        (",Rome,1\n", ":1: ',Rome,1': must be"),
        ("Oslo,Rome,1\nLima,Rome,1\n", ": no latency from 'Oslo' to 'Lima'"),
        ("# nothing\n", ": names no cities"),
        ("Osl\xff,Rome,1", ": not UTF-8 text (byte 3)"),
    ],
)
def test_a_wrong_file_of_cities_is_one_sentence_with_its_line(tmp_path, text, said):
    path = tmp_path / "cities.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingError) as error:
        Latency(NetworkSettings(cities_path=str(path)), peers=2, seed=0)
    assert str(error.value).startswith(f"{path}{said}")
    assert "\n" not in str(error.value)


@given(
    st.integers(1, 30_000),
    st.integers(0, 2**31),
    st.integers(0, 63),
    st.integers(0, 2**40),
    st.sampled_from([1024, 4096, 512 * 1024]),
    st.none() | st.lists(st.sets(st.integers(0, 4095), max_size=20), min_size=2, max_size=2),
)
def test_messages_have_the_size_that_the_wire_really_gives_them(
    learned, round, step, seq, chunk_bytes, declared
):
    names, codec = ("peer-07", "peer-1000"), Float32()
    run_id, space_id = "0123456789abcdef", "0123456789abcdef" * 2
    frame_bytes = FrameSizes(
        names,
        run_id=run_id,
        space_id=space_id,
        codec=codec,
        learned_size=learned,
        chunk_bytes=chunk_bytes,
        declared=None if declared is None else dict(zip(names, declared, strict=True)),
    )
    for position, name in enumerate(names):
        real = writer(
            Envelope(run_id, space_id, name),
            codec.name,
            codec.specs(learned),
            declared=None if declared is None else sorted(declared[position]),
            chunk_bytes=chunk_bytes,
        )
        model = ModelMessage(round=round, step=step, model=None)
        frames = list(real.model(model, seq, codec.encode(torch.zeros(learned))))
        assert frame_bytes(position, model) == (
            sum(len(part) for frame in frames for part in frame),
            4 * learned,
        )
        farewell = FinishedMessage(round=round)
        assert frame_bytes(position, farewell) == (sum(len(part) for part in real.small(farewell, seq)), 0)


def test_all_models_that_wait_give_way_where_none_is_of_use_without_the_one_before():
    wires = Wires(latency_ms=0, bandwidth_mbps=8)
    numbers = [wires.send(0, 1, 10**6, at_s=0.1 * index) for index in range(2)]
    wires.at(0.15, wires.network.make_room, 0, 1)
    numbers += [wires.send(0, 1, 10**6, at_s=0.2)]
    wires.at(0.25, wires.network.make_room, 0, 1)
    numbers += [wires.send(0, 1, 10**6, at_s=0.3)]
    assert sorted(wires.run()) == [numbers[0], numbers[3]]
    assert wires.network.replaced == 2
