"""Simulated links: when does a message arrive?

Without a bandwidth, a message takes its link's latency (and jitter, and retransmissions). With one, every peer has so
much up (no more than its `[net] upload_mbps_max`) and so much down, and a transfer gets the smaller of its fair shares
at both ends; a burst of models therefore
takes the time that it should. As over real connections, one model is under way from peer to peer at a time, at most
`[net] queue_models_max` wait, and then the newest replaces the oldest; small messages that need no order pass.
"""

from __future__ import annotations

import csv
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from gossip import seeding
from gossip.errors import SettingError
from gossip.net.settings import NetSettings, bytes_per_second
from gossip.protocols.base import Message
from gossip.text_files import numbered_lines
from gossip.wire.messages import type_of
from scenarios.sections import NetworkSettings, bounds
from scenarios.traces import Trace

Schedule: TypeAlias = Callable[..., None]
"""``schedule(time_s, function, *arguments)`` of the simulation."""

PACKET_BYTES = 1448
RETRANSMIT_MIN_S = 0.2
"""TCP's smallest retransmission timeout (Linux)."""
RETRANSMIT_MAX_S = 60.0
RETRANSMISSIONS_MAX = 15
"""Linux gives a connection up after so many; here the last one arrives."""
WAITING_MODELS_MAX = NetSettings().queue_models_max


class Latency:
    """One-way latencies of all pairs, without a matrix of them."""

    def __init__(self, settings: NetworkSettings, *, peers: int, seed: int) -> None:
        self._low_s, self._high_s = (value / 1000 for value in bounds(settings.latency_ms))
        self._seed = seed
        self._peers = peers
        self._known: dict[int, float] = {}
        self._cities = None if settings.cities_path is None else _read_cities(Path(settings.cities_path))
        self.constant = self._cities is None and self._low_s == self._high_s

    def between(self, a: int, b: int) -> float:
        """Return the seconds from `a` to `b`; the same both ways unless a file says otherwise."""
        if self.constant:
            return self._low_s
        if self._cities is not None:
            return float(self._cities[a % len(self._cities), b % len(self._cities)])
        key = a * self._peers + b if a < b else b * self._peers + a
        latency = self._known.get(key)
        if latency is None:
            draw = np.random.Generator(np.random.PCG64([self._seed, 0x1A7E, key])).random()
            latency = self._known[key] = self._low_s + (self._high_s - self._low_s) * float(draw)
        return latency


def _read_cities(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    names: dict[str, int] = {}
    entries: list[tuple[int, int, float]] = []
    for number, line in numbered_lines(path):
        try:
            (start, end, milliseconds), *_ = csv.reader([line])
            value = float(milliseconds)
            if not (0 <= value < 1e6 and start.strip() and end.strip()):
                raise ValueError
        except (ValueError, csv.Error):
            raise SettingError(f"{path}:{number}: {line[:80]!r}: must be 'from,to,milliseconds'") from None
        a, b = (names.setdefault(name.strip(), len(names)) for name in (start, end))
        entries.append((a, b, value / 1000))
    if not names:
        raise SettingError(f"{path}: names no cities; write lines 'from,to,milliseconds'")
    table = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(table, 0.001)
    for a, b, latency in entries:
        table[a, b] = latency
        if np.isnan(table[b, a]):
            table[b, a] = latency
    if np.isnan(table).any():
        a, b = np.argwhere(np.isnan(table))[0]
        cities = list(names)
        raise SettingError(f"{path}: no latency from '{cities[a]}' to '{cities[b]}'")
    return table


@dataclass(slots=True, eq=False)
class Transfer:
    """One message under way, with the bytes it still needs."""

    sender: int
    receiver: int
    message: Message
    remaining_bytes: float
    deliver: Callable[[float], None]
    rate: float = 0.0
    """Bytes per second."""
    updated_s: float = 0.0
    version: int = 0


@dataclass(slots=True)
class _Queue:
    """What one peer has for another: the transfer under way, and those that wait."""

    active: Transfer | None = None
    waiting: deque[Transfer] = field(default_factory=deque)


class Rates(NamedTuple):
    """Bytes per second of each peer."""

    up: Sequence[float]
    down: Sequence[float]


def rates(
    settings: NetworkSettings, peers: int, trace: Trace | None, uploads_mbps: Sequence[float | None]
) -> Rates | None:
    """Return what each peer's link has, and its own limit leaves; None where nobody has a limit."""
    up, down = [math.inf] * peers, [math.inf] * peers
    if trace is not None and trace.up is not None and trace.down is not None:
        up, down = ([bytes_per_second(mbps) for mbps in column] for column in (trace.up, trace.down))
    elif settings.bandwidth_mbps is not None:
        rate = bytes_per_second(settings.bandwidth_mbps)
        up, down = [rate] * peers, [rate] * peers
    for peer, mbps in enumerate(uploads_mbps):
        if mbps is not None:
            up[peer] = min(up[peer], bytes_per_second(mbps))
    return None if math.inf == min(up) == min(down) else Rates(up, down)


class Network:
    """Decides when messages arrive. Draws depend on the seed and the order of sends, which the seed decides too."""

    def __init__(
        self,
        settings: NetworkSettings,
        *,
        peers: int,
        seed: int,
        schedule: Schedule,
        queue_models_max: int | None = None,
        trace: Trace | None = None,
        uploads_mbps: Sequence[float | None] = (),
    ) -> None:
        self._queue_models_max = queue_models_max or WAITING_MODELS_MAX
        self.latency = Latency(settings, peers=peers, seed=seed)
        self._jitter_s = settings.jitter_ms / 1000
        self._loss = settings.loss
        self._rates = rates(settings, peers, trace, uploads_mbps)
        self._rng = seeding.generator(seed, "network")
        self._schedule = schedule
        self._last_arrival_s: dict[tuple[int, int], float] = {}
        self._queues: dict[tuple[int, int], _Queue] = {}
        # Dictionaries, because they keep the order of insertion, on which that of equal times depends.
        self._up: dict[int, dict[Transfer, None]] = {}
        self._down: dict[int, dict[Transfer, None]] = {}
        self.replaced = 0
        self.on_replaced: Callable[[int, int], None] = lambda sender, receiver: None
        """Told (sender, receiver) of each model that has given way to a newer one."""
        self.ideal = self._rates is None and self.latency.constant and not self._jitter_s and not self._loss
        """Every message takes the same time, so the simulation need not ask."""

    def send(
        self,
        sender: int,
        receiver: int,
        message: Message,
        nbytes: int,
        now_s: float,
        deliver: Callable[[float], None],
    ) -> None:
        """Call ``deliver(time_s)`` once the arrival is known: at once, or when the transfer has ended."""
        if self._rates is None:
            deliver(self._arrival(sender, receiver, now_s, nbytes))
            return
        registered = type_of(message.kind)
        if not message.carries_model and not (registered is not None and registered.in_order):
            rate = min(self._rates.up[sender], self._rates.down[receiver])
            deliver(self._arrival(sender, receiver, now_s + nbytes / rate, nbytes, ordered=False))
            return
        queue = self._queues.setdefault((sender, receiver), _Queue())
        transfer = Transfer(sender, receiver, message, nbytes / (1 - self._loss), deliver)
        if queue.active is None:
            self._begin(queue, transfer, now_s)
            return
        queue.waiting.append(transfer)
        models = [waiting for waiting in queue.waiting if waiting.message.carries_model]
        if len(models) > self._queue_models_max:
            queue.waiting.remove(models[0])
            self.replaced += 1
            self.on_replaced(sender, receiver)

    def make_room(self, sender: int, receiver: int) -> None:
        """Let all models that wait give way, where one more would make one of them do so."""
        queue = self._queues.get((sender, receiver))
        if queue is None:
            return
        models = [waiting for waiting in queue.waiting if waiting.message.carries_model]
        if len(models) < self._queue_models_max:
            return
        for each in models:
            queue.waiting.remove(each)
        self.replaced += len(models)
        self.on_replaced(sender, receiver)

    def drop(self, a: int, b: int, now_s: float) -> None:
        """Forget what is under way and what waits between two peers, whose connection is gone."""
        for pair in ((a, b), (b, a)):
            self._last_arrival_s.pop(pair, None)
            queue = self._queues.pop(pair, None)
            if queue is not None and queue.active is not None:
                self._remove(queue.active)
                self._share(queue.active, now_s)

    def _arrival(
        self, sender: int, receiver: int, sent_s: float, nbytes: int, *, ordered: bool = True
    ) -> float:
        arrival = sent_s + self.latency.between(sender, receiver)
        if self._jitter_s:
            arrival += self._jitter_s * self._rng.random()
        if self._loss:
            arrival += self._retransmission_s(sender, receiver, nbytes)
        if ordered and (self._jitter_s or self._loss):
            # TCP hands over in order: a late message holds up those behind it.
            arrival = max(arrival, self._last_arrival_s.get((sender, receiver), 0.0))
            self._last_arrival_s[sender, receiver] = arrival
        return arrival

    def _retransmission_s(self, sender: int, receiver: int, nbytes: int) -> float:
        """Return what lost packets cost: a round trip where later packets tell of the loss, else the timeout."""
        packets = max(1, -(-nbytes // PACKET_BYTES))
        round_trip_s = 2 * self.latency.between(sender, receiver)
        delay_s = round_trip_s * bool(packets > 3 and self._rng.binomial(packets - 3, self._loss))
        timeout_s = max(RETRANSMIT_MIN_S, 2 * round_trip_s)
        for _ in range(RETRANSMISSIONS_MAX):
            if self._rng.random() >= 1 - (1 - self._loss) ** min(packets, 3):
                break
            delay_s += timeout_s
            timeout_s = min(2 * timeout_s, RETRANSMIT_MAX_S)
        return delay_s

    # --- shared bandwidth ---

    def _begin(self, queue: _Queue, transfer: Transfer, now_s: float) -> None:
        queue.active = transfer
        transfer.updated_s = now_s
        self._up.setdefault(transfer.sender, {})[transfer] = None
        self._down.setdefault(transfer.receiver, {})[transfer] = None
        self._share(transfer, now_s)

    def _remove(self, transfer: Transfer) -> None:
        transfer.version += 1
        del self._up[transfer.sender][transfer]
        del self._down[transfer.receiver][transfer]

    def _share(self, changed: Transfer, now_s: float) -> None:
        """Give every transfer that shares an end with one that began or ended its new share."""
        assert self._rates is not None
        for transfer in (*self._up[changed.sender], *self._down[changed.receiver]):
            rate = min(
                self._rates.up[transfer.sender] / len(self._up[transfer.sender]),
                self._rates.down[transfer.receiver] / len(self._down[transfer.receiver]),
            )
            if rate == transfer.rate:
                continue
            transfer.remaining_bytes -= transfer.rate * (now_s - transfer.updated_s)
            transfer.rate, transfer.updated_s = rate, now_s
            transfer.version += 1
            end_s = now_s + max(0.0, transfer.remaining_bytes) / rate
            self._schedule(end_s, self._ended, transfer, transfer.version, end_s)

    def _ended(self, transfer: Transfer, version: int, now_s: float) -> None:
        if version != transfer.version:
            return
        self._remove(transfer)
        queue = self._queues[transfer.sender, transfer.receiver]
        queue.active = None
        transfer.deliver(self._arrival(transfer.sender, transfer.receiver, now_s, PACKET_BYTES * 4))
        if queue.waiting:
            self._begin(queue, queue.waiting.popleft(), now_s)
        else:
            self._share(transfer, now_s)
