"""Seeded runs of MoDeST on numbers: one number decides the network, the settings, and who is killed when.

    python -m tests.simulation.modest_swarm --seed 17       one run, told in detail
    python -m tests.simulation.modest_swarm --seeds 0-999   many

Until all faults end only safety is demanded; then everybody comes back, links heal, and all must finish.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gossip.protocols import Contribution, Message, Protocol, RoundCompleted
from gossip.protocols.modest.claims import liars_max
from gossip.protocols.modest.protocol import Modest
from gossip.protocols.modest.settings import ModestSettings
from gossip.wire.messages import type_of
from scenarios.sections import Fault, FaultSettings, NetworkSettings
from scenarios.virtual.events.faults import FaultPlan
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.peer import VirtualPeer
from scenarios.virtual.events.simulation import Simulation
from scenarios.virtual.learning.scalars import ScalarLearning
from tests.simulation.modest_liars import KINDS, Honesty, Villain
from topologies import Topology

MODEL_BYTES, SMALL_BYTES = 20_000, 120


class Numbers(ScalarLearning):
    """Models are floats; a local update is any function of (model, peer, round)."""

    def __init__(self, update: Callable[[float, int, int], float]) -> None:
        self._update = update
        self.trainings: list[tuple[int, int]] = []

    def initial(self, peer: int) -> float:
        return 1.0

    def train(self, model: float, peer: int, *, round: int) -> float:
        self.trainings.append((round, peer))
        return self._update(model, peer, round)

    def merge(self, own: float, own_weight: float, received: Sequence[Contribution], **where: Any) -> float:
        assert own_weight >= 0
        assert abs(own_weight + sum(each.weight for each in received) - 1) < 1e-9
        assert len({each.sender for each in received}) == len(received)
        return super().merge(own, own_weight, received, **where)


class ModestWorld(Simulation):
    """A simulation that checks what is always true."""

    def __init__(
        self,
        peers: int,
        settings: ModestSettings,
        *,
        rounds: int,
        network: NetworkSettings | None = None,
        training_s: Callable[[int, int], float] = lambda peer, round: 1.0,
        update: Callable[[float, int, int], float] = lambda model, peer, round: model,
        make: type[Modest] = Modest,
        seed: int = 0,
        villains: Mapping[int, str] | None = None,
        shortest_s: float = 1.0,
    ) -> None:
        self.villains = {
            index: Villain(self, f"p{index:03d}", kind) for index, kind in (villains or {}).items()
        }
        self.have_left: set[str] = set()
        self.lie_until_s = float("inf")
        self.honesty = Honesty(self, shortest_s=shortest_s)
        """Told of honest peers where there are villains."""
        self.rounds = rounds
        self.settings = settings
        self.completed: list[tuple[float, str, RoundCompleted]] = []
        self.models_sent = 0
        self._round_of: dict[tuple[int, int], int] = {}

        def make_protocol(model: float, state: Mapping[str, int | float | str]) -> Protocol:
            return make.resume(settings, rounds=rounds, model=model, state=state)

        super().__init__(
            names=[f"p{index:03d}" for index in range(peers)],
            topology=Topology("ring", peers),  # nobody asks for it
            make_protocol=make_protocol,
            learning=Numbers(update),
            make_network=lambda schedule: Network(
                network or NetworkSettings(), peers=peers, seed=seed, schedule=schedule
            ),
            training_s=training_s,
            frame_bytes=lambda peer, message: (
                (MODEL_BYTES, MODEL_BYTES - 200) if message.carries_model else (SMALL_BYTES, 0)
            ),
            measure=self,  # type: ignore[arg-type]
            seed=seed,
        )
        self._running -= len(self.villains)  # nobody waits for them

    def protocol(self, index: int) -> Modest:
        found = self.peers[index].protocol
        assert isinstance(found, Modest)
        return found

    @property
    def fastest(self) -> int:
        """The newest round that an honest peer believes in."""
        return max(self.protocol(peer.index).round for peer in self.peers if peer.index not in self.villains)

    def start(self) -> None:
        super().start()
        for villain in self.villains.values():
            self.schedule(0.1, villain.lie)

    def train(self, peer: VirtualPeer, ticket: Any, model: Any, round: int) -> None:
        if self.villains:
            self.honesty.train_began(peer.index, round + 1)
        super().train(peer, ticket, model, round)

    def crash(self, peer: VirtualPeer, *, leaving: bool = False) -> None:
        if leaving:
            self.have_left.add(peer.peer)
        super().crash(peer, leaving=leaving)

    def finished(self, peer: VirtualPeer, model: Any) -> None:
        if peer.index in self.villains:
            peer.finished = True
            return
        if self.villains and not peer.finished:
            self.honesty.finished(peer.index)
        super().finished(peer, model)

    def send_unchanged(self, sender: VirtualPeer, name: str, message: Message, connection: int) -> None:
        """Send what a villain has made up."""
        super().transmit(sender, name, message, connection)

    def transmit(self, sender: VirtualPeer, name: str, message: Message, connection: int) -> None:
        assert sender.alive
        villain = self.villains.get(sender.index)
        if villain is not None:
            left = villain.leaves(message)
            if left is None:
                return
            message = left
        assert not sender.paused
        registered = type_of(message.kind)
        assert registered is not None
        registered.plain_fields(message)  # fits the wire
        self.models_sent += message.kind in ("modest-train", "modest-aggregate")
        super().transmit(sender, name, message, connection)

    def round_completed(  # type: ignore[override]
        self, peer: VirtualPeer, event: RoundCompleted, now_s: float | None = None
    ) -> bool:
        if now_s is not None:
            return False
        key = (peer.index, peer.life)
        assert event.round > self._round_of.get(key, 0), "rounds only rise"
        assert event.round <= self.rounds
        assert 1 <= event.heard <= self.settings.sample_size
        self._round_of[key] = event.round
        self.completed.append((self.now, peer.peer, event))
        super().round_completed(peer, event)
        return False

    def first_models(self) -> dict[int, float]:
        """Return each round's average as it was first made."""
        found: dict[int, float] = {}
        for _, _, event in self.completed:
            found.setdefault(event.round, event.model)
        return found


def draw(seed: int, *, liars: bool = False) -> tuple[ModestWorld, float, float, str]:
    """Draw a run: the world with its faults, when they end, until when it must be over, and words for it.

    With `liars`, as many peers as may lie or keep silent do.
    """
    rng = np.random.default_rng([seed, 0x4D])
    peers = int(rng.integers(2, 25))
    rounds = int(rng.integers(2, 25))
    settings = ModestSettings(
        sample_size=int(rng.integers(1, 11)),
        aggregators=int(rng.integers(1, 4)),
        success_fraction=float(rng.choice([0.5, 0.8, 1.0])),
        ping_timeout_s=2.0,
        ping_again_s=0.7,
        activity_window=int(rng.choice([10, 20, 100])),
        aggregate_timeout_s=10.0,
        send_again_s=15.0,
        stall_s=30.0,
        refresh_s=float(rng.choice([5.0, 15.0])),
        sampler="permutation" if seed % 3 == 0 else "uniform",
        sample_slack=(0, 3, 10)[seed % 5 % 3],
    )
    network = NetworkSettings(
        latency_ms=(5.0, float(rng.choice([10.0, 300.0]))),
        jitter_ms=float(rng.choice([0.0, 200.0])),  # small messages pass each other then
        loss=float(rng.choice([0.0, 0.05])),
        bandwidth_mbps=None if rng.random() < 0.5 else 1.0,
    )
    villains: dict[int, str] = {}
    if liars:
        villain_rng = np.random.default_rng([seed, 0x1A])
        count = liars_max(settings.liars, peers=peers, sample_size=settings.sample_size)
        chosen = villain_rng.choice(peers, size=count, replace=False)
        villains = {int(index): str(villain_rng.choice(KINDS)) for index in chosen}
    slowest_s = float(rng.choice([0.5, 4.0]))
    speeds = rng.uniform(0.2, slowest_s, size=peers)
    world = ModestWorld(
        peers,
        settings,
        rounds=rounds,
        network=network,
        training_s=lambda peer, round: float(speeds[peer]),
        update=lambda model, peer, round: 0.9 * model + 0.1 * (peer % 2),
        seed=seed,
        villains=villains,
        shortest_s=0.0,
    )
    heal_s = float(rng.uniform(5, 100))
    faults = _draw_faults(rng, heal_s)
    FaultPlan(FaultSettings(list=tuple(faults)), world, detected_s=5.0)
    round_s = slowest_s + 10 + settings.aggregate_timeout_s + 4 * settings.ping_timeout_s
    end_s = heal_s + 4 * settings.stall_s + rounds * round_s + 60
    words = (
        f"seed {seed}: {peers} peers, {rounds} rounds, {settings.model_dump(exclude_defaults=True)}, "
        f"villains {villains}, {network.model_dump(exclude_defaults=True)}, "
        f"{[(f.do, round(f.at, 1), f.peers) for f in faults]}"
    )
    return world, heal_s, end_s, words


def _draw_faults(rng: np.random.Generator, heal_s: float) -> list[Fault]:
    """Draw faults before `heal_s`, and end them all then."""
    faults: list[Fault] = []
    for _ in range(int(rng.integers(0, 6))):
        kind = str(rng.choice(["crash", "leave", "pause", "partition"]))
        share = float(rng.choice([0.2, 0.5, 0.8]))
        faults.append(Fault(at=float(rng.uniform(0, heal_s)), do=kind, peers=share))  # type: ignore[arg-type]
    if faults and rng.random() < 0.3:
        faults.append(Fault(at=float(rng.uniform(0, heal_s)), do="join", peers=0.3))
    kinds: tuple[Any, ...] = ("heal", "resume", "restart")
    return faults + [Fault(at=heal_s + number, do=kind) for number, kind in enumerate(kinds)]


def run(seed: int, *, liars: bool = False) -> ModestWorld:
    """Run one seed; fail where anything is not as it must be."""
    world, _, end_s, words = draw(seed, liars=liars)
    try:
        world.start()
        assert not world.run(until_s=end_s, events_max=2_000_000), "too many events"
        honest = [peer for peer in world.peers if peer.index not in world.villains]
        late = [peer.peer for peer in honest if not peer.finished]
        assert not late, f"{late} have not finished at {world.now:.1f} s of {end_s:.1f}"
        for peer in honest:
            assert peer.round == world.rounds
            assert peer.checkpoint is not None
            assert 0 <= peer.checkpoint[1] <= 1
        world.honesty.check_end()
    except AssertionError as failure:
        raise AssertionError(
            f"{words}\n{failure}\nreplay: python -m tests.simulation.modest_swarm --seed {seed}{' --liars' * liars}"
        ) from failure
    return world


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="0-99")
    parser.add_argument("--liars", action="store_true")
    options = parser.parse_args()
    first, _, last = (str(options.seed) if options.seed is not None else options.seeds).partition("-")
    failed = 0
    for seed in range(int(first), int(last or first) + 1):
        try:
            world = run(seed, liars=options.liars)
        except Exception as failure:  # a summary of all is wanted
            failed += 1
            print(f"FAILED {failure!r}" if not str(failure) else f"FAILED {failure}")
        else:
            if options.seed is not None:
                print(
                    f"{draw(seed, liars=options.liars)[3]}\nended at {world.now:.1f} s after {world.processed} events"
                )
    print(f"{failed} failed")


if __name__ == "__main__":
    main()
